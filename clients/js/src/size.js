/** How much fits into one message. A gateway closes a connection whose message is larger than its `maxFrameBytes`. */

/** Most room names in one message (PROTOCOL.md §4). */
export const MAX_ROOMS_IN_MESSAGE = 100;
/** The least that a gateway can be configured to take (PROTOCOL.md §4): what a client counts on before the first ack. */
export const LEAST_FRAME_BYTES = 1024;
/** What a gateway takes unless it is configured otherwise. */
export const USUAL_FRAME_BYTES = 16_384;

const encoder = new TextEncoder();

/**
 * The bytes of a value in a message.
 * @param {unknown} value
 */
export function bytesOf(value) {
  return encoder.encode(JSON.stringify(value)).length;
}

/**
 * The things, in their order, in as few lists as fit. What is too large alone gets a list of its own.
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
