/** Approvals: those that wait, with buttons for editors, and those that were decided. */

import { h, icon } from "../../../page/dom.js";
import { shortTime } from "../../../page/sentences.js";
import { note, pending as pendingOf, waitingNote } from "../../../page/views/waiting.js";

const MOST_DECIDED = 8;

/** @param {import("../room.js").Room & import("../../../page/edits.js").Shown} room @param {{id: string}} me @param {boolean} showsAll  all decided ones, too */
export function approvalList(room, me, showsAll) {
  const { pending, decided } = room.sorted;
  const shown = showsAll ? decided : decided.slice(0, MOST_DECIDED);
  return h(
    "section",
    { class: "approvals", "aria-labelledby": "approvals-title", "data-key": "approvals" },
    h(
      "div",
      { class: "section-head" },
      h("h2", { id: "approvals-title", "data-key": "approvals-title", tabindex: -1 }, "Approvals", badge(pending.length)),
      room.canEdit && h("button", { type: "button", class: "primary small", "data-action": "requestApproval" }, icon("add"), "Request"),
    ),
    pending.length === 0 && h("p", { class: "card empty", "data-key": "none" }, "Nothing waits for a decision."),
    h("ul", { class: "approval-list", "aria-label": "Waiting" }, pending.map((each) => waiting(each, room, me))),
    decided.length > 0 && h("h3", { class: "decided-title", "data-key": "decided-title" }, "Decided"),
    h("ul", { class: "approval-list", "aria-label": "Decided" }, shown.map((each) => settled(each, room, me))),
    decided.length > shown.length &&
      h("button", { type: "button", class: "plain small", "data-action": "showAll" }, `Show ${decided.length - shown.length} more`),
  );
}

/** How many wait. The text is read out when it changes. */
function badge(count) {
  return h(
    "span",
    { class: "waiting-count", role: "status" },
    count > 0 && h("span", { class: "badge", "data-key": `waiting-${count}` }, count),
    h("span", { class: "unseen" }, `${count} waiting`),
  );
}

function waiting(approval, room, me) {
  const { id, title, detail } = approval;
  const fate = room.fateOf(id);
  const decide = (status, label, picture, kind) =>
    h("button", { type: "button", class: `${kind} small`, "data-action": "decide", "data-id": id, "data-status": status, "aria-label": `${label} ${title}` }, icon(picture), label);
  const isOwn = approval.requestedBy === me.id;
  return h(
    "li",
    { class: `card approval${room.arrived.has(id) ? " arrived" : ""}`, "data-key": id, tabindex: -1, ...pendingOf(room, id) },
    h("div", { class: "approval-words" }, h("h3", {}, title), detail && h("p", { class: "description" }, detail), h("p", { class: "quiet" }, origin(approval, room, me)), waitingNote(room, id, title)),
    room.canEdit && !fate &&
      h(
        "div",
        { class: "approval-buttons" },
        decide("approved", "Approve", "check", "primary"),
        decide("rejected", "Reject", "cross", "plain"),
        (isOwn || room.isOwner) &&
          h("button", { type: "button", class: "icon-button", "data-action": "deleteApproval", "data-id": id, "aria-label": `Delete ${title}`, title: "Delete" }, icon("remove")),
      ),
  );
}

function settled(approval, room, me) {
  const { id, title, status, reason, decidedAt } = approval;
  const isUnconfirmed = !decidedAt;
  const who = isUnconfirmed ? "You" : room.nameOf(approval.decidedBy, me.id);
  const held = isUnconfirmed && room.heldOf(id);
  return h(
    "li",
    { class: `card approval settled${room.arrived.has(`${id}-${status}`) ? " arrived" : ""}`, "data-key": `${id}-settled`, tabindex: -1, ...pendingOf(room, id) },
    h("span", { class: `verdict verdict-${status}` }, icon(status === "approved" ? "check" : "cross")),
    h(
      "div",
      { class: "approval-words thing-head" },
      h("strong", {}, title),
      h("p", { class: "quiet" }, `${who} ${status} it`, decidedAt && !isUnconfirmed && ` at ${shortTime(decidedAt)}`, reason && `: ${reason}`),
      held ? note(held, "Waits to be sent", `your decision on ${title}`) : waitingNote(room, id, title),
    ),
  );
}

function origin({ agentId, requestedBy, createdAt }, room, me) {
  const agent = agentId && room.agents.get(agentId)?.name;
  const who = room.nameOf(requestedBy, me.id);
  return `${agent ? `${agent}, for ${who === "You" ? "you" : who}` : who} · ${shortTime(createdAt)}`;
}
