/** Keep the cache of a data library in step with the events of a room. */

export { apolloCache } from "./caches/apollo.js";
export { changesOf } from "./caches/changes.js";
export { storeCache } from "./caches/store.js";
export { CacheSync, syncCache } from "./caches/sync.js";
export { queryCache } from "./caches/tanstack.js";

/** @typedef {import("./caches/changes.js").Change} Change */
/** @typedef {import("./caches/changes.js").RootChange} RootChange */
/** @typedef {import("./caches/sync.js").Cache} Cache */
/** @typedef {import("./caches/sync.js").SyncOptions} SyncOptions */
