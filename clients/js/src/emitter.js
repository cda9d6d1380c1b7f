/** Named events with handlers. A handler that throws harms no other and not the client. */

/** @template {Record<string, any>} Events */
export class Emitter {
  /** @type {Map<keyof Events, Set<(value: any) => void>>} */
  #handlers = new Map();

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {(value: Events[Name]) => void} handler
   * @returns {() => void} takes the handler off again
   */
  on(name, handler) {
    // A wrapper of its own for each call: the same function given twice is two handlers, each with its own off().
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
    for (const handler of [...(this.#handlers.get(name) ?? [])]) guarded(handler, value);
  }
}

/**
 * Call an application's handler. Its exception is reported as an uncaught one would be, after we are done.
 * @template {any[]} Args
 * @param {((...args: Args) => unknown) | undefined} handler
 * @param {Args} args
 */
export function guarded(handler, ...args) {
  try {
    handler?.(...args);
  } catch (error) {
    console.error("beaconfire: a handler threw", error);
  }
}
