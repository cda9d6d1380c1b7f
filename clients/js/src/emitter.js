/** Named events with handlers. A handler that throws affects neither the other handlers nor the client. */

/**
 * Gets what goes wrong. What a handler throws has the kind `handler`.
 * @typedef {(problem: import("./client.js").Problem) => void} Report
 */

/** @template {Record<string, any>} Events */
export class Emitter {
  /** @type {Map<keyof Events, Set<(value: any) => void>>} */
  #handlers = new Map();
  #report;

  /** @param {Report} report */
  constructor(report) {
    this.#report = report;
  }

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {(value: Events[Name]) => void} handler
   * @returns {() => void} removes the handler
   */
  on(name, handler) {
    // Each call gets its own wrapper, so that a function that is registered twice is two handlers.
    /** @param {Events[Name]} value */
    const entry = (value) => handler(value);
    const handlers = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, handlers.add(entry));
    return () => void handlers.delete(entry);
  }

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {Events[Name]} value
   */
  emit(name, value) {
    for (const handler of [...(this.#handlers.get(name) ?? [])]) guarded(this.#report, handler, value);
  }
}

/**
 * Call an application's handler. If it throws, the error is reported.
 * @template {any[]} Args
 * @param {Report} report
 * @param {((...args: Args) => unknown) | undefined} handler
 * @param {Args} args
 */
export function guarded(report, handler, ...args) {
  try {
    handler?.(...args);
  } catch (error) {
    report({ kind: "handler", error });
  }
}
