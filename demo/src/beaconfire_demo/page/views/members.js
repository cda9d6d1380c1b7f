/** The members of a root. Every member sees them, and owners change them. */

import { openQuestion } from "../dialog.js";
import { h, icon } from "../dom.js";
import { ROLES } from "../sentences.js";
import { avatar } from "./people.js";

/** @param {{members: Map<string, any>, isOwner: boolean}} world @param {{id: string}} me */
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
    avatar(userId, name),
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

/**
 * What the panel's buttons do.
 * @param {{id: string, api: import("../api.js").ServiceApi, world: {members: Map<string, any>}, thing: string,
 *   reload: () => Promise<unknown>}} page  `thing`: what the root is, like `campaign`; `reload` reads the members again
 */
export function memberActions({ id, api, world, thing, reload }) {
  return {
    addMember: async (form) => {
      await api.addMember(id, Object.fromEntries(new FormData(form)));
      form.reset();
      await reload();
    },
    changeRole: async (select) => {
      try {
        await api.changeRole(id, select.dataset.user, select.value);
      } finally {
        await reload(); // even if it was refused: the choice must show the current role
      }
    },
    removeMember: ({ dataset }) => {
      const { name } = world.members.get(dataset.user);
      openQuestion({
        title: `Remove ${name}?`,
        text: `${name} no longer sees this ${thing}.`,
        submit: "Remove",
        onSubmit: async () => {
          await api.removeMember(id, dataset.user);
          await reload();
        },
      });
    },
  };
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
