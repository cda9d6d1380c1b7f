/**
 * A value that changes, for libraries that read it and listen to it, such as React's `useSyncExternalStore`:
 *
 *     useSyncExternalStore(store.subscribe, store.getSnapshot);
 */

import { Emitter } from "./emitter.js";

/** @template Value */
export class Store {
  /** @type {Value} */
  #value;
  /** @type {Emitter<{change: undefined}>} */
  #emitter;

  /** @param {Value} value @param {import("./emitter.js").Report} [report]  gets what a listener throws; else the console does */
  constructor(value, report = ({ error }) => console.error(error)) {
    this.#value = value;
    this.#emitter = new Emitter(report);
  }

  /**
   * Call a listener after each change. It works without the store as `this`.
   * @param {() => void} listener
   * @returns {() => void} removes the listener
   */
  subscribe = (listener) => this.#emitter.on("change", listener);

  /**
   * The current value. The same object until the next change. It works without the store as `this`.
   * @returns {Value}
   */
  getSnapshot = () => this.#value;

  /**
   * Only for the owner of the store. Does nothing if the value is the same.
   * @param {Value} value
   */
  set(value) {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    this.#emitter.emit("change", undefined);
  }
}
