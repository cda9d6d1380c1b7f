/**
 * A cursor that outlives the page:
 *
 *     const client = connect({ url, getToken, storage: keepCursor("session", { url, user: "u1" }) });
 *
 * It is read once, and written whenever it moves. If the storage fails, it is not used.
 */

const PREFIX = "beaconfire-cursor";

/** @typedef {Pick<Storage, "getItem" | "setItem">} CursorStorage */

/**
 * @param {"session" | "local" | CursorStorage} storage
 * @param {{url: string, user: string}} owner  the cursor belongs to this address and the user with this id only
 */
export function keepCursor(storage, { url, user }) {
  if (!user) throw new TypeError("keepCursor needs `user`, the id of the user whose cursor is kept");
  return new KeptCursor(storage, url, user);
}

export class KeptCursor {
  /** @type {CursorStorage | null} */
  #storage = null;
  #key;
  #user;
  #written = "";

  /** @param {"session" | "local" | CursorStorage} storage @param {string} url @param {string} user */
  constructor(storage, url, user) {
    this.#user = user;
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

  /**
   * Stop storing cursors if another user is connected than the one that was named.
   * @param {string} user
   */
  connectedAs(user) {
    if (user !== this.#user) this.#storage = null;
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
