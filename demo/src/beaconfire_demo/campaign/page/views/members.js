/** The members of the campaign. Every member sees them, and owners change them. */

import { h, icon } from "../dom.js";
import { ROLES } from "../sentences.js";

/** @param {import("../world.js").World} world @param {{id: string}} me */
export function memberPanel(world, me) {
  const members = [...world.members.values()];
  return h(
    "section",
    { class: "card panel", "aria-labelledby": "members-title", "data-key": "members" },
    h("div", { class: "section-head" }, h("h2", { id: "members-title" }, "Members"), h("span", { class: "quiet" }, members.length)),
    h("ul", { class: "members" }, members.map((member) => memberRow(member, world, me))),
    world.isOwner && addForm(),
  );
}

function memberRow({ userId, name, email, role }, world, me) {
  const isMe = userId === me.id;
  return h(
    "li",
    { class: "member", "data-key": userId },
    h("span", { class: "avatar", "aria-hidden": "true" }, name.slice(0, 1)),
    h("span", { class: "member-words" }, h("strong", {}, isMe ? `${name} (you)` : name), h("span", { class: "quiet" }, email)),
    world.isOwner ? roleChoice(userId, name, role) : h("span", { class: `role role-${role}` }, role),
    world.isOwner && !isMe && removeButton(userId, name),
  );
}

function roleChoice(userId, name, role) {
  const option = (one) => h("option", { value: one, selected: one === role }, one);
  return h("select", { "data-change": "changeRole", "data-user": userId, "aria-label": `Role of ${name}` }, ROLES.map(option));
}

function removeButton(userId, name) {
  return h(
    "button",
    { type: "button", class: "icon-button", "data-action": "removeMember", "data-user": userId, "aria-label": `Remove ${name}`, title: "Remove" },
    icon("remove"),
  );
}

function addForm() {
  return h(
    "form",
    { class: "add-member", "data-submit": "addMember" },
    h("input", { name: "email", type: "email", required: true, placeholder: "E-mail of a user", "aria-label": "E-mail of a user", autocomplete: "off" }),
    h("select", { name: "role", "aria-label": "Role" }, ["viewer", "editor", "owner"].map((role) => h("option", { value: role }, role))),
    h("button", { class: "small" }, "Add"),
  );
}
