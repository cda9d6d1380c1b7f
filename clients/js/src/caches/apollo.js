/** Apollo Client (versions 3 and 4): which objects and fields an event makes stale. */

import { plural } from "./changes.js";

/** @typedef {import("./changes.js").Change} Change */
/** @typedef {import("./changes.js").ThingChange} ThingChange */
/** @typedef {import("./changes.js").Root} Root */
/** @typedef {import("./sync.js").Cache} Cache */

/**
 * The part of Apollo's cache that is used.
 * @typedef {object} ApolloCacheLike
 * @property {(options: {update: (cache: any) => void}) => unknown} batch
 * @property {(object: any) => string | undefined} identify
 * @property {(options: {id?: string, fieldName?: string}) => boolean} evict
 * @property {(options: any) => boolean} modify
 * @property {() => unknown} extract
 */

/**
 * @typedef {object} ApolloCacheOptions
 * @property {(type: string) => string} [typename]  the GraphQL type of a kind of thing. By default `settlement` is `Settlement`
 * @property {(change: ThingChange) => readonly string[]} [lists]  the fields that list such a thing, of the query and of its
 *   parents. By default its plural, `settlements`
 * @property {(change: ThingChange) => readonly string[]} [single]  the query's fields that return one such thing. By default its
 *   name, `settlement`
 * @property {string} [timeField]  the field of the root's object with the world time, `worldTime` by default
 * @property {readonly string[]} [timeDependent]  the query's fields, and those of the root's object, that depend on the time
 */

/**
 * Keep Apollo's cache in step. Each batch of events is one `batch` of the cache, so that each query on the page is loaded
 * again at most once.
 *
 * * A thing was changed: its fields are evicted, but not the object. Lists keep it, and queries that show it load it again.
 * * Created or deleted: the lists of the query and of its parents are evicted, too. Deleted: the object itself is evicted.
 * * Computed values: these fields are evicted, of one thing or of every object.
 * * World time: the new time is written to the root's object, and the fields that depend on it are evicted.
 * @param {ApolloCacheLike} cache
 * @param {ApolloCacheOptions} [options]
 * @returns {Cache}
 */
export function apolloCache(cache, options = {}) {
  const { typename = pascal, timeField = "worldTime", timeDependent = [] } = options;
  const { lists = ({ type }) => [plural(type)], single = ({ type }) => [type] } = options;

  /** @param {{type: string, id: string}} thing */
  const nameOf = ({ type, id }) => cache.identify({ __typename: typename(type), id });
  /** @param {Root} root */
  const rootName = ({ kind, id }) => nameOf({ type: kind, id });

  /** @type {{[Kind in Change["kind"]]: (change: Extract<Change, {kind: Kind}>) => void}} */
  const appliers = {
    thing(change) {
      const { operation, root, parents } = change;
      const name = nameOf(change);
      if (operation === "delete") {
        cache.evict({ id: name });
        for (const fieldName of single(change)) cache.evict({ id: "ROOT_QUERY", fieldName });
      } else {
        hollowOut(cache, name);
      }
      if (operation === "update") return;
      const holders = ["ROOT_QUERY", rootName(root), ...parents.map(nameOf)];
      for (const id of holders) for (const fieldName of lists(change)) if (id) cache.evict({ id, fieldName });
    },
    computed({ thing, fields }) {
      const names = thing ? [nameOf(thing)] : Object.keys(/** @type {object} */ (cache.extract()));
      for (const id of names) for (const fieldName of fields) if (id) cache.evict({ id, fieldName });
    },
    time({ root, time }) {
      const id = rootName(root);
      cache.modify({ id, fields: { [timeField]: () => time } });
      for (const fieldName of timeDependent) for (const holder of [id, "ROOT_QUERY"]) if (holder) cache.evict({ id: holder, fieldName });
    },
  };

  return {
    apply(changes) {
      cache.batch({
        update: () => {
          for (const change of changes) appliers[change.kind](/** @type {any} */ (change));
        },
      });
    },
    reset() {
      // Objects do not say which root they belong to, so all of them may be out of date.
      cache.batch({
        update: () => {
          for (const id of Object.keys(/** @type {object} */ (cache.extract()))) hollowOut(cache, id);
        },
      });
    },
  };
}

/**
 * Evict every field of an object except those that identify it.
 * @param {ApolloCacheLike} cache @param {string | undefined} id
 */
function hollowOut(cache, id) {
  if (id === undefined) return; // Apollo takes that for the query itself
  cache.modify({
    id,
    fields: (/** @type {unknown} */ value, /** @type {any} */ { fieldName, DELETE }) => (IDENTITY.includes(fieldName) ? value : DELETE),
  });
}

const IDENTITY = ["__typename", "id"];

/** @param {string} type  `trade_route` → `TradeRoute` */
function pascal(type) {
  return type.replace(/(^|[._-])([a-z])/g, (_, __, letter) => letter.toUpperCase());
}
