/** PROTOCOL.md as data and pure functions: names, close codes, rooms, frames. */

import { VERDICTS } from "./verdicts.js";

export const SUBPROTOCOL = "beaconfire.v1";
/** The same, with the events of one moment in one message. */
export const BATCHING_SUBPROTOCOL = "beaconfire.v1.batch";

/** The codes that mean a broken client, which must not try again (PROTOCOL.md §6). */
const BROKEN_CLIENT = [1002, 1003, 1007, 1009];

/** @typedef {"no" | "token" | "backoff"} Retry  what to do next (PROTOCOL.md §6) */
/** @typedef {import("./messages.d.ts").Refusal} Refusal */
/** @typedef {import("./messages.d.ts").RoomAnswer} RoomAnswer */
/** @typedef {import("./events.d.ts").EventMetadata} EventMetadata */
/** @typedef {import("./events.d.ts").EventType} EventType */
/** @typedef {{id: string, type: string, version: number, payload: any, metadata: EventMetadata}} EventBody */
/**
 * The events that a handler gets: with named types, each with its own payload; with all types, any payload.
 * @template {EventType} Type
 * @typedef {EventType extends Type ? EventBody : import("./events.d.ts").Events[Type]} EventOf
 */
/** @typedef {{type: "event", offset?: number, cursor?: string, rooms: string[], event: EventBody}} EventFrame */
/** @typedef {{type: string, [field: string]: any}} Frame */

const ROOM = /^[\w-]{1,64}:[\w-]{1,64}(\/[\w-]{1,64}:[\w-]{1,64})?$/;

/**
 * What to do after a close. After an unknown code, try again.
 * @param {number} closeCode
 * @returns {Retry}
 */
export function retryOf(closeCode) {
  if (BROKEN_CLIENT.includes(closeCode)) return "no";
  return VERDICTS[errorOf(closeCode) ?? ""]?.[0] ?? "backoff";
}

/**
 * What to do after a refusal in a reply or an `error` frame.
 * @param {string} code
 * @returns {Retry}
 */
export function retryOfError(code) {
  return VERDICTS[code]?.[0] ?? "no";
}

/**
 * A close as an error that the application can show.
 * @param {number} closeCode
 * @param {string} reason  the reason in the gateway's close frame; may be empty
 * @returns {{code: string, message: string}}
 */
export function describeClose(closeCode, reason) {
  return { code: errorOf(closeCode) ?? `closed_${closeCode}`, message: reason || `Closed with ${closeCode}` };
}

/**
 * The last pair of a room: `settlement:s1` of `campaign:c1/settlement:s1`.
 * @param {string} room
 */
export function pairOf(room) {
  return room.slice(room.lastIndexOf("/") + 1);
}

/**
 * Return the room unchanged. Throws if the gateway would refuse the name, so that the mistake has a stack trace.
 * @param {string} room
 */
export function checkedRoom(room) {
  if (!ROOM.test(room)) throw new TypeError(`Not a room: ${JSON.stringify(room)?.slice(0, 100)}`);
  return room;
}

/**
 * A frame, or null if the text is not a JSON object with a `type`. Unknown types pass here, and are ignored later.
 * @param {unknown} text
 * @returns {Frame | null}
 */
export function readFrame(text) {
  try {
    const frame = JSON.parse(/** @type {string} */ (text)); // a Blob or a buffer is no JSON, either
    return typeof frame?.type === "string" ? frame : null;
  } catch {
    return null;
  }
}

/**
 * The frames in a frame: the events of a batch, or the frame itself.
 * @param {Frame} frame
 * @returns {Frame[]}
 */
export function framesIn(frame) {
  return frame.type === "events" && Array.isArray(frame.events) ? frame.events : [frame];
}

/**
 * Whether a close code means that a message was larger than the gateway accepts.
 * @param {number} closeCode
 */
export function isTooLarge(closeCode) {
  return closeCode === VERDICTS["too_large"]?.[1] || closeCode === 1009;
}

/**
 * The error that closes a connection with this code.
 * @param {number} closeCode
 */
function errorOf(closeCode) {
  return Object.keys(VERDICTS).find((name) => VERDICTS[name]?.[1] === closeCode);
}
