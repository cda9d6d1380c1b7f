/** Is the gateway still there? "A client that has heard nothing for `heartbeatS` and a tenth sends `ping`" (PROTOCOL.md §5). */

/** "…and reconnects when no answer comes within 5 s." */
export const ANSWER_MS = 5000;
const PULSE_MS = 5000;
/** A timer that is later than this was not held up: the machine slept, and the connection may have died meanwhile. */
const LATE_MS = 10_000;

export class Health {
  #clock;
  #ping;
  #onDead;
  #heartbeatMs = 0;
  #isAsking = false;
  /** @type {unknown} */
  #timer = null;
  /** @type {unknown} */
  #pulse = null;

  /**
   * @param {import("./surroundings.js").Clock} clock
   * @param {() => boolean} ping  false where the socket takes nothing any more
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
    this.#beat();
  }

  stop() {
    this.#heartbeatMs = 0;
    this.#clear();
    this.#clock.clearTimeout(this.#pulse);
  }

  /** Sleep shows in nothing but the clock where the page stays visible all the time. */
  #beat() {
    const due = this.#clock.now() + PULSE_MS;
    this.#clock.clearTimeout(this.#pulse);
    this.#pulse = this.#clock.setTimeout(() => {
      this.#beat();
      if (this.#clock.now() - due > LATE_MS) this.check();
    }, PULSE_MS);
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
    // A socket that was closed while the page lay in the browser's cache: nothing will come of it.
    if (!this.#ping()) this.#onDead();
  }

  #clear() {
    this.#isAsking = false;
    this.#clock.clearTimeout(this.#timer);
  }
}
