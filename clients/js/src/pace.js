/**
 * How fast a connection may ask for rooms. A gateway closes a connection that has more than 100 messages, or 64 KiB of
 * them, unanswered, and refuses what comes faster than its limits (PROTOCOL.md §4). So the client sends only so much at a
 * time, and after a refusal waits as long as it was told; what it wants meanwhile is collected into fewer messages.
 */

import { capMs } from "./backoff.js";

/** Well below the gateway's 100 messages and 64 KiB: pings and token refreshes are messages, too. */
const MAX_UNANSWERED = 16;
const MAX_UNANSWERED_BYTES = 48 * 1024;

export class Pace {
  #clock;
  #random;
  #onGo;
  /** @type {Map<number, number>} Unanswered messages: their bytes by their ids. */
  #unanswered = new Map();
  #refusals = 0;
  /** @type {unknown} Set while nothing may be sent. */
  #holdTimer = null;

  /**
   * @param {import("./surroundings.js").Clock} clock
   * @param {() => number} random
   * @param {() => void} onGo  a pause is over
   */
  constructor(clock, random, onGo) {
    this.#clock = clock;
    this.#random = random;
    this.#onGo = onGo;
  }

  /**
   * Whether a message of so many bytes may be sent now. If not, an answer or `onGo` comes before it may.
   * @param {number} bytes
   */
  allows(bytes) {
    if (this.#holdTimer !== null) return false;
    const waiting = [...this.#unanswered.values()].reduce((sum, each) => sum + each, 0);
    return this.#unanswered.size === 0 || (this.#unanswered.size < MAX_UNANSWERED && waiting + bytes <= MAX_UNANSWERED_BYTES);
  }

  /** @param {number} id @param {number} bytes */
  sent(id, bytes) {
    this.#unanswered.set(id, bytes);
  }

  /**
   * @param {number} id
   * @param {import("./protocol.js").Refusal} [refusal]  the message was refused as a whole, and is worth repeating
   */
  answered(id, refusal) {
    this.#unanswered.delete(id);
    if (refusal === undefined) this.#refusals = 0;
    else this.#hold(refusal.retryAfterMs ?? 0);
  }

  /** The connection is gone, and with it all that was unanswered. */
  reset() {
    this.#unanswered.clear();
    this.#refusals = 0;
    this.#clock.clearTimeout(this.#holdTimer);
    this.#holdTimer = null;
  }

  /** @param {number} leastMs */
  #hold(leastMs) {
    if (this.#holdTimer !== null) return; // what was on its way when the first was refused is refused with it
    const pause = leastMs + this.#random() * capMs(this.#refusals);
    this.#refusals += 1;
    this.#holdTimer = this.#clock.setTimeout(() => {
      this.#holdTimer = null;
      this.#onGo();
    }, pause);
  }
}
