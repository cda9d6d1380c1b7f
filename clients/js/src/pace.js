/**
 * How fast a connection may ask for rooms. A gateway closes a connection with more than 100 unanswered messages, or 64 KiB of
 * them. It refuses messages that come faster than its limits (PROTOCOL.md §4). So the client has only a few unanswered messages
 * at a time. After a refusal it waits as long as the gateway says, and collects its requests into fewer messages.
 */

import { capMs } from "./backoff.js";
import { Timer } from "./timer.js";

/** Well below the gateway's 100 messages and 64 KiB: pings and token refreshes are messages, too. */
const MAX_UNANSWERED = 16;
const MAX_UNANSWERED_BYTES = 48 * 1024;

export class Pace {
  #random;
  #onGo;
  /** @type {Map<number, number>} The bytes of each unanswered message, by id. */
  #unanswered = new Map();
  #refusals = 0;
  /** Set during a pause. */
  #hold;

  /**
   * @param {import("./surroundings.js").Clock} clock
   * @param {() => number} random
   * @param {() => void} onGo  called after a pause
   */
  constructor(clock, random, onGo) {
    this.#hold = new Timer(clock);
    this.#random = random;
    this.#onGo = onGo;
  }

  /**
   * Whether a message of this size may be sent now. If not, try again after the next answer or `onGo`.
   * @param {number} bytes
   */
  allows(bytes) {
    if (this.#hold.isSet) return false;
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
    else this.#pause(refusal.retryAfterMs ?? 0);
  }

  /** The connection is gone: forget the unanswered messages. */
  reset() {
    this.#unanswered.clear();
    this.#refusals = 0;
    this.#hold.stop();
  }

  /** @param {number} leastMs */
  #pause(leastMs) {
    if (this.#hold.isSet) return; // messages that were already on their way are refused too
    this.#hold.set(leastMs + this.#random() * capMs(this.#refusals), this.#onGo);
    this.#refusals += 1;
  }
}
