/** A newer token in place, before the one in use runs out: no reconnect, and no error while there is time left. */

const FIRST_PAUSE_MS = 1000;
/** A token, or its answer, that takes longer than this is not waited for: the next try asks again. */
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
   * The gateway says that the token runs out.
   * @param {number} inS
   */
  start(inS) {
    this.stop();
    this.#endsAt = this.#clock.now() + inS * 1000;
    void this.#try(this.#round, FIRST_PAUSE_MS);
  }

  /** Forget it: the connection is gone, or has a new token. */
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
    // Past the end there is nothing to keep: close 4401 follows, and the client then asks for a token to connect with.
    if (this.#clock.now() + pauseMs >= this.#endsAt) return;
    this.#timer = this.#clock.setTimeout(() => void this.#try(round, pauseMs * 2), pauseMs);
  }
}
