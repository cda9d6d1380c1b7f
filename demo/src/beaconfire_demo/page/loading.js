/**
 * Loads what a screen shows, until it works. After a temporary failure it tries again with growing pauses, and at once when the
 * connection or the network is back, or the page becomes visible.
 */

const PAUSES_MS = [1000, 2000, 4000, 8000, 15_000];
/** Failures that trying again does not help: not a member, no such thing. A refused token may be accepted a moment later. */
const FINAL = new Set([403, 404]);

export class Loading {
  #load;
  #onFailure;
  #isRunning = false;
  #isWantedAgain = false;
  #isClosed = false;
  #failures = 0;
  #timer;
  #stop = new AbortController();
  #offs;

  /**
   * @param {object} options
   * @param {import("../client/index.js").Client} options.client
   * @param {() => Promise<unknown>} options.load
   * @param {(error: any, willRetry: boolean) => void} options.onFailure
   * @param {boolean} [options.isAlwaysRepeated]  load whenever the connection is back or the page becomes visible, not only after a failure
   */
  constructor({ client, load, onFailure, isAlwaysRepeated = false }) {
    this.#load = load;
    this.#onFailure = onFailure;
    const again = () => (isAlwaysRepeated || this.#failures > 0) && this.run();
    const { signal } = this.#stop;
    window.addEventListener("focus", again, { signal });
    window.addEventListener("online", again, { signal });
    window.addEventListener("pageshow", ({ persisted }) => persisted && again(), { signal });
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && again(), { signal });
    let isGreen = client.state === "connected" && !client.isDegraded;
    const look = () => {
      const wasGreen = isGreen;
      isGreen = client.state === "connected" && !client.isDegraded;
      if (isGreen && !wasGreen) again();
    };
    this.#offs = ["state", "degraded", "live"].map((name) => client.on(name, look));
  }

  /** Load now. If a load is under way, another one follows: the current one may read an older state. */
  async run() {
    if (this.#isClosed) return;
    clearTimeout(this.#timer);
    if (this.#isRunning) return void (this.#isWantedAgain = true);
    this.#isRunning = true;
    do {
      this.#isWantedAgain = false;
      await this.#once();
    } while (this.#isWantedAgain && !this.#isClosed);
    this.#isRunning = false;
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#stop.abort();
    for (const off of this.#offs) off();
  }

  async #once() {
    try {
      await this.#load();
      this.#failures = 0;
    } catch (error) {
      if (this.#isClosed) return;
      const willRetry = !FINAL.has(error.status) && error.code !== "signed_out";
      this.#failures = willRetry ? this.#failures + 1 : 0;
      if (willRetry) this.#timer = setTimeout(() => this.run(), PAUSES_MS[Math.min(this.#failures, PAUSES_MS.length) - 1]);
      this.#onFailure(error, willRetry);
    }
  }
}
