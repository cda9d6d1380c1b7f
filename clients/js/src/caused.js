/** Notices the events that the application's own changes caused, by the correlation id that it sent with each change. */

/** How many ids are remembered: an event may arrive before the answer to its change. */
const REMEMBERED = 1000;

export class Caused {
  /** @type {Set<string>} */
  #ids = new Set();
  /** @type {Map<string, () => void>} */
  #waiting = new Map();
  #offs;

  /** @param {import("./client.js").Client} client */
  constructor(client) {
    this.#offs = [
      client.on("event", ({ event }) => this.#note(event)),
      client.on("restored", ({ events }) => events.forEach(({ event }) => this.#note(event))),
    ];
  }

  /**
   * Whether an event of this change has arrived.
   * @param {string} id
   */
  has(id) {
    return this.#ids.has(id);
  }

  /**
   * Resolves when an event of this change arrives. Call `forget` if it is no longer wanted.
   * @param {string} id
   * @returns {Promise<void>}
   */
  when(id) {
    return this.has(id) ? Promise.resolve() : new Promise((resolve) => this.#waiting.set(id, resolve));
  }

  /** @param {string} id */
  forget(id) {
    this.#waiting.delete(id);
  }

  close() {
    for (const off of this.#offs) off();
    this.#waiting.clear();
  }

  /** @param {import("./protocol.js").EventBody} event */
  #note({ metadata }) {
    const id = metadata?.correlationId;
    if (!id) return;
    this.#ids.delete(id);
    this.#ids.add(id);
    if (this.#ids.size > REMEMBERED) this.#ids.delete(/** @type {string} */ (this.#ids.values().next().value));
    this.#waiting.get(id)?.();
    this.forget(id);
  }
}

/** An id for a change: its `Idempotency-Key` and its `X-Correlation-Id`. It works on pages without TLS, too. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Where the event of a change is in the stream, or its id: for `client.seen`.
 * @param {{headers: Headers}} response  the answer to the change
 */
export function markOf({ headers }) {
  return headers.get("X-Beaconfire-Offset") ?? headers.get("X-Beaconfire-Pending");
}
