/** A cursor that outlives the page: read once, written as often as it moves. A storage that fails is done without. */

const PREFIX = "beaconfire-cursor";

/** @typedef {Pick<Storage, "getItem" | "setItem">} CursorStorage */

export class KeptCursor {
  /** @type {CursorStorage | null} */
  #storage = null;
  #key = "";
  #written = "";

  /**
   * @param {"session" | "local" | CursorStorage | undefined} storage  undefined keeps nothing
   * @param {string} url @param {string | undefined} user  one person's cursor is nobody else's
   */
  constructor(storage, url, user) {
    if (storage === undefined) return;
    if (!user) throw new TypeError("`storage` needs `user`, the id of the user whose cursor is kept");
    this.#key = `${PREFIX} ${url} ${user}`;
    this.#guarded(() => (this.#storage = typeof storage === "string" ? globalThis[`${storage}Storage`] : storage));
  }

  /** What was kept, undefined where nothing was. */
  read() {
    return this.#guarded(() => this.#storage?.getItem(this.#key)) ?? undefined;
  }

  /** @param {string | undefined} cursor */
  write(cursor) {
    if (this.#storage === null || cursor === undefined || cursor === this.#written) return;
    this.#written = cursor;
    this.#guarded(() => this.#storage?.setItem(this.#key, cursor));
  }

  /** Somebody else is connected than was said: nothing of theirs is kept here. */
  stop() {
    this.#storage = null;
  }

  /**
   * Disabled by the user, in a sandbox, full: from then on nothing is kept. What was kept before would be too old a
   * cursor, which costs events that come twice over a reload, and is never one that skips any.
   * @template Value
   * @param {() => Value} use
   */
  #guarded(use) {
    try {
      return use();
    } catch {
      this.#storage = null;
      return undefined;
    }
  }
}
