/** Settlements with their structures, by kingdom. */

import { h, icon } from "../../../page/dom.js";
import { pending, waitingNote } from "../../../page/views/waiting.js";
import { actionButtons, levelStepper, variableList } from "./parts.js";

/** @param {import("../world.js").World & import("../../../page/edits.js").Shown} world */
export function settlementList(world) {
  const add = (kind, action, text) => h("button", { type: "button", class: `${kind} small`, "data-action": action }, icon("add"), text);
  const buttons = h("div", { class: "section-buttons" }, add("plain", "addKingdom", "Kingdom"), add("primary", "addSettlement", "Settlement"));
  return h(
    "section",
    { class: "settlements", "aria-labelledby": "settlements-title" },
    h("div", { class: "section-head" }, h("h2", { id: "settlements-title" }, "Settlements"), world.canEdit && buttons),
    world.settlements.size === 0 && world.kingdoms.size === 0 && h("p", { class: "card empty", "data-key": "none" }, "No settlement yet."),
    [...world.kingdoms.values()].map((kingdom) => kingdomSection(kingdom, world)),
    restSection(world.settlementsOf(null), world),
  );
}

function kingdomSection(kingdom, world) {
  const { id, name, description } = kingdom;
  const settlements = world.settlementsOf(id);
  const title = `${id}-title`;
  return h(
    "section",
    { class: "kingdom", "data-key": id, "aria-labelledby": title, ...pending(world, id) },
    h(
      "header",
      { class: "thing-head" },
      h("h3", { id: title, "data-key": `${id}-name` }, name),
      h("span", { class: "kind" }, "kingdom"),
      world.mayChange(id) && actionButtons("kingdom", kingdom),
    ),
    waitingNote(world, id, name),
    description && h("p", { class: "description", "data-key": `${id}-description` }, description),
    settlements.length === 0 && h("p", { class: "quiet", "data-key": "none" }, "No settlement is in this kingdom."),
    settlements.map((settlement) => settlementCard(settlement, world)),
  );
}

/** The settlements without a kingdom. They need a title only beside kingdoms. */
function restSection(settlements, world) {
  const cards = settlements.map((settlement) => settlementCard(settlement, world));
  if (world.kingdoms.size === 0 || cards.length === 0) return cards;
  const head = h("header", { class: "thing-head" }, h("h3", { id: "rest-title" }, "Without a kingdom"));
  return h("section", { class: "kingdom", "data-key": "rest", "aria-labelledby": "rest-title" }, head, cards);
}

function settlementCard(settlement, world) {
  const { id, name, kind, population, description, variables } = settlement;
  const structures = world.structuresOf(id);
  const mayChange = world.mayChange(id);
  const add = h("button", { type: "button", class: "plain small", "data-action": "addStructure", "data-id": id }, icon("add"), "Structure");
  return h(
    "article",
    { class: "card settlement", "data-key": id, "aria-label": name, ...pending(world, id) },
    h(
      "header",
      { class: "thing-head" },
      h(world.kingdoms.size > 0 ? "h4" : "h3", { "data-key": `${id}-name` }, name),
      h("span", { class: "kind", "data-key": `${id}-kind` }, kind),
      mayChange && actionButtons("settlement", settlement),
    ),
    waitingNote(world, id, name),
    h(
      "div",
      { class: "figures" },
      levelStepper("settlement", settlement, mayChange),
      h("span", { class: "figure", "data-key": `${id}-population` },
        h("span", { class: "figure-name" }, "Population"),
        h("strong", {}, population.toLocaleString()),
      ),
    ),
    description && h("p", { class: "description", "data-key": `${id}-description` }, description),
    variableList(id, variables),
    structures.length > 0 &&
      h("ul", { class: "structures", "aria-label": `Structures in ${name}` },
        structures.map((structure) => structureRow(structure, world))),
    mayChange && add,
  );
}

function structureRow(structure, world) {
  const { id, name, type, variables } = structure;
  return h(
    "li",
    { class: "structure", "data-key": id, ...pending(world, id) },
    h("div", { class: "structure-words" },
      h("strong", { "data-key": `${id}-name` }, name),
      h("span", { class: "kind", "data-key": `${id}-type` }, type)),
    levelStepper("structure", structure, world.mayChange(id)),
    world.mayChange(id) && actionButtons("structure", structure),
    variableList(id, variables),
    waitingNote(world, id, name),
  );
}
