/** What a page knows of a root, such as a campaign: the part that all applications have. */

const REREAD_PAUSES_MS = [0, 1000, 2000, 4000, 8000];
/** How often everything is read again at most, because something changed while it was read. */
const MAX_READINGS = 5;

export class RootState {
  /** The root itself, with the `role` of the user. Null until it was loaded. @type {any} */
  root = null;
  /** @type {Map<string, any>} */
  members = new Map();
  /** The names of all present and former members, by id: events of a former member still need the name. */
  names = new Map();

  #onChange;
  #onStale;
  /** Counts changes, so that `load` knows when its answers are out of date. */
  #changes = 0;

  /**
   * @param {(change: {key?: string, fields?: string[]}) => void} onChange  `key`: what to highlight
   * @param {() => void} onStale  something could not be read, so everything must be loaded again
   */
  constructor(onChange, onStale) {
    this.#onChange = onChange;
    this.#onStale = onStale;
  }

  get canEdit() {
    return this.root?.role === "owner" || this.root?.role === "editor";
  }

  get isOwner() {
    return this.root?.role === "owner";
  }

  /** @param {string | null | undefined} userId */
  nameOf(userId) {
    return this.names.get(userId) ?? "someone";
  }

  /**
   * Read everything. Returns fields to take over, and the cursor to continue from, or null if there is none. Throws ApiError.
   * @returns {Promise<{cursor: string | null, [field: string]: any}>}
   */
  async readAll() {
    throw new TypeError("readAll is missing");
  }

  /**
   * Load everything again. Returns the cursor to continue from, or null. Throws ApiError: 403 if the user is not a member.
   *
   * If an event or a new role changed something in the meantime, everything is read again: older answers must not overwrite it.
   */
  async load() {
    for (let reading = 1; ; reading++) {
      const changes = this.#changes;
      const { cursor, ...read } = await this.readAll();
      if (changes !== this.#changes && reading < MAX_READINGS) continue;
      Object.assign(this, read);
      this.#onChange({});
      return cursor;
    }
  }

  /** A thing that no service has yet, for display. @param {import("./outgoing.js").Unconfirmed} change */
  draft({ thing, changes, by, madeAt }) {
    return { ...changes, id: thing, revision: 0, createdAt: madeAt, createdBy: by };
  }

  /** Take over the root as a service answered it, unless a newer one is known. @param {any} root @param {string[]} [fields] */
  putRoot(root, fields = []) {
    if (this.root && root.revision < this.root.revision) return;
    // The role comes from `role.changed` on the socket, which may be ahead of this answer.
    this.root = { ...root, role: this.root?.role ?? root.role };
    this.changed({ key: "root", fields });
  }

  /** @param {string} role */
  setRole(role) {
    this.root = { ...this.root, role };
    this.changed({});
  }

  /** Members as they were read, by id. Their names are remembered. @param {any[]} members */
  known(members) {
    for (const { userId, name } of members) this.names.set(userId, name);
    return new Map(members.map((member) => [member.userId, member]));
  }

  /** Something changed: the page is drawn again. @param {{key?: string, fields?: string[]}} change */
  changed(change) {
    this.#changes++;
    this.#onChange(change);
  }

  /** Read until it works: the event does not come again, so a short outage must not leave the page stale. */
  async patiently(read) {
    for (const pause of REREAD_PAUSES_MS) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      try {
        return await read();
      } catch (error) {
        if (!error.isPassing) return undefined; // gone, no longer a member, or signed out: the socket says so too
      }
    }
    this.#onStale();
    return undefined;
  }
}

export const byId = (things) => new Map(things.map((thing) => [thing.id, thing]));
