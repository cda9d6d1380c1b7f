/** The user's notifications, newest first. The marks are shared by all windows and devices of the user. */

import { h } from "../../../page/dom.js";
import { shortTime } from "../../../page/sentences.js";

/** @param {import("../room.js").Room} room */
export function notificationPanel(room) {
  const all = [...room.notifications.values()].sort((one, other) => String(other.createdAt).localeCompare(String(one.createdAt)));
  return h(
    "section",
    { class: "card panel notifications", id: "notifications", "aria-labelledby": "notifications-title", "data-key": "notifications" },
    h(
      "div",
      { class: "section-head" },
      h("h2", { id: "notifications-title" }, "Notifications"),
      room.unread.length > 0 && h("button", { type: "button", class: "plain small", "data-action": "markAllRead" }, "Mark all as read"),
    ),
    all.length === 0 && h("p", { class: "quiet" }, "Nothing yet. You hear of requests that you can decide, and of decisions about yours."),
    h("div", { class: "notes", role: "log", tabindex: 0, "aria-labelledby": "notifications-title" }, h("ul", {}, all.map((one) => row(one, room)))),
  );
}

function row({ id, title, body, createdAt, readAt, workspaceId, link }, room) {
  const isHere = workspaceId === room.id && room.approvals.has(link);
  return h(
    "li",
    { "data-key": `note-${id}`, class: `note${readAt ? "" : " note-new"}${room.arrived.has(id) ? " arrived" : ""}` },
    h("span", { class: "note-words" }, h("strong", {}, title), body && h("span", { class: "quiet" }, body), h("time", { class: "quiet", datetime: createdAt }, shortTime(createdAt))),
    h(
      "span",
      { class: "note-buttons" },
      isHere && h("button", { type: "button", class: "plain small", "data-action": "showApproval", "data-id": link, "data-note": id }, "Show"),
      workspaceId !== room.id && h("a", { class: "button small", href: `#/workspace/${workspaceId}` }, "Open"),
      !readAt && h("button", { type: "button", class: "plain small", "data-action": "markRead", "data-id": id, "aria-label": `Mark as read: ${title}` }, "Mark as read"),
    ),
  );
}
