/**
 * The events of a room for a loop:
 *
 *     for await (const event of eventsOf(client, "campaign:c1", { types: ["world_time_changed"] })) await apply(event);
 */

/** The largest number of events that wait for the loop. */
const MOST = 1000;

/** Why a loop over a subscription ended: events were missed. Load the state again, and start another loop. */
export class Missed extends Error {
  /** @param {string} reason  `resync`, `overflow`, why the room was left, or the code of its refusal */
  constructor(reason) {
    super(`Events were missed (${reason}): load the state again`);
    this.name = "Missed";
    this.reason = reason;
  }
}

/**
 * @template {import("./events.d.ts").EventType} Type
 * @typedef {import("./protocol.js").EventOf<Type>} EventOf
 */

/**
 * Subscribe to a room, and get its events one by one. Leaving the loop unsubscribes. The loop throws `Missed` if events were
 * missed, if the room was left or refused, and if more than 1,000 events wait for the loop.
 * @template {import("./events.d.ts").EventType} [Type=import("./events.d.ts").EventType]
 * @param {import("./client.js").Client} client
 * @param {string} room
 * @param {import("./room.js").RoomOptions<Type>} [options]
 * @returns {AsyncIterableIterator<EventOf<Type>>}
 */
export function eventsOf(client, room, options = {}) {
  return new EventQueue(client, room, options);
}

/**
 * @template {import("./events.d.ts").EventType} Type
 * @implements {AsyncIterableIterator<EventOf<Type>>}
 */
class EventQueue {
  /** @type {EventOf<Type>[]} */
  #events = [];
  #subscription;
  /** @type {Error | undefined} */
  #error;
  #hasEnded = false;
  /** @type {(() => void) | undefined} Wakes the loop. */
  #wake;

  /**
   * @param {import("./client.js").Client} client
   * @param {string} room
   * @param {import("./room.js").RoomOptions<Type>} options
   */
  constructor(client, room, options) {
    this.#subscription = client.subscribe(
      room,
      {
        onEvent: (event) => this.#push(event),
        onResync: () => this.#fail("resync"),
        onLeft: ({ reason }) => reason === "lease_expired" || this.#fail(reason), // the client joins again, without a gap
        onError: ({ code }, { willRetry }) => willRetry || this.#fail(code),
      },
      options,
    );
  }

  /** @returns {Promise<IteratorResult<EventOf<Type>, undefined>>} */
  async next() {
    while (this.#events.length === 0 && !this.#hasEnded) await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
    const error = this.#error;
    this.#error = undefined;
    if (error) throw error;
    const value = this.#events.shift();
    return value === undefined ? { done: true, value } : { done: false, value };
  }

  /**
   * The loop was left.
   * @returns {Promise<IteratorResult<EventOf<Type>, undefined>>}
   */
  async return() {
    this.#events = [];
    this.#end();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @param {EventOf<Type>} event */
  #push(event) {
    if (this.#events.length >= MOST) return this.#fail("overflow");
    this.#events.push(event);
    this.#wake?.();
  }

  /** @param {string} reason */
  #fail(reason) {
    if (this.#hasEnded) return;
    this.#events = [];
    this.#error = new Missed(reason);
    this.#end();
  }

  #end() {
    this.#hasEnded = true;
    this.#subscription.unsubscribe();
    this.#wake?.();
  }
}
