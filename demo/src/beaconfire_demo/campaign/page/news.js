/** What an event changed: the old and new values, for the feed and for users who were away. */

import { valueAt } from "../../page/changes.js";

import { fieldWord, nameOfThing, valueWord, whoOf } from "./sentences.js";

/** The kind of thing that an event is about, and its id. @param {any} event */
export function subjectOf({ type, payload }) {
  if (type === "settlement_updated") return { kind: "settlement", thing: payload.settlementId };
  if (type === "structure_updated") return { kind: "structure", thing: payload.structureId };
  if (type === "entity_updated" && payload.entityType !== "campaign") {
    return { kind: payload.entityType === "kingdom" ? "kingdom" : "entity", thing: payload.entityId };
  }
  return { kind: "root", thing: "root" };
}

/**
 * The changed fields of an event, after the world has followed it.
 * @param {any} event @param {import("./world.js").World} world
 * @param {{isKnown: boolean}} options  `isKnown`: the world was loaded after the event, so the old values are not known
 * @returns {{values: import("../../page/away.js").Value[], isExact: boolean}}  `isExact`: the values are those of this change alone
 */
export function valuesOf(event, world, { isKnown }) {
  const { type, payload } = event;
  if (type === "world_time_changed") {
    const [from, to] = [payload.previousTime, payload.newTime].map((time) => valueWord("worldTime", time, world));
    return { values: [{ field: "world time", from, to }], isExact: true };
  }
  const { kind, thing } = subjectOf(event);
  const now = world.thing(kind, thing);
  const before = isKnown ? undefined : world.before(thing);
  if (payload.operation !== "update" || !now) return { values: [], isExact: false };
  const values = payload.changedFields.map((field) => {
    const from = before && valueWord(field, valueAt(before, field), world);
    return { field: fieldWord(field), from, to: valueWord(field, valueAt(now, field), world) };
  });
  return { values: values.filter(({ from, to }) => from !== to), isExact: before !== undefined && now.revision === before.revision + 1 };
}

const DEEDS = { create: "added", delete: "deleted" };

/**
 * An event as news. `name`: of the thing, from before the event.
 * @param {any} event @param {import("./world.js").World} world @param {import("../../page/away.js").Value[]} values
 * @param {string} name
 * @returns {import("../../page/away.js").News}
 */
export function newsOf(event, world, values, name) {
  const { type, payload } = event;
  const who = whoOf(event, world);
  if (type === "world_time_changed") return { who, thing: "world time", what: "the world time", values };
  if (type === "member_changed") {
    const member = world.names.get(payload.userId) ?? "someone";
    return { who, thing: payload.userId, deed: payload.role ? `made ${member}` : "removed", what: payload.role ?? member };
  }
  const deed = DEEDS[payload.operation];
  return { who, thing: subjectOf(event).thing, what: deed === "deleted" ? name : nameOfThing(event, world), values, ...(deed && { deed }) };
}
