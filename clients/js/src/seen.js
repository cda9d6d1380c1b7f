/** Waiting for one's own change to come back: by its place in the stream, or by its event's id. */

import { isCursor } from "./cursor.js";

/** Ids of events that are remembered: an event may be faster than the answer that names it. */
const REMEMBERED = 1000;
/** Two heartbeats and more: where nothing of the change is heard here, a `position` tells that it is passed. */
export const SEEN_TIMEOUT_MS = 60_000;

/** @typedef {"timeout" | "closed" | "resync"} NotSeenCode */

/** Why `seen` gave up. The change itself may well have been made. */
export class NotSeen extends Error {
  /** @param {NotSeenCode} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = "NotSeen";
    this.code = code;
  }
}

/** @typedef {{isDone: () => boolean, resolve: () => void, reject: (error: Error) => void, isLost: (epoch: string) => boolean}} Waiter */

export class Sightings {
  #clock;
  #hasReached;
  /** @type {Set<string>} */
  #ids = new Set();
  /** @type {Set<Waiter>} */
  #waiters = new Set();

  /**
   * @param {import("./surroundings.js").Clock} clock
   * @param {(mark: string | number) => boolean} hasReached  whether everything up to there was applied
   */
  constructor(clock, hasReached) {
    this.#clock = clock;
    this.#hasReached = hasReached;
  }

  /**
   * An event was applied.
   * @param {string} id
   */
  note(id) {
    this.#ids.delete(id);
    this.#ids.add(id);
    if (this.#ids.size > REMEMBERED) this.#ids.delete(/** @type {string} */ (this.#ids.values().next().value));
  }

  /** Something was applied, or the cursor moved: let go who waited for it. */
  look() {
    for (const waiter of [...this.#waiters]) if (waiter.isDone()) waiter.resolve();
  }

  /**
   * Events were skipped for good. Who waits for what may be among them waits no longer.
   * @param {string} epoch  the one that goes on
   */
  skipped(epoch) {
    this.look();
    const error = new NotSeen("resync", "events were missed for good: load the state again");
    for (const waiter of [...this.#waiters]) if (waiter.isLost(epoch)) waiter.reject(error);
  }

  /** @param {NotSeenCode} code @param {string} message */
  fail(code, message) {
    for (const waiter of [...this.#waiters]) waiter.reject(new NotSeen(code, message));
  }

  /**
   * @param {string | number | null | undefined} mark  `<epoch>:<offset>`, an offset, or an event's id; nothing is seen at once
   * @param {number} timeoutMs
   * @returns {Promise<void>}
   */
  wait(mark, timeoutMs) {
    if (mark === undefined || mark === null || mark === "") return Promise.resolve(); // a change that told of nothing
    const isPlace = typeof mark === "number" || isCursor(mark);
    // An id may look like a cursor: "EVENTS:12" is both.
    const isDone = () => (isPlace && this.#hasReached(mark)) || (typeof mark === "string" && this.#ids.has(mark));
    if (isDone()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const finish = (/** @type {() => void} */ tell) => {
        this.#clock.clearTimeout(timer);
        this.#waiters.delete(waiter);
        tell();
      };
      /** @type {Waiter} */
      const waiter = {
        isDone,
        isLost: (epoch) => !isPlace || (typeof mark === "string" && !mark.startsWith(`${epoch}:`)),
        resolve: () => finish(resolve),
        reject: (error) => finish(() => reject(error)),
      };
      const late = () => waiter.reject(new NotSeen("timeout", `${mark} was not seen within ${timeoutMs / 1000} s`));
      const timer = this.#clock.setTimeout(late, timeoutMs);
      this.#waiters.add(waiter);
    });
  }
}
