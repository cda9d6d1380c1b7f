/** Checks that the gateway is still there: `ping` after 1.1 × `heartbeatS` of silence (PROTOCOL.md §5, "Heartbeat"). */

import { Timer } from "./timer.js";

/** How long to wait for the answer to a ping before reconnecting. */
export const ANSWER_MS = 5000;
const PULSE_MS = 5000;
/** If a timer is later than this, the machine has slept, and the connection may have died. */
const LATE_MS = 10_000;

export class Health {
  #clock;
  #ping;
  #onDead;
  #heartbeatMs = 0;
  #isAsking = false;
  #timer;
  #pulse;

  /**
   * @param {import("./surroundings.js").Clock} clock
   * @param {() => boolean} ping  returns false if the socket is closed
   * @param {() => void} onDead
   */
  constructor(clock, ping, onDead) {
    this.#clock = clock;
    this.#timer = new Timer(clock);
    this.#pulse = new Timer(clock);
    this.#ping = ping;
    this.#onDead = onDead;
  }

  /** @param {number} heartbeatS */
  start(heartbeatS) {
    // A tenth more, since a `position` that comes every `heartbeatS` may still be on its way.
    this.#heartbeatMs = heartbeatS * 1100;
    this.heard();
    this.#beat();
  }

  stop() {
    this.#heartbeatMs = 0;
    this.#isAsking = false;
    this.#timer.stop();
    this.#pulse.stop();
  }

  /** Detect sleep with the clock: if the page stays visible, nothing else shows it. */
  #beat() {
    const due = this.#clock.now() + PULSE_MS;
    this.#pulse.set(PULSE_MS, () => {
      this.#beat();
      if (this.#clock.now() - due > LATE_MS) this.check();
    });
  }

  /** Something arrived. Every message is a sign of life, not only the answer to a ping. */
  heard() {
    if (this.#heartbeatMs === 0) return;
    this.#isAsking = false;
    this.#timer.set(this.#heartbeatMs, () => this.check());
  }

  /** Ask now: the machine may have slept, or the network changed. */
  check() {
    if (this.#heartbeatMs === 0 || this.#isAsking) return;
    this.#isAsking = true;
    this.#timer.set(ANSWER_MS, this.#onDead);
    // The socket was closed while the page was in the browser's back/forward cache.
    if (!this.#ping()) this.#onDead();
  }
}
