/**
 * A value that changes, for libraries that read it and listen to it, such as React's `useSyncExternalStore`:
 *
 *     useSyncExternalStore(store.subscribe, store.getSnapshot);
 */

import { guarded } from "./emitter.js";

/** @template Value */
export class Store {
  /** @type {Value} */
  #value;
  /** @type {Set<() => void>} */
  #listeners = new Set();

  #report;

  /** @param {Value} value @param {import("./emitter.js").Report} [report]  gets what a listener throws; else the console does */
  constructor(value, report = ({ error }) => console.error(error)) {
    this.#value = value;
    this.#report = report;
  }

  /**
   * Call a listener after each change. It works without the store as `this`.
   * @param {() => void} listener
   * @returns {() => void} removes the listener
   */
  subscribe = (listener) => {
    // Each call gets its own wrapper, so that a function that is registered twice is two listeners.
    const entry = () => listener();
    this.#listeners.add(entry);
    return () => void this.#listeners.delete(entry);
  };

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
    for (const listener of [...this.#listeners]) guarded(this.#report, listener);
  }
}
