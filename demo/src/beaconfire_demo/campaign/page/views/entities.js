/** The other things of the campaign: locations, encounters, … */

import { h, icon } from "../../../page/dom.js";
import { pending, waitingNote } from "../../../page/views/waiting.js";
import { actionButtons, variableList } from "./parts.js";

/** @param {import("../world.js").World} world */
export function entityPanel(world) {
  const add = h("button", { type: "button", class: "plain small", "data-action": "addEntity" }, icon("add"), "Add");
  const entities = [...world.entities.values()];
  return h(
    "section",
    { class: "card panel", "aria-labelledby": "entities-title", "data-key": "entities" },
    h("div", { class: "section-head" }, h("h2", { id: "entities-title" }, "Places and encounters"), world.canEdit && add),
    entities.length === 0 && h("p", { class: "quiet", "data-key": "none" }, "None yet."),
    h("ul", { class: "entities" }, entities.map((entity) => entityRow(entity, world))),
  );
}

function entityRow(entity, world) {
  const { id, type, name, data } = entity;
  return h(
    "li",
    { class: "structure", "data-key": id, ...pending(world, id) },
    h("div", { class: "structure-words" }, h("strong", { "data-key": `${id}-name` }, name), h("span", { class: "kind" }, type)),
    world.mayChange(id) && actionButtons("entity", entity),
    variableList(id, data),
    waitingNote(world, id, name),
  );
}
