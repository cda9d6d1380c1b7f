/**
 * How far a connection is: whether everything that was missed has come, and how long that took. After a reconnect the page sends
 * a `ping`. The gateway answers it after the missed events.
 */

import { Store } from "../client/store.js";

/**
 * @typedef {object} Progress
 * @property {boolean} isLevel  whether nothing is missing
 * @property {{events: number, ms: number} | null} last  the last resume
 */

export class Resumes {
  /** @type {Store<Progress>} */
  progress = new Store(/** @type {Progress} */ ({ isLevel: true, last: null }));
  #client;
  #events = 0;
  #offs;

  /** @param {import("../client/index.js").Client} client */
  constructor(client) {
    this.#client = client;
    this.#offs = [
      client.on("state", (status) => this.#look(status)),
      client.on("event", ({ offset }) => offset !== undefined && !this.isLevel && this.#events++),
    ];
  }

  get isLevel() {
    return this.progress.getSnapshot().isLevel;
  }

  close() {
    for (const off of this.#offs) off();
  }

  #look({ state, isReconnect }) {
    if (!isReconnect || state === "disconnected") return;
    const { last } = this.progress.getSnapshot();
    if (this.isLevel) this.#events = 0;
    this.progress.set({ isLevel: false, last });
    if (state !== "connected") return;
    const begun = performance.now();
    const onAnswer = () => this.progress.set({ isLevel: true, last: { events: this.#events, ms: performance.now() - begun } });
    this.#client.tell({ type: "ping" }, onAnswer);
  }
}

/** "resumed 12 events in 40 ms" @param {{events: number, ms: number}} last */
export const resumeWords = ({ events, ms }) => `resumed ${events} ${events === 1 ? "event" : "events"} in ${Math.max(1, Math.round(ms))} ms`;
