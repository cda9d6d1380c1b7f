/** A type guard for events. */

/** @typedef {import("./events.d.ts").EventType} EventType */
/** @typedef {import("./events.d.ts").Events} Events */

/**
 * Whether a value is an event and, if types are named, of one of them. TypeScript then knows its payload.
 * @template {EventType} [Type=EventType]
 * @param {unknown} value
 * @param {Type[]} types
 * @returns {value is Events[Type]}
 */
export function isEvent(value, ...types) {
  if (typeof value !== "object" || value === null) return false;
  const { id, type, version, payload, metadata } = /** @type {Record<string, any>} */ (value);
  const isShaped = typeof id === "string" && typeof type === "string" && Number.isInteger(version);
  return isShaped && isObject(payload) && isObject(metadata) && (types.length === 0 || types.includes(/** @type {Type} */ (type)));
}

/** @param {unknown} value */
const isObject = (value) => typeof value === "object" && value !== null;
