/** Waiting until a change of one's own has come back, by its offset in the stream or by its event's id. */

import { isCursor } from "./cursor.js";

/** How many event ids are remembered: an event may arrive before the answer that names it. */
const REMEMBERED = 1000;
/** More than two heartbeats: if no subscription wants the event, a `position` shows that it has passed. */
export const SEEN_TIMEOUT_MS = 60_000;

/** @typedef {"timeout" | "closed" | "resync"} NotSeenCode */

/** Why `seen` gave up. The change itself may have been made anyway. */
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
   * @param {(mark: string | number) => boolean} hasReached  whether everything up to an offset or cursor was applied
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

  /** Something was applied, or the cursor moved: resolve the promises that waited for it. */
  look() {
    for (const waiter of [...this.#waiters]) if (waiter.isDone()) waiter.resolve();
  }

  /**
   * Events were missed for good. Reject the promises that wait for an event which may be among them.
   * @param {string} epoch  the current epoch
   */
  skipped(epoch) {
    this.look();
    const error = new NotSeen("resync", "Events were missed for good: load the state again");
    for (const waiter of [...this.#waiters]) if (waiter.isLost(epoch)) waiter.reject(error);
  }

  /** @param {NotSeenCode} code @param {string} message */
  fail(code, message) {
    for (const waiter of [...this.#waiters]) waiter.reject(new NotSeen(code, message));
  }

  /**
   * @param {string | number | null | undefined} mark  `<epoch>:<offset>`, an offset, or an event's id; without one it resolves
   *   at once
   * @param {number} timeoutMs
   * @returns {Promise<void>}
   */
  wait(mark, timeoutMs) {
    if (mark === undefined || mark === null || mark === "") return Promise.resolve(); // the change caused no event
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
