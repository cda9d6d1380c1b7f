/** Events of a workspace as news, for users who were away. */

import { STATUSES } from "./views/agents.js";

/**
 * An event as news. The room has not applied it yet. Events that are no news give undefined.
 * @param {any} event @param {import("./room.js").Room} room @returns {import("../../page/away.js").News | undefined}
 */
export function newsOf({ type, payload, metadata }, room) {
  const who = room.nameOf(metadata?.userId ?? payload.senderId);
  const { id, title } = payload;
  switch (type) {
    case "approval.created":
      return { who, thing: id, deed: "requested", what: title };
    case "approval.updated":
      return { who, thing: id, deed: payload.status, what: title };
    case "approval.deleted":
      return { who, thing: id, deed: "deleted", what: room.approvals.get(id)?.title ?? "a request" };
    case "agent.status.changed":
      return { who, thing: payload.agentId, what: payload.name, values: [statusOf(payload, room.agents.get(payload.agentId))] };
    case "chat.message":
      return { who, thing: id, deed: "wrote:", what: payload.text };
  }
}

/** @param {any} agent @param {any} before  undefined if it is new, or equal if it was loaded after the event */
function statusOf({ status, detail }, before) {
  const words = (one) => [STATUSES[one.status], one.detail].filter(Boolean).join(", ");
  const [from, to] = [before && words(before), words({ status, detail })];
  return { field: "status", to, ...(from !== undefined && from !== to && { from }) };
}
