/** A cursor that outlives the page. It is read once, and written whenever it moves. If the storage fails, it is not used. */

const PREFIX = "beaconfire-cursor";

/** @typedef {Pick<Storage, "getItem" | "setItem">} CursorStorage */

export class KeptCursor {
  /** @type {CursorStorage | null} */
  #storage = null;
  #key = "";
  #written = "";

  /**
   * @param {"session" | "local" | CursorStorage | undefined} storage  undefined keeps nothing
   * @param {string} url @param {string | undefined} user  the cursor belongs to this address and this user only
   */
  constructor(storage, url, user) {
    if (storage === undefined) return;
    if (!user) throw new TypeError("`storage` needs `user`, the id of the user whose cursor is kept");
    this.#key = `${PREFIX} ${url} ${user}`;
    this.#guarded(() => (this.#storage = typeof storage === "string" ? globalThis[`${storage}Storage`] : storage));
  }

  /** The stored cursor, or undefined if there is none. */
  read() {
    return this.#guarded(() => this.#storage?.getItem(this.#key)) ?? undefined;
  }

  /** @param {string | undefined} cursor */
  write(cursor) {
    if (this.#storage === null || cursor === undefined || cursor === this.#written) return;
    this.#written = cursor;
    this.#guarded(() => this.#storage?.setItem(this.#key, cursor));
  }

  /** Stop storing cursors: another user is connected than the one that was named. */
  stop() {
    this.#storage = null;
  }

  /**
   * Use the storage. If that fails (disabled, in a sandbox, full), nothing is stored from then on. A cursor that stays from
   * before is too old: events may come twice over a reload, but none is skipped.
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
