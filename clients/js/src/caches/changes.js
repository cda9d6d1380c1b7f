/** What an event says about cached data. */

/** @typedef {import("../events.d.ts").AnyEvent} AnyEvent */

/**
 * @typedef {object} Root
 * @property {string} kind  `campaign`
 * @property {string} id
 */

/**
 * A thing was created, changed or deleted.
 * @typedef {object} ThingChange
 * @property {"thing"} kind
 * @property {Root} root
 * @property {string} type  `settlement`
 * @property {string} id
 * @property {"create" | "update" | "delete"} operation
 * @property {readonly string[]} fields  the changed ones, if the event names them
 * @property {readonly {type: string, id: string}[]} parents  whose lists contain it, besides the root's
 */

/**
 * Computed values are out of date: those of one thing or, without `thing`, of the whole root.
 * @typedef {object} ComputedChange
 * @property {"computed"} kind
 * @property {Root} root
 * @property {{type: string, id: string}} [thing]
 * @property {readonly string[]} fields
 */

/**
 * The clock of a root was advanced.
 * @typedef {object} TimeChange
 * @property {"time"} kind
 * @property {Root} root
 * @property {string} time  the new time, in ISO 8601
 */

/** @typedef {ThingChange | ComputedChange | TimeChange} Change */

/** @type {Record<string, ThingChange["operation"]>} The last word of a type of event, as in `approval.created`. */
const OPERATIONS = { created: "create", updated: "update", archived: "update", deleted: "delete" };
/** Events that are about a thing of another kind than their type says. */
const OTHER_KINDS = ["issue.activity"];

/**
 * Return what an event of the built-in catalogue says about cached data. For other events, pass a function of your own.
 * @param {AnyEvent} event
 * @returns {Change[]}
 */
export function changesOf(event) {
  switch (event.type) {
    case "settlement_updated": {
      const { campaignId, settlementId, operation, changedFields } = event.payload;
      return [thing(campaign(campaignId), "settlement", settlementId, operation, changedFields)];
    }
    case "structure_updated": {
      const { campaignId, settlementId, structureId, operation, changedFields } = event.payload;
      const parents = [{ type: "settlement", id: settlementId }];
      return [thing(campaign(campaignId), "structure", structureId, operation, changedFields, parents)];
    }
    case "entity_updated": {
      const { campaignId, entityType, entityId, operation = "update", changedFields } = event.payload;
      return [thing(campaign(campaignId), entityType, entityId, operation, changedFields)];
    }
    case "state_invalidated": {
      const { campaignId, scope, entityType, entityId, affectedFields } = event.payload;
      const isOne = scope === "entity" && entityType != null && entityId != null;
      const one = isOne ? { thing: { type: entityType, id: entityId } } : {};
      return [{ kind: "computed", root: campaign(campaignId), ...one, fields: affectedFields }];
    }
    case "world_time_changed":
      return [{ kind: "time", root: campaign(event.payload.campaignId), time: event.payload.newTime }];
    default:
      return ofWorkspace(event.type, /** @type {Record<string, any>} */ (event.payload));
  }
}

/**
 * @param {string} type @param {Record<string, any>} payload
 * @returns {Change[]}
 */
function ofWorkspace(type, payload) {
  const [kind, operation] = splitLast(type);
  const { workspaceId, id } = payload;
  if (workspaceId == null || id == null || !(operation in OPERATIONS) || OTHER_KINDS.includes(kind)) return [];
  const parents = payload["issueId"] != null ? [{ type: "issue", id: String(payload["issueId"]) }] : [];
  const fields = Object.keys(payload["changes"] ?? {});
  const root = { kind: "workspace", id: String(workspaceId) };
  return [thing(root, kind, String(id), /** @type {ThingChange["operation"]} */ (OPERATIONS[operation]), fields, parents)];
}

/** @param {string} type  `approval.created` → `["approval", "created"]` */
function splitLast(type) {
  const at = type.lastIndexOf(".");
  return /** @type {const} */ ([type.slice(0, at), type.slice(at + 1)]);
}

/** @param {string} id @returns {Root} */
const campaign = (id) => ({ kind: "campaign", id });

/**
 * @param {Root} root @param {string} type @param {string} id @param {ThingChange["operation"]} operation
 * @param {readonly string[]} fields @param {ThingChange["parents"]} [parents]
 * @returns {ThingChange}
 */
function thing(root, type, id, operation, fields, parents = []) {
  return { kind: "thing", root, type, id, operation, fields, parents };
}

/**
 * Put one change after another of the same thing.
 * @param {Change} before @param {Change} after
 * @returns {Change}
 */
export function merged(before, after) {
  if (before.kind === "thing" && after.kind === "thing") {
    const fields = [...new Set([...before.fields, ...after.fields])];
    const namesAll = before.fields.length > 0 && after.fields.length > 0;
    return { ...after, operation: operationOf(before.operation, after.operation), fields: namesAll ? fields : [] };
  }
  if (before.kind === "computed" && after.kind === "computed") {
    return { ...after, fields: [...new Set([...before.fields, ...after.fields])] };
  }
  return after;
}

/** @param {ThingChange["operation"]} before @param {ThingChange["operation"]} after */
function operationOf(before, after) {
  return after === "update" && before === "create" ? before : after;
}

/**
 * The key under which changes of the same thing are merged.
 * @param {Change} change
 */
export function keyOf(change) {
  const { kind, root } = change;
  const rest = kind === "thing" ? [change.type, change.id] : kind === "computed" ? [change.thing?.type, change.thing?.id] : [];
  return [kind, root.kind, root.id, ...rest].join(" ");
}

/**
 * The usual name of a list: `settlement` → `settlements`, `entity` → `entities`.
 * @param {string} type
 */
export function plural(type) {
  if (/[^aeiou]y$/.test(type)) return `${type.slice(0, -1)}ies`;
  return /(s|x|ch|sh)$/.test(type) ? `${type}es` : `${type}s`;
}

/**
 * The roots of rooms: `campaign:c1/settlement:s1` → campaign c1. A short name such as `settlement:s1` does not say its root.
 * @param {readonly string[]} rooms
 * @returns {Root[]}
 */
export function rootsOf(rooms) {
  const pairs = new Set(rooms.map((room) => /** @type {string} */ (room.split("/")[0])));
  return [...pairs].map((pair) => ({ kind: pair.slice(0, pair.indexOf(":")), id: pair.slice(pair.indexOf(":") + 1) }));
}
