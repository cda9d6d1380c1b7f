/** The events of a subscription for a `for await` loop. */

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
 * @template {import("./events.d.ts").EventType} Type
 * @implements {AsyncIterableIterator<EventOf<Type>>}
 */
export class EventQueue {
  /** @type {EventOf<Type>[]} */
  #events = [];
  #onEnd;
  /** @type {Error | undefined} */
  #error;
  #hasEnded = false;
  /** @type {(() => void) | undefined} Wakes the loop. */
  #wake;

  /** @param {(queue: EventQueue<Type>) => void} onEnd */
  constructor(onEnd) {
    this.#onEnd = onEnd;
  }

  /** @param {EventOf<Type>} event */
  push(event) {
    if (this.#events.length >= MOST) return this.fail("overflow");
    this.#events.push(event);
    this.#wake?.();
  }

  /** @param {string} reason */
  fail(reason) {
    this.#events = [];
    this.#error = new Missed(reason);
    this.end();
  }

  end() {
    this.#hasEnded = true;
    this.#onEnd(this);
    this.#wake?.();
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

  /** The loop was left. @returns {Promise<IteratorResult<EventOf<Type>, undefined>>} */
  async return() {
    this.#events = [];
    this.end();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}
