/** Waiting until a change of one's own has come back, by its offset in the stream or by its event's id. */

import { isCursor, parse } from "./cursor.js";

/** More than two heartbeats: if no subscription wants the event, a `position` shows that it has passed. */
const SEEN_TIMEOUT_MS = 60_000;

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
  #client;
  /** @type {Set<Waiter>} */
  #waiters = new Set();

  /**
   * @param {import("./surroundings.js").Clock} clock
   * @param {{hasSeen: (id: string) => boolean, servedUpTo: () => string | undefined}} client  whether an event was applied, and
   *   up to which cursor everything was
   */
  constructor(clock, client) {
    this.#clock = clock;
    this.#client = client;
  }

  /**
   * Something was applied, the cursor moved, or the status changed: resolve the promises that waited for it.
   * @param {import("./client.js").Status} [status]
   */
  look(status) {
    for (const waiter of [...this.#waiters]) if (waiter.isDone()) waiter.resolve();
    const reason = status && whyClosed(status);
    if (reason) for (const waiter of [...this.#waiters]) waiter.reject(new NotSeen("closed", reason));
  }

  /**
   * Events were missed for good. Reject the promises that wait for an event which may be among them.
   * @param {string} epoch  the current epoch
   */
  skipped(epoch) {
    this.look();
    for (const waiter of [...this.#waiters]) if (waiter.isLost(epoch)) waiter.reject(missed());
  }

  /**
   * @param {string | number | null | undefined} mark  `<epoch>:<offset>`, an offset, or an event's id; without one it resolves
   *   at once
   * @param {{timeoutMs?: number, status: import("./client.js").Status, hasMissed: boolean}} options  `hasMissed`: events were
   *   missed since the application began to wait
   * @returns {Promise<void>}
   */
  async wait(mark, { timeoutMs = SEEN_TIMEOUT_MS, status, hasMissed }) {
    if (!(timeoutMs > 0)) throw new TypeError(`timeoutMs: expected a number above 0, got ${timeoutMs}`);
    const reason = whyClosed(status);
    if (reason) throw new NotSeen("closed", reason);
    if (mark === undefined || mark === null || mark === "") return; // the change caused no event
    const isPlace = typeof mark === "number" || isCursor(mark);
    const { hasSeen } = this.#client;
    // An id may look like a cursor: "EVENTS:12" is both.
    const isDone = () => (isPlace && this.#hasReached(mark)) || (typeof mark === "string" && hasSeen(mark));
    if (isDone()) return;
    const isLost = (/** @type {string} */ epoch) => !isPlace || (typeof mark === "string" && !mark.startsWith(`${epoch}:`));
    if (hasMissed && isLost(this.#served.epoch)) throw missed();
    return new Promise((resolve, reject) => {
      const finish = (/** @type {() => void} */ tell) => {
        this.#clock.clearTimeout(timer);
        this.#waiters.delete(waiter);
        tell();
      };
      /** @type {Waiter} */
      const waiter = {
        isDone,
        isLost,
        resolve: () => finish(resolve),
        reject: (error) => finish(() => reject(error)),
      };
      const late = () => waiter.reject(new NotSeen("timeout", `${mark} was not seen within ${timeoutMs / 1000} s`));
      const timer = this.#clock.setTimeout(late, timeoutMs);
      this.#waiters.add(waiter);
    });
  }

  /** @param {string | number} place */
  #hasReached(place) {
    const served = this.#served;
    const { epoch, offset } = typeof place === "number" ? { ...served, offset: place } : parse(place);
    return epoch === served.epoch && offset <= served.offset;
  }

  /** Before the first connection nothing is served. */
  get #served() {
    return parse(this.#client.servedUpTo() ?? ":-1");
  }
}

/** @returns {NotSeen} */
const missed = () => new NotSeen("resync", "Events were missed for good: load the state again");

/** @param {import("./client.js").Status} status */
function whyClosed({ state, error }) {
  if (state === "error") return `The connection ended: ${error?.message}`;
  return state === "disconnected" ? "Not connected: call connect() first" : "";
}
