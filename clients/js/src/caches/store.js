/** A plain store with `getState` and `setState`, as Zustand has it. */

import { plural, rootsOf } from "./changes.js";

/** @typedef {import("./changes.js").Change} Change */
/** @typedef {import("./changes.js").Root} Root */
/** @typedef {import("./sync.js").Cache} Cache */

/**
 * The part of the state that is kept in step. The application fills it, and loads again what is missing.
 * @typedef {object} CachedState
 * @property {Readonly<Record<string, Readonly<Record<string, any>>>>} things  by type and id: `things.settlement.s1`
 * @property {Readonly<Record<string, any>>} lists  by path: `lists["campaign:c1/settlements"]`, and
 *   `lists["campaign:c1/settlement:s1/structures"]`
 * @property {Readonly<Record<string, string>>} worldTime  by root: `worldTime["campaign:c1"]`
 */

/**
 * @template State
 * @typedef {object} StoreLike
 * @property {() => State} getState
 * @property {(update: (state: State) => Partial<State>) => void} setState
 */

/**
 * @template State
 * @typedef {object} StoreCacheOptions
 * @property {(changes: readonly Change[]) => void} [onStale]  called after each batch, to load again what is shown
 * @property {(rooms: readonly string[]) => void} [onReset]  called after everything of these rooms was evicted
 * @property {(state: State, changes: readonly Change[]) => Partial<State>} [evict]  for a state of another shape: returns the
 *   parts of it that change
 * @property {(state: State, rooms: readonly string[]) => Partial<State>} [evictAll]  the same after events of these rooms were missed
 */

/**
 * Keep a plain store in step. Each batch of events is one `setState`.
 *
 * * A thing was changed or deleted: it is removed from `things`. Created or deleted: the lists that contain it are removed.
 * * Computed values: these fields are removed from one thing, or from every thing.
 * * World time: the new time is stored, and the lists and things stay.
 * @template {CachedState} State
 * @param {StoreLike<State>} store
 * @param {StoreCacheOptions<State>} [options]
 * @returns {Cache}
 */
export function storeCache(store, { evict = without, evictAll = withoutRoots, onStale, onReset } = {}) {
  return {
    apply(changes) {
      store.setState((state) => evict(state, changes));
      onStale?.(changes);
    },
    reset(rooms) {
      store.setState((state) => evictAll(state, rooms));
      onReset?.(rooms);
    },
  };
}

/**
 * @param {CachedState} state @param {readonly Change[]} changes
 * @returns {any}
 */
function without(state, changes) {
  const things = { ...state.things };
  const lists = { ...state.lists };
  const worldTime = { ...state.worldTime };
  for (const change of changes) {
    const root = pathOf(change.root);
    if (change.kind === "time") {
      worldTime[root] = change.time;
    } else if (change.kind === "computed") {
      const { thing, fields } = change;
      for (const type of thing ? [thing.type] : Object.keys(things)) things[type] = withoutFields(things[type], thing?.id, fields);
    } else {
      const { type, id, operation, parents } = change;
      things[type] = omit(things[type], [id]);
      if (operation === "update") continue;
      delete lists[`${root}/${plural(type)}`];
      for (const parent of parents) delete lists[`${root}/${parent.type}:${parent.id}/${plural(type)}`];
    }
  }
  return { things, lists, worldTime };
}

/**
 * @param {Readonly<Record<string, any>> | undefined} byId @param {string | undefined} only @param {readonly string[]} fields
 */
function withoutFields(byId = {}, only, fields) {
  const entries = Object.entries(byId);
  return Object.fromEntries(entries.map(([id, one]) => [id, only === undefined || only === id ? omit(one, fields) : one]));
}

/**
 * Things do not say which root they belong to, so all of them may be out of date.
 * @param {CachedState} state @param {readonly string[]} rooms
 * @returns {any}
 */
function withoutRoots({ lists }, rooms) {
  const roots = rootsOf(rooms).map(pathOf);
  return { things: {}, lists: omit(lists, Object.keys(lists).filter((path) => roots.some((root) => path.startsWith(`${root}/`)))) };
}

/** @param {Root} root */
const pathOf = ({ kind, id }) => `${kind}:${id}`;

/** @param {Readonly<Record<string, any>> | undefined} object @param {readonly string[]} names */
function omit(object = {}, names) {
  return Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));
}
