/** The form fields of things that can be edited. */

import { duration, seconds } from "../sentences.js";

/**
 * @param {"root" | "kingdom" | "settlement" | "structure" | "entity"} kind
 * @param {any} [thing]  the thing to edit; none for a new one
 * @param {any[]} [kingdoms]  those that a settlement may be in
 * @param {{isNew?: boolean}} [options]  `isNew`: the thing was typed before, and refused
 * @returns {import("../../../page/dialog.js").Field[]}
 */
export function fieldsOf(kind, thing, kingdoms = [], { isNew = thing === undefined } = {}) {
  const name = { name: "name", label: "Name", value: thing?.name, required: true, maxlength: 200 };
  const description = { name: "description", label: "Description", type: "textarea", value: thing?.description, maxlength: 10_000 };
  const word = (field, label, value) => ({ name: field, label, value: thing?.[field] ?? value, required: true, maxlength: 64 });
  const level = { name: "level", label: "Level", type: "number", value: thing?.level ?? 1, min: 0, max: 100, required: true };
  const variables = { name: "variables", label: "Variables", type: "variables", value: thing?.variables };
  switch (kind) {
    case "root":
    case "kingdom":
      return [name, description];
    case "settlement":
      return [name, word("kind", "Kind", "village"), ...kingdomField(thing, kingdoms), level, populationField(thing), description, variables];
    case "structure":
      return [name, word("type", "Type", "building"), level, variables];
    default:
      return [...(isNew ? [typeField(thing)] : []), name, { name: "data", label: "Data", type: "variables", value: thing?.data }];
  }
}

const PASSING_S = [60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400];
const PERIODS_S = [1, 10, 60, 600, 3600];

/** The form fields of a clock. @returns {import("../../../page/dialog.js").Field[]} */
export function clockFields(clock) {
  return [
    { name: "elapsedSeconds", label: "Let pass", type: "select", ...choice(PASSING_S, clock?.elapsedSeconds ?? 3600) },
    { name: "everyS", label: "Every", type: "select", ...choice(PERIODS_S, clock?.everyS ?? 60) },
  ];
}

/** The clock that was chosen in a form. */
export function clockOf({ elapsedSeconds, everyS }) {
  return { elapsedSeconds: seconds(elapsedSeconds), everyS: seconds(everyS) };
}

/** Some durations to choose from, and the current one. */
function choice(some, chosen) {
  const all = [...new Set([...some, chosen])].sort((one, other) => one - other);
  return { options: all.map(duration), value: duration(chosen) };
}

/** Nothing to choose while there is no kingdom. */
function kingdomField(thing, kingdoms) {
  const options = [{ value: null, label: "None" }, ...kingdoms.map(({ id, name }) => ({ value: id, label: name }))];
  const value = thing?.kingdomId ?? null;
  return kingdoms.length > 0 ? [{ name: "kingdomId", label: "Kingdom", type: "select", options, value }] : [];
}

function populationField(thing) {
  const most = 1_000_000_000;
  return { name: "population", label: "Population", type: "number", value: thing?.population ?? 0, min: 0, max: most, required: true };
}

function typeField(thing) {
  return { name: "type", label: "Type", type: "select", options: ["location", "encounter", "event", "faction"], value: thing?.type ?? "location" };
}
