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

/**
 * Something in the root was changed, and the event does not say what. Everything of the root is loaded again.
 * @typedef {object} RootChange
 * @property {"root"} kind
 * @property {Root} root
 */

/** @type {Record<string, ThingChange["operation"]>} The last word of a type of event, as in `approval.created`. */
const OPERATIONS = { created: "create", updated: "update", archived: "update", deleted: "delete" };
/**
 * Events of which the last word is no operation, or which are about a thing of another kind than their type says. `id` is the
 * field with the thing's id, and `parent` the kind of the thing whose list contains it, with the field of its id.
 * @type {Record<string, {type: string, operation: ThingChange["operation"], id: string, parent?: [string, string]} | null>}
 */
const OTHERS = {
  "agent.status.changed": { type: "agent", operation: "update", id: "agentId" },
  "ai.run.started": { type: "run", operation: "create", id: "runId", parent: ["agent", "agentId"] },
  "ai.run.progress": { type: "run", operation: "update", id: "runId" },
  "ai.run.completed": { type: "run", operation: "update", id: "runId" },
  "ai.run.failed": { type: "run", operation: "update", id: "runId" },
  "chat.message": { type: "message", operation: "create", id: "id", parent: ["chat", "chatId"] },
  "issue.activity.created": null,
  "notification.new": { type: "notification", operation: "create", id: "id" },
  "notification.read": { type: "notification", operation: "update", id: "id" },
};

/**
 * Return what an event of the built-in catalogue says about cached data. For other events, pass a function of your own.
 * @param {AnyEvent} event
 * @param {string} [room]  through which it was heard. It names the root of events that leave out what their subject says
 * @returns {(Change | RootChange)[]}
 */
export function changesOf(event, room) {
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
      return ofOtherRoots(event.type, /** @type {Record<string, any>} */ (event.payload), room);
  }
}

/**
 * Events of workspaces and users. Their payloads may leave out the ids that their subject carries.
 * @param {string} type @param {Record<string, any>} payload @param {string | undefined} room
 * @returns {(Change | RootChange)[]}
 */
function ofOtherRoots(type, payload, room) {
  const about = aboutOf(type);
  if (!about) return [];
  const kind = type.startsWith("notification.") ? "user" : "workspace";
  const named = payload[`${kind}Id`] ?? rootsOf(room ? [room] : []).find((one) => one.kind === kind)?.id;
  if (named == null) return [];
  const root = { kind, id: String(named) };
  const id = payload[about.id];
  if (id == null) return [{ kind: "root", root }];
  const [parent = "", field = ""] = about.parent ?? [];
  const parents = payload[field] != null ? [{ type: parent, id: String(payload[field]) }] : [];
  return [thing(root, about.type, String(id), about.operation, Object.keys(payload["changes"] ?? {}), parents)];
}

/** @param {string} type  `approval.created` is about an approval, which was created */
function aboutOf(type) {
  if (Object.hasOwn(OTHERS, type)) return OTHERS[type];
  const [kind, word] = splitLast(type);
  const operation = Object.hasOwn(OPERATIONS, word) ? OPERATIONS[word] : undefined;
  return operation && { type: kind, operation, id: "id", parent: /** @type {[string, string]} */ (["issue", "issueId"]) };
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
