/** What PROTOCOL.md says, as data and pure functions: names, close codes, rooms, frames. */

import { ERRORS } from "./errors.js";

export const SUBPROTOCOL = "beaconfire.v1";

/** "1002, 1003 and 1007 mean a broken client: no" (PROTOCOL.md §6). */
const BROKEN_CLIENT = new Set([1002, 1003, 1007, 1009]);

/** @typedef {"no" | "token" | "backoff"} Retry  what to do next (PROTOCOL.md §6) */
/** @typedef {{code: string, message: string, retryAfterMs?: number}} Refusal  an error as it stands in a frame */
/** @typedef {{success: boolean, room?: string, error?: Refusal}} RoomAnswer */
/** @typedef {import("./events.d.ts").EventMetadata} EventMetadata */
/** @typedef {import("./events.d.ts").EventType} EventType */
/** @typedef {{id: string, type: string, version: number, payload: any, metadata: EventMetadata}} EventBody */
/**
 * What a handler is given: of the types it asked for, each with its own payload; of all types, any.
 * @template {EventType} Type
 * @typedef {EventType extends Type ? EventBody : import("./events.d.ts").Events[Type]} EventOf
 */
/** @typedef {{type: "event", offset?: number, rooms: string[], event: EventBody}} EventFrame */
/** @typedef {{type: string, [field: string]: any}} Frame */

const ROOM = /^[A-Za-z0-9_-]{1,64}:[A-Za-z0-9_-]{1,64}(\/[A-Za-z0-9_-]{1,64}:[A-Za-z0-9_-]{1,64})?$/;

/**
 * What to do after a close. Unknown codes are worth another try.
 * @param {number} closeCode
 * @returns {Retry}
 */
export function retryOf(closeCode) {
  if (BROKEN_CLIENT.has(closeCode)) return "no";
  return rowOf(closeCode)?.retry ?? "backoff";
}

/**
 * What to do after a refusal in a reply or an `error` frame.
 * @param {string} code
 * @returns {Retry}
 */
export function retryOfError(code) {
  return ERRORS[code]?.retry ?? "no";
}

/**
 * A close code in words, as an error the application can show.
 * @param {number} closeCode
 * @param {string} reason  what the gateway said, may be empty
 * @returns {{code: string, message: string}}
 */
export function describeClose(closeCode, reason) {
  const code = Object.keys(ERRORS).find((name) => ERRORS[name]?.close === closeCode);
  const meaning = code === undefined ? "The connection was closed" : ERRORS[code]?.meaning;
  return { code: code ?? `closed_${closeCode}`, message: reason || meaning || "" };
}

/**
 * The room's own pair: `settlement:s1` of `campaign:c1/settlement:s1`.
 * @param {string} room
 */
export function pairOf(room) {
  return room.slice(room.lastIndexOf("/") + 1);
}

/**
 * The room as the protocol writes it. Refuses early what the gateway would refuse, so that the mistake has a stack.
 * @param {string} room
 */
export function checkedRoom(room) {
  if (!ROOM.test(room)) throw new TypeError(`not a room: ${JSON.stringify(room)?.slice(0, 100)}`);
  return room;
}

/**
 * A frame, or null for what is no JSON object with a `type`. Types this client does not know pass: they are ignored.
 * @param {unknown} text
 * @returns {Frame | null}
 */
export function readFrame(text) {
  if (typeof text !== "string") return null;
  try {
    const frame = JSON.parse(text);
    return frame !== null && typeof frame === "object" && typeof frame.type === "string" ? frame : null;
  } catch {
    return null;
  }
}

/**
 * Whether a close code says that a message was larger than the gateway takes.
 * @param {number} closeCode
 */
export function isTooLarge(closeCode) {
  return closeCode === ERRORS["too_large"]?.close || closeCode === 1009;
}

/** @param {number} closeCode */
function rowOf(closeCode) {
  return Object.values(ERRORS).find((row) => row.close === closeCode);
}
