/** The top of a campaign: its name, the user's role, its clock. */

import { h, icon } from "../../../page/dom.js";
import { duration, pace, STEPS, worldTime } from "../sentences.js";
import { presentPeople } from "../../../page/views/people.js";
import { pending } from "../../../page/views/waiting.js";

/** @param {import("../world.js").World} world @param {{presence: any, me: {id: string}}} page */
export function headline(world, { presence, me }) {
  const { name, description, role } = world.root;
  return h(
    "div",
    { class: "root-head", ...pending(world, world.root.id) },
    h(
      "div",
      { class: "root-words" },
      h("div", { class: "root-line" }, h("a", { class: "back", href: "#/" }, icon("back"), "Campaigns"), presentPeople(presence, world, me, "Here now")),
      h("div", { class: "root-title" }, h("h1", { "data-key": "root-name" }, name), campaignButtons(world)),
      description && h("p", { class: "description", "data-key": "root-description" }, description),
      h("p", { class: "role-line" }, h("span", { class: `role role-${role}` }, role), roleNote(role)),
    ),
    clock(world),
  );
}

function roleNote(role) {
  const notes = {
    owner: "You may change everything, including the members.",
    editor: "You may change everything except the members.",
    viewer: "Read-only. You see every change immediately.",
  };
  return h("span", { class: "quiet" }, notes[role]);
}

function campaignButtons(world) {
  const button = (action, label, picture) =>
    h("button", { type: "button", class: "icon-button", "data-action": action, "aria-label": label, title: label }, icon(picture));
  return h(
    "span",
    { class: "thing-actions" },
    world.canEdit && button("editCampaign", "Edit the campaign", "edit"),
    world.isOwner && button("deleteCampaign", "Delete the campaign", "remove"),
  );
}

function clock(world) {
  const step = ([label, seconds]) =>
    h("button", { type: "button", class: "small", "data-action": "advance", "data-seconds": seconds, "aria-label": `Let ${duration(seconds)} pass` }, `+ ${label}`);
  return h(
    "section",
    { class: "clock", "aria-label": "World time" },
    h("span", { class: "figure-name" }, "World time"),
    h("strong", { class: "clock-face", "data-key": "root-worldTime" }, worldTime(world.root.worldTime)),
    world.canEdit && h("span", { class: "clock-steps" }, STEPS.map(step)),
    running(world),
  );
}

/** The running clock, with its buttons for editors. */
function running({ root, canEdit }) {
  const button = (action, label, text) =>
    h("button", { type: "button", class: "plain small", "data-action": action, "data-key": action, "aria-label": label }, text);
  if (!root.clock) {
    return canEdit && h("span", { class: "clock-running" }, button("setClock", "Start the clock", "Start the clock"));
  }
  return h(
    "span",
    { class: "clock-running" },
    h("span", { class: "clock-pace", "data-key": "root-clock" }, pace(root.clock)),
    canEdit && h("span", {}, button("setClock", "Change the clock", "Change"), button("stopClock", "Stop the clock", "Stop")),
  );
}
