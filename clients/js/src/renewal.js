/** Replaces the token before it runs out, without a reconnect. There is no error while time is left. */

const FIRST_PAUSE_MS = 1000;
/** How long to wait for a new token and for the gateway's answer, before the next try. */
const TRY_MS = 15_000;

/**
 * @typedef {object} RenewalHandlers
 * @property {() => Promise<string>} getToken
 * @property {(token: string, onAnswer: (isAccepted: boolean) => void) => void} send
 */

export class Renewal {
  #clock;
  #handlers;
  #endsAt = 0;
  #round = 0;
  /** @type {unknown} */
  #timer = null;

  /**
   * @param {import("./surroundings.js").Clock} clock
   * @param {RenewalHandlers} handlers
   */
  constructor(clock, handlers) {
    this.#clock = clock;
    this.#handlers = handlers;
  }

  /**
   * The gateway sent `token.expiring`.
   * @param {number} inS
   */
  start(inS) {
    this.stop();
    this.#endsAt = this.#clock.now() + inS * 1000;
    void this.#try(this.#round, FIRST_PAUSE_MS);
  }

  /** Stop: the connection is gone, or has a new token. */
  stop() {
    this.#round += 1;
    this.#clock.clearTimeout(this.#timer);
  }

  /** @param {number} round @param {number} pauseMs */
  async #try(round, pauseMs) {
    let isOver = false;
    /** @param {boolean} isAccepted */
    const finish = (isAccepted) => {
      if (isOver || round !== this.#round) return;
      isOver = true;
      this.#clock.clearTimeout(this.#timer);
      if (isAccepted) this.stop();
      else this.#again(round, pauseMs);
    };
    this.#timer = this.#clock.setTimeout(() => finish(false), TRY_MS);
    try {
      const token = await this.#handlers.getToken();
      if (!isOver && round === this.#round) this.#handlers.send(token, finish);
    } catch {
      finish(false);
    }
  }

  /** @param {number} round @param {number} pauseMs */
  #again(round, pauseMs) {
    // After the token's end it is too late: close 4401 follows, and the client gets a token to connect with.
    if (this.#clock.now() + pauseMs >= this.#endsAt) return;
    this.#timer = this.#clock.setTimeout(() => void this.#try(round, pauseMs * 2), pauseMs);
  }
}
