/** How long to wait before the next attempt, and when to stop trying. */

/** How many attempts in a row may fail before the client stops with an error. */
export const MAX_ATTEMPTS = 10;

const FIRST_CAP_MS = 1000;
const LAST_CAP_MS = 32_000;

/**
 * The longest pause number `pauses`, from 0: 1, 2, 4, 8, 16, 32, 32 … s.
 * @param {number} pauses
 * @param {number} [lastCapMs]  the longest of all
 */
export function capMs(pauses, lastCapMs = LAST_CAP_MS) {
  return Math.min(lastCapMs, FIRST_CAP_MS * 2 ** pauses);
}

/** Full jitter: each pause is random, between 0 and its maximum, so that the clients of a restarted gateway spread out. */
export class Backoff {
  #random;
  #lastCapMs;
  #pauses = 0;
  #failures = 0;

  /**
   * @param {() => number} random  from [0, 1)
   * @param {number} [lastCapMs]  the longest pause, at least 1000
   */
  constructor(random = Math.random, lastCapMs = LAST_CAP_MS) {
    if (!(lastCapMs >= FIRST_CAP_MS && Number.isFinite(lastCapMs))) {
      throw new TypeError(`maxPauseMs: expected a number from ${FIRST_CAP_MS}, got ${lastCapMs}`);
    }
    this.#random = random;
    this.#lastCapMs = lastCapMs;
  }

  /** The number of the next attempt, from 1. */
  get attempt() {
    return Math.min(this.#failures + 1, MAX_ATTEMPTS);
  }

  get isExhausted() {
    return this.#failures >= MAX_ATTEMPTS;
  }

  /** An attempt failed. */
  fail() {
    this.#failures += 1;
  }

  /** The next pause, in ms. */
  next() {
    const pause = this.#random() * capMs(this.#pauses, this.#lastCapMs);
    this.#pauses += 1;
    return pause;
  }

  reset() {
    this.#pauses = 0;
    this.#failures = 0;
  }
}
