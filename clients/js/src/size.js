/** How much fits into a message. A gateway closes a connection that sends a message larger than its `maxFrameBytes`. */

/** The largest number of rooms in a message (PROTOCOL.md §4). */
export const MAX_ROOMS_IN_MESSAGE = 100;
/** The smallest `maxFrameBytes` that a gateway can be configured to (PROTOCOL.md §4). It counts before the first ack. */
export const LEAST_FRAME_BYTES = 1024;
/** The default `maxFrameBytes` of a gateway. */
export const USUAL_FRAME_BYTES = 16_384;

const encoder = new TextEncoder();

/**
 * The number of bytes that a value takes in a message.
 * @param {unknown} value
 */
export function bytesOf(value) {
  return encoder.encode(JSON.stringify(value)).length;
}

/**
 * Split things into as few lists as possible, in order. A thing that is too large gets a list of its own.
 * @template Thing
 * @param {Thing[]} things @param {(thing: Thing) => number} costOf @param {number} spare  bytes for each list
 * @returns {Thing[][]}
 */
export function inLists(things, costOf, spare) {
  /** @type {Thing[][]} */
  const lists = [];
  let left = 0;
  for (const thing of things) {
    const cost = costOf(thing);
    const list = lists.at(-1);
    if (list && cost <= left && list.length < MAX_ROOMS_IN_MESSAGE) {
      list.push(thing);
      left -= cost;
    } else {
      lists.push([thing]);
      left = spare - cost;
    }
  }
  return lists;
}
