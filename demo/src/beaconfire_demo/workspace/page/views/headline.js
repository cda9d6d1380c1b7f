/** The top of a workspace: its name, who is here, and the bell. */

import { h, icon } from "../../../page/dom.js";
import { presentPeople } from "../../../page/views/people.js";

const STATUSES = { online: "Online", away: "Away", busy: "Busy" };

/**
 * @param {import("../room.js").Room} room
 * @param {{me: {id: string}, presence: any, status: string, isOpen: boolean}} page  `isOpen`: whether the notifications are shown
 */
export function headline(room, { me, presence, status, isOpen }) {
  const { name, description, role } = room.root;
  return h(
    "div",
    { class: "root-head" },
    h(
      "div",
      { class: "root-words" },
      h("a", { class: "back", href: "#/" }, icon("back"), "Workspaces"),
      h("div", { class: "root-title" }, h("h1", {}, name)),
      description && h("p", { class: "description" }, description),
      h("p", { class: "role-line" }, h("span", { class: `role role-${role}` }, role), roleNote(role)),
    ),
    h("div", { class: "here" }, presentPeople(presence, room, me, "Here now"), ownStatus(status), bell(room.unread.length, isOpen)),
  );
}

function roleNote(role) {
  const notes = {
    owner: "You may decide, and change the members.",
    editor: "You may request and decide.",
    viewer: "You see everything, and may write in the chat.",
  };
  return h("span", { class: "quiet" }, notes[role]);
}

function ownStatus(status) {
  const option = ([value, label]) => h("option", { value, selected: value === status }, label);
  return h("select", { class: "own-status", "data-change": "setStatus", "aria-label": "Your status" }, Object.entries(STATUSES).map(option));
}

function bell(count, isOpen) {
  const label = count > 0 ? `Notifications, ${count} unread` : "Notifications";
  return h(
    "button",
    { type: "button", class: "icon-button bell", "data-action": "toggleNotifications", "aria-label": label, "aria-expanded": String(isOpen), "aria-controls": "notifications" },
    icon("bell"),
    count > 0 && h("span", { class: "badge", "aria-hidden": "true", "data-key": `badge-${count}` }, count > 99 ? "99+" : count),
  );
}
