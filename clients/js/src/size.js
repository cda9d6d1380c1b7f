/** How much fits into a message. A gateway closes a connection that sends a message larger than its `maxFrameBytes`. */

/** The largest number of rooms in a message (PROTOCOL.md §4). */
export const MAX_ROOMS_IN_MESSAGE = 100;
/** The smallest `maxFrameBytes` that a gateway can be configured to (PROTOCOL.md §4). It counts before the first ack. */
export const LEAST_FRAME_BYTES = 1024;
/** The default limits of a gateway (PROTOCOL.md §4). They count where an ack announces none. */
export const USUAL_LIMITS = { maxFrameBytes: 16_384, maxRooms: 100, messagesPerMinute: 100, roomsPerMinute: 600 };

/** @typedef {typeof USUAL_LIMITS} Limits */

const encoder = new TextEncoder();

/**
 * The number of bytes that a value takes in a message.
 * @param {unknown} value
 */
export function bytesOf(value) {
  return encoder.encode(JSON.stringify(value)).length;
}
