/** Is the gateway still there? "A client that has heard nothing for `heartbeatS` and a tenth sends `ping`" (PROTOCOL.md §5). */

/** "…and reconnects when no answer comes within 5 s." */
export const ANSWER_MS = 5000;

export class Health {
  #clock;
  #ping;
  #onDead;
  #heartbeatMs = 0;
  #isAsking = false;
  /** @type {unknown} */
  #timer = null;

  /**
   * @param {import("./surroundings.js").Clock} clock
   * @param {() => void} ping
   * @param {() => void} onDead
   */
  constructor(clock, ping, onDead) {
    this.#clock = clock;
    this.#ping = ping;
    this.#onDead = onDead;
  }

  /** @param {number} heartbeatS */
  start(heartbeatS) {
    // The tenth is for a `position` that is on its way: it comes every `heartbeatS` by itself.
    this.#heartbeatMs = heartbeatS * 1100;
    this.heard();
  }

  stop() {
    this.#heartbeatMs = 0;
    this.#clear();
  }

  /** Anything that comes is a sign of life, not only the answer to a ping. */
  heard() {
    if (this.#heartbeatMs === 0) return;
    this.#clear();
    this.#timer = this.#clock.setTimeout(() => this.check(), this.#heartbeatMs);
  }

  /** Ask now: the machine may have slept, or the network changed. */
  check() {
    if (this.#heartbeatMs === 0 || this.#isAsking) return;
    this.#clear();
    this.#isAsking = true;
    this.#timer = this.#clock.setTimeout(this.#onDead, ANSWER_MS);
    this.#ping();
  }

  #clear() {
    this.#isAsking = false;
    this.#clock.clearTimeout(this.#timer);
  }
}
