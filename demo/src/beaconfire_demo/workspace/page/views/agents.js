/** The agents and what they do. An editor may report for an agent, as the agent itself does over HTTP. */

import { h, icon } from "../../../page/dom.js";
import { pending, waitingNote } from "../../../page/views/waiting.js";

export const STATUSES = { idle: "Idle", working: "Working", waiting: "Waiting", failed: "Failed", stopped: "Stopped" };

/** @param {import("../room.js").Room & import("../../../page/edits.js").Shown} room */
export function agentPanel(room) {
  const agents = [...room.agents.values()];
  return h(
    "section",
    { class: "card panel", "aria-labelledby": "agents-title", "data-key": "agents" },
    h(
      "div",
      { class: "section-head" },
      h("h2", { id: "agents-title" }, "Agents"),
      room.canEdit && h("button", { type: "button", class: "plain small", "data-action": "addAgent" }, icon("add"), "Add"),
    ),
    agents.length === 0 && h("p", { class: "quiet", "data-key": "none" }, "No agent reports here yet."),
    h("ul", { class: "agents" }, agents.map((agent) => row(agent, room))),
  );
}

function row({ id, agentId = id, name, status, detail }, room) {
  return h(
    "li",
    { class: "agent", "data-key": agentId, ...pending(room, agentId) },
    h("span", { class: `light light-${status}`, "aria-hidden": "true" }),
    h("span", { class: "agent-words", "data-key": `${agentId}-words` }, h("strong", {}, name), h("span", { class: "quiet" }, detail || STATUSES[status]), waitingNote(room, agentId, name)),
    room.mayChange(agentId) ? statusChoice(agentId, name, status) : h("span", { class: "quiet" }, STATUSES[status]),
  );
}

function statusChoice(id, name, status) {
  const option = ([value, label]) => h("option", { value, selected: value === status }, label);
  return h("select", { "data-change": "report", "data-id": id, "aria-label": `Status of ${name}` }, Object.entries(STATUSES).map(option));
}
