/** TanStack Query (version 5): which queries an event makes stale. */

import { plural, rootsOf } from "./changes.js";

/** @typedef {import("./changes.js").Change} Change */
/** @typedef {import("./changes.js").ThingChange} ThingChange */
/** @typedef {import("./changes.js").TimeChange} TimeChange */
/** @typedef {import("./changes.js").Root} Root */
/** @typedef {import("./sync.js").Cache} Cache */
/** @typedef {readonly unknown[]} Key */

/**
 * The part of a `QueryClient` that is used.
 * @typedef {object} QueryClientLike
 * @property {(filters: {queryKey?: Key, exact?: boolean, predicate?: (query: any) => boolean}) => Promise<void>} invalidateQueries
 * @property {(filters: {queryKey: Key, type: "inactive"}) => void} removeQueries
 * @property {(key: Key, updater: (old: any) => any) => unknown} setQueryData
 */

/**
 * The keys of your queries. By default a key is the path of a thing, beginning with its root:
 *
 *     ["campaign", "c1"]                                         the root itself
 *     ["campaign", "c1", "settlements"]                          a list
 *     ["campaign", "c1", "settlements", { kind: "town" }]        the same list, filtered
 *     ["campaign", "c1", "settlement", "s1"]                     a thing
 *     ["campaign", "c1", "settlement", "s1", "structures"]       a list of a thing's own
 * @typedef {object} Keys
 * @property {(root: Root) => Key} [root]  the beginning of every key of a root
 * @property {(thing: {root: Root, type: string, id: string}) => readonly Key[]} [thing]  the queries of one thing
 * @property {(change: ThingChange) => readonly Key[]} [lists]  the queries of lists that contain it
 * @property {(change: TimeChange) => readonly Key[]} [time]  the queries whose data is or contains the world time
 */

/**
 * @typedef {object} QueryCacheOptions
 * @property {Keys} [keys]
 * @property {(old: any, time: string) => any} [setTime]  put the new time into the data of such a query. By default it becomes
 *   the property `worldTime` of the data or, if the data is a string, the data
 */

/**
 * Keep the queries of TanStack Query in step. An event makes queries stale. Those on the page are loaded again at once, each at
 * most once for a batch of events; the others when they are used again.
 *
 * * A thing was changed: its queries. Created or deleted: the lists that contain it, too. Deleted: its queries are removed,
 *   unless they are on the page.
 * * Computed values: the queries whose `meta.computed` is true, or names one of the fields. For one thing, its queries.
 * * World time: the new time is put into the data, and queries with `meta.dependsOnTime` are stale.
 * @param {QueryClientLike} queryClient
 * @param {QueryCacheOptions} [options]
 * @returns {Cache}
 */
export function queryCache(queryClient, { keys = {}, setTime = withTime } = {}) {
  const { root: rootKey, thing: thingKeys, lists: listKeys, time: timeKeys } = { ...PATHS, ...keys };

  /** @param {Root} root @param {(meta: Record<string, any>) => boolean} isMeant */
  const whereMeta = (root, isMeant) =>
    queryClient.invalidateQueries({ queryKey: rootKey(root), predicate: ({ meta }) => isMeant(meta ?? {}) });

  /** @type {{[Kind in Change["kind"]]: (change: Extract<Change, {kind: Kind}>, stale: Stale) => void}} */
  const appliers = {
    thing(change, stale) {
      for (const key of thingKeys(change)) {
        if (change.operation === "delete") queryClient.removeQueries({ queryKey: key, type: "inactive" });
        stale.add(key, isSame(key, rootKey(change.root)));
      }
      for (const key of listKeys(change)) stale.add(key);
    },
    computed({ root, thing, fields }, stale) {
      if (thing) for (const key of thingKeys({ root, ...thing })) stale.add(key, isSame(key, rootKey(root)));
      else whereMeta(root, ({ computed }) => computed === true || (Array.isArray(computed) && computed.some((one) => fields.includes(one))));
    },
    time(change) {
      for (const key of timeKeys(change)) {
        queryClient.setQueryData(key, (old) => (old === undefined ? undefined : setTime(old, change.time)));
      }
      whereMeta(change.root, ({ dependsOnTime }) => dependsOnTime === true);
    },
  };

  return {
    apply(changes) {
      const stale = new Stale();
      for (const change of changes) appliers[change.kind](/** @type {any} */ (change), stale);
      for (const filters of stale) void queryClient.invalidateQueries(filters);
    },
    reset(rooms) {
      for (const root of rootsOf(rooms)) void queryClient.invalidateQueries({ queryKey: rootKey(root) });
    },
  };
}

/** @type {Required<Keys>} */
const PATHS = {
  root: ({ kind, id }) => [kind, id],
  thing: ({ root, type, id }) => [type === root.kind && id === root.id ? [type, id] : [root.kind, root.id, type, id]],
  lists: ({ root, type, parents }) => [
    [root.kind, root.id, plural(type)],
    ...parents.map((parent) => [root.kind, root.id, parent.type, parent.id, plural(type)]),
  ],
  time: ({ root }) => [[root.kind, root.id], [root.kind, root.id, "time"]],
};

/** The keys of a batch, each once. */
class Stale {
  /** @type {Map<string, {queryKey: Key, exact: boolean}>} */
  #filters = new Map();

  /** @param {Key} queryKey @param {boolean} [exact]  whether longer keys that begin with it are still good */
  add(queryKey, exact = false) {
    this.#filters.set(JSON.stringify([queryKey, exact]), { queryKey, exact });
  }

  [Symbol.iterator]() {
    return this.#filters.values();
  }
}

/** @param {Key} one @param {Key} other */
const isSame = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** @param {any} old @param {string} time */
function withTime(old, time) {
  if (typeof old === "string") return time;
  return old !== null && typeof old === "object" && "worldTime" in old ? { ...old, worldTime: time } : old;
}
