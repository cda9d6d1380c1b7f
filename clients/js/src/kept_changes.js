/** Where an offline queue keeps its changes: in IndexedDB or, if that does not work, in memory. */

const DATABASE = "beaconfire-offline";
const CHANGES = "changes";
const BY_OWNER = "owner";
/** How long the browser may take to open the database. Some versions of Safari never do. */
const OPEN_TIMEOUT_MS = 3000;

/** @typedef {import("./offline.js").Change} Change */
/** @typedef {Change & {owner: string}} Row */

/**
 * @typedef {object} KeptChanges
 * @property {boolean} isLasting  whether changes outlive the page
 * @property {() => Promise<Change[]>} read  in the order in which they were added
 * @property {(change: Omit<Change, "place">) => Promise<Change>} add
 * @property {(change: Change) => Promise<boolean>} replace  false if it was removed in the meantime
 * @property {(place: number) => Promise<void>} remove
 * @property {(place: number) => Promise<boolean>} removeUnsent  false if it was sent, or removed in the meantime
 * @property {() => Promise<void>} clear
 * @property {() => void} close
 */

/**
 * @param {string} owner  changes of others are not seen
 * @returns {Promise<KeptChanges>}
 */
export async function openKept(owner) {
  try {
    return new Database(owner, await opened());
  } catch {
    return new Memory(); // IndexedDB is disabled, as in some private windows, or does not answer
  }
}

/** @returns {Promise<IDBDatabase>} */
function opened() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => {
      const changes = request.result.createObjectStore(CHANGES, { keyPath: "place", autoIncrement: true });
      changes.createIndex(BY_OWNER, BY_OWNER);
    };
    const timer = setTimeout(() => {
      request.onsuccess = () => request.result.close(); // too late
      reject(new Error(`IndexedDB did not open within ${OPEN_TIMEOUT_MS / 1000} s`));
    }, OPEN_TIMEOUT_MS);
    request.onsuccess = () => {
      clearTimeout(timer);
      resolve(request.result);
    };
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another page keeps an older version of the database open"));
  });
}

/** @implements {KeptChanges} */
class Database {
  isLasting = true;
  #owner;
  /** @type {IDBDatabase | null} null: it is opened again when it is used */
  #database = null;
  #isClosed = false;

  /** @param {string} owner @param {IDBDatabase} database */
  constructor(owner, database) {
    this.#owner = owner;
    this.#adopt(database);
  }

  /** @returns {Promise<Change[]>} */
  async read() {
    return this.#use("readonly", (changes) => changes.index(BY_OWNER).getAll(this.#owner));
  }

  /** @param {Omit<Change, "place">} change @returns {Promise<Change>} */
  async add(change) {
    const place = /** @type {number} */ (await this.#use("readwrite", (changes) => changes.add({ ...change, owner: this.#owner })));
    return { ...change, place };
  }

  /** @param {Change} change */
  async replace(change) {
    return this.#at(change.place, (cursor) => cursor.update({ ...change, owner: this.#owner }));
  }

  /** @param {number} place */
  async remove(place) {
    await this.#use("readwrite", (changes) => changes.delete(place));
  }

  /** @param {number} place */
  async removeUnsent(place) {
    return this.#at(place, (cursor) => !cursor.value.wasSent && cursor.delete());
  }

  async clear() {
    const kept = await this.read();
    for (const { place } of kept) await this.remove(place);
  }

  close() {
    this.#isClosed = true;
    this.#database?.close();
  }

  /** @param {IDBDatabase} database */
  #adopt(database) {
    this.#database = database;
    // The browser has closed it, as when the user deletes the site's data, or another page needs a newer version of it.
    database.onclose = database.onversionchange = () => {
      database.close();
      this.#database = null;
    };
    return database;
  }

  /**
   * Do something with a change, if it is there and `act` wants to. No other page can change it in the meantime.
   * @param {number} place @param {(cursor: IDBCursorWithValue) => IDBRequest | false} act  false: it did nothing
   */
  async #at(place, act) {
    let isDone = false;
    await this.#use("readwrite", (changes) => {
      const request = changes.openCursor(place);
      request.onsuccess = () => (isDone = request.result !== null && act(request.result) !== false);
      return request;
    });
    return isDone;
  }

  /** @param {IDBTransactionMode} mode */
  async #transaction(mode) {
    if (this.#isClosed) throw new Error("The offline queue is closed");
    try {
      if (this.#database) return this.#database.transaction(CHANGES, mode);
    } catch {
      // The browser is about to tell that it has closed it.
    }
    return this.#adopt(await opened()).transaction(CHANGES, mode);
  }

  /**
   * Resolves when the transaction is complete: then the change is on the disk.
   * @template Result
   * @param {IDBTransactionMode} mode @param {(changes: IDBObjectStore) => IDBRequest<Result>} ask
   * @returns {Promise<Result>}
   */
  async #use(mode, ask) {
    const transaction = await this.#transaction(mode);
    return new Promise((resolve, reject) => {
      const request = ask(transaction.objectStore(CHANGES));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error);
    });
  }
}

/** @implements {KeptChanges} */
class Memory {
  isLasting = false;
  /** @type {Map<number, Change>} */
  #changes = new Map();
  #last = 0;

  async read() {
    return [...this.#changes.values()];
  }

  /** @param {Omit<Change, "place">} change @returns {Promise<Change>} */
  async add(change) {
    const kept = { ...change, place: (this.#last += 1) };
    this.#changes.set(kept.place, kept);
    return kept;
  }

  /** @param {Change} change */
  async replace(change) {
    if (!this.#changes.has(change.place)) return false;
    this.#changes.set(change.place, change);
    return true;
  }

  /** @param {number} place */
  async remove(place) {
    this.#changes.delete(place);
  }

  /** @param {number} place */
  async removeUnsent(place) {
    return this.#changes.get(place)?.wasSent === false && this.#changes.delete(place);
  }

  async clear() {
    this.#changes.clear();
  }

  close() {}
}
