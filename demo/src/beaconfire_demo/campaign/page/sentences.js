/** The campaign's events, times and values as text. */

import { withArticle } from "../../page/sentences.js";

const HOUR = 3600;
const DAY = 24 * HOUR;
const WEEK = 7 * DAY;

/**
 * An event as a sentence that names the user and the change. It uses the names that the page knows when the event comes.
 * @param {any} event
 * @param {import("./world.js").World} world
 * @param {string} me  the reader's user id
 * @param {{isNewMember?: boolean}} [before]  the state before the event was applied
 */
export function sentence(event, world, me, { isNewMember = false } = {}) {
  const { type, payload } = event;
  const who = whoOf(event, world, me);
  const fields = inWords(payload.changedFields);
  switch (type) {
    case "settlement_updated":
    case "structure_updated":
    case "entity_updated":
      return deed(who, payload.operation, nameOfThing(event, world), fields);
    case "world_time_changed":
      return `${who} let ${duration(payload.elapsedSeconds)} pass`;
    case "member_changed":
      return membership(who, payload, world, me, isNewMember);
    default:
      return `${who}: ${type}`;
  }
}

/**
 * What happened to a change that was refused.
 * @param {import("../../page/outgoing.js").Unconfirmed} change @param {Error} error @param {import("./world.js").World} world
 */
export function undone({ kind, thing, method, isNew, changes }, error, world) {
  if (isNew) return `${changes.name} was not added. ${error.message}`;
  const name = world.thing(kind, thing)?.name ?? "something";
  return method === "DELETE" ? `${name} was not deleted. ${error.message}` : `Your change to ${name} was undone. ${error.message}`;
}

/** The computed values that a change makes out of date. @param {any} payload */
export function consequence({ affectedFields }) {
  return `Out of date: ${inWords(affectedFields) || "all computed values"}`;
}

/** A running clock: "2 hours pass every minute". @param {{everyS: number, elapsedSeconds: number}} clock */
export function pace({ everyS, elapsedSeconds }) {
  const time = duration(elapsedSeconds);
  return `${time} ${time.startsWith("1 ") ? "passes" : "pass"} every ${duration(everyS).replace(/^1 /, "")}`;
}

/** World time for reading. The stored time is UTC. */
export function worldTime(iso) {
  const format = { day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit" };
  return new Intl.DateTimeFormat("en-GB", { ...format, timeZone: "UTC" }).format(new Date(iso));
}

const UNITS = [["week", WEEK], ["day", DAY], ["hour", HOUR], ["minute", 60], ["second", 1]];

export function duration(seconds) {
  for (const [unit, size] of UNITS) {
    if (seconds % size === 0) return `${seconds / size} ${unit}${seconds === size ? "" : "s"}`;
  }
  return `${seconds} s`;
}

/** The reverse of `duration`: a text in seconds. @param {string} words */
export function seconds(words) {
  const [count, unit] = words.split(" ");
  return Number(count) * UNITS.find(([name]) => name === unit.replace(/s$/, ""))[1];
}

export const STEPS = [["1 hour", HOUR], ["1 day", DAY], ["1 week", WEEK]];

/** The value of a variable as text. */
export function shown(value) {
  return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}

/** Who caused an event. @param {any} event @param {import("./world.js").World} world @param {string} [me] */
export function whoOf({ metadata }, world, me) {
  return metadata?.source === "scheduler" ? "The clock" : nameOf(world, metadata?.userId, me, "Someone");
}

/** The name of what an event changed. @param {any} event @param {import("./world.js").World} world */
export function nameOfThing({ type, payload }, world) {
  if (type === "settlement_updated") return world.settlements.get(payload.settlementId)?.name ?? "a settlement";
  return type === "structure_updated" ? structureName(world, payload) : entityName(world, payload);
}

/** What people call a field. @param {string} field */
export function fieldWord(field) {
  const words = { kingdomId: "kingdom", worldTime: "world time" };
  return words[field] ?? field.replace(/^(variables|data)\./, "");
}

/** The value of a field as people read it. @param {string} field @param {any} value @param {import("./world.js").World} world */
export function valueWord(field, value, world) {
  if (value === null || value === undefined || value === "") return "none";
  if (field === "kingdomId") return world.kingdoms.get(value)?.name ?? "a deleted kingdom";
  if (field === "worldTime") return worldTime(value);
  if (field === "clock") return pace(value);
  if (field === "population") return value.toLocaleString();
  return shown(value);
}

function deed(who, operation, what, fields) {
  if (operation === "create") return `${who} added ${what}`;
  if (operation === "delete") return `${who} deleted ${what}`;
  return fields ? `${who} changed the ${fields} of ${what}` : `${who} changed ${what}`;
}

function structureName(world, { structureId, settlementId }) {
  const structure = world.structures.get(structureId)?.name ?? "a structure";
  const settlement = world.settlements.get(settlementId)?.name;
  return settlement ? `${structure} in ${settlement}` : structure;
}

function entityName(world, { entityType, entityId }) {
  if (entityType === "campaign") return "the campaign";
  if (entityType === "kingdom") return world.kingdoms.get(entityId)?.name ?? "a kingdom";
  return world.entities.get(entityId)?.name ?? `the ${entityType} ${entityId}`;
}

function membership(who, { userId, role }, world, me, isNewMember) {
  const whom = nameOf(world, userId, me, "someone").replace(/^You$/, "you");
  if (role === null) return `${who} removed ${whom} from the campaign`;
  if (isNewMember) return `${who} added ${whom} as ${withArticle(role)}`;
  return `${who} made ${whom} ${withArticle(role)}`;
}

function nameOf(world, userId, me, otherwise) {
  if (userId && userId === me) return "You";
  return world.names.get(userId) ?? otherwise;
}

/** `["kingdomId", "variables.food"]` → "kingdom and food". */
function inWords(fields = []) {
  const names = fields.map(fieldWord);
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
