/** Collect the changes of rapid events, and give them to a cache together. */

import { changesOf as ofCatalogue, keyOf, merged } from "./changes.js";

/** How long changes are collected. Below this, users see no delay; longer would bring few larger batches. */
const WINDOW_MS = 50;
/** With more changed things than this at once, everything is loaded again instead. */
const MOST_CHANGES = 1000;

/** @typedef {import("../events.d.ts").AnyEvent} AnyEvent */
/** @typedef {import("./changes.js").Change} Change */
/** @typedef {import("./changes.js").RootChange} RootChange */

/**
 * What a data library's cache must be able to do.
 * @typedef {object} Cache
 * @property {(changes: readonly Change[]) => void} apply  take over these changes, and tell observers once
 * @property {(rooms: readonly string[]) => void} reset  events of these rooms were missed: everything may be out of date
 */

/**
 * @typedef {object} SyncOptions
 * @property {number} [windowMs]  how long changes are collected, 50 by default. At most one batch is applied in this time
 * @property {(event: AnyEvent, room?: string) => readonly (Change | RootChange)[]} [changesOf]  what an event says about cached data.
 *   For events of your own
 */

/**
 * @typedef {object} SourceOptions
 * @property {string | null} [cursor]  the `X-Beaconfire-Cursor` of what the cache has. Without it, the cache is reset once the
 *   room is joined, because events may have been missed before
 */

export class CacheSync {
  #cache;
  #windowMs;
  #changesOf;
  /** @type {Map<string, Change>} */
  #changes = new Map();
  /** @type {Set<string>} */
  #missed = new Set();
  /** @type {unknown} */
  #timer = null;
  #clock;

  /**
   * @param {Cache} cache
   * @param {SyncOptions & {clock?: Pick<import("../surroundings.js").Clock, "setTimeout" | "clearTimeout">}} [options]
   */
  constructor(cache, { windowMs = WINDOW_MS, changesOf = ofCatalogue, clock = globalTimers } = {}) {
    if (!(windowMs >= 0)) throw new TypeError(`windowMs: expected a number of at least 0, got ${windowMs}`);
    this.#cache = cache;
    this.#windowMs = windowMs;
    this.#changesOf = changesOf;
    this.#clock = clock;
  }

  /** @param {AnyEvent} event @param {string} [room]  through which it was heard */
  take(event, room) {
    for (const change of this.#changesOf(event, room)) {
      if (change.kind === "root") {
        this.miss([`${change.root.kind}:${change.root.id}`]);
        continue;
      }
      const key = keyOf(change);
      const before = this.#changes.get(key);
      this.#changes.set(key, before ? merged(before, change) : change);
      if (this.#changes.size > MOST_CHANGES) this.miss([`${change.root.kind}:${change.root.id}`]);
      this.#flushSoon();
    }
  }

  /**
   * Events were missed. What was collected is part of that.
   * @param {readonly string[]} rooms
   */
  miss(rooms) {
    for (const room of rooms) this.#missed.add(room);
    this.#changes.clear();
    this.#flushSoon();
  }

  /** Apply what was collected, now. */
  flush() {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    const rooms = [...this.#missed];
    const changes = [...this.#changes.values()];
    this.#missed.clear();
    this.#changes.clear();
    if (rooms.length > 0) this.#cache.reset(rooms);
    if (changes.length > 0) this.#cache.apply(changes);
  }

  /** Forget what was collected. */
  stop() {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    this.#missed.clear();
    this.#changes.clear();
  }

  #flushSoon() {
    this.#timer ??= this.#clock.setTimeout(() => this.flush(), this.#windowMs);
  }
}

const globalTimers = {
  setTimeout: (/** @type {() => void} */ callback, /** @type {number} */ ms) => globalThis.setTimeout(callback, ms),
  clearTimeout: (/** @type {any} */ timer) => globalThis.clearTimeout(timer),
};

/**
 * Keep a cache in step with a room. Call it once for each room. In React, `useCacheSync` does it.
 *
 *     const stop = syncCache(client, "campaign:c1", queryCache(queryClient));
 * @param {Pick<import("../client.js").Client, "subscribe">} client
 * @param {string} room  with its root, as `campaign:c1` or `campaign:c1/settlement:s1`
 * @param {Cache} cache
 * @param {SyncOptions & SourceOptions} [options]
 * @returns {() => void} stops it
 */
export function syncCache(client, room, cache, { cursor, ...options } = {}) {
  const sync = new CacheSync(cache, options);
  let isGapless = cursor != null;
  const subscription = client.subscribe(
    room,
    {
      onEvent: (event) => sync.take(/** @type {AnyEvent} */ (/** @type {unknown} */ (event)), room),
      onReady: () => {
        if (!isGapless) sync.miss([room]);
        isGapless = false; // if the room is left and joined again, events are missing
      },
      onResync: ({ rooms }) => sync.miss(rooms),
    },
    { cursor },
  );
  return () => {
    subscription.unsubscribe();
    sync.stop();
  };
}
