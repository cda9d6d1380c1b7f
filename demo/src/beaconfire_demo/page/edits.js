/** What a view shows of the user's unconfirmed changes: immediately, marked as pending, and undone if they are refused. */

import { applied } from "./changes.js";
import { isBelow } from "./outgoing.js";

/** @typedef {import("./outgoing.js").Unconfirmed} Unconfirmed */

export class Edits {
  #client;
  #outgoing;
  #url;
  #onChange;
  #apply;
  /** How many unconfirmed changes a thing has that the queue does not know, by its id. @type {Map<string, number>} */
  #open = new Map();
  #off;

  /**
   * @param {object} view
   * @param {import("../client/index.js").Client} view.client
   * @param {import("./outgoing.js").Outgoing} view.outgoing
   * @param {string} view.url  what the addresses of its things begin with
   * @param {() => void} view.onChange
   * @param {(thing: any, change: Unconfirmed) => any} [view.apply]  shows a change of a thing
   */
  constructor({ client, outgoing, url, onChange, apply = (thing, { changes }) => applied(thing, changes) }) {
    this.#client = client;
    this.#outgoing = outgoing;
    this.#url = url;
    this.#onChange = onChange;
    this.#apply = apply;
    this.#off = outgoing.unconfirmed.subscribe(onChange);
  }

  /** A thing with its unconfirmed changes. */
  over(thing) {
    const changes = this.#of(thing.id).filter(({ isAnswered, method }) => !isAnswered && method !== "DELETE");
    return changes.reduce((shown, change) => this.#apply(shown, change), thing);
  }

  /** New things of a kind that no service has yet, oldest first. @param {string} kind @returns {Unconfirmed[]} */
  added(kind) {
    const all = this.#outgoing.unconfirmed.getSnapshot();
    return all.filter((one) => one.isNew && one.kind === kind && !one.isAnswered && isBelow(one.url, this.#url));
  }

  /** Whether a change of the thing is unconfirmed. */
  isPending(id) {
    return this.#open.has(id) || this.#of(id).length > 0;
  }

  /**
   * What is done to a thing as a whole, and not confirmed yet. Until then the user can do nothing else with it.
   * @param {string} id @returns {{word: "added" | "deleted", change: Unconfirmed} | undefined}
   */
  fateOf(id) {
    const change = this.#of(id).find(({ isNew, method, isAnswered }) => !isAnswered && (isNew || method === "DELETE"));
    return change && { word: change.isNew ? "added" : "deleted", change };
  }

  /** The first change of a thing that waits for the connection. @param {string} id */
  heldOf(id) {
    return this.#of(id).find(({ isHeld }) => isHeld);
  }

  /**
   * Mark a thing as pending while something is made that needs an answer now, until its event has come back.
   * @param {string} id @param {() => Promise<{mark: string | null}>} send  keeps the answer
   */
  async make(id, send) {
    this.#count(id, 1);
    try {
      const { mark } = await send();
      // What is not seen in time, or after the client gave up, was still made.
      this.#client.seen(mark).catch(() => {}).finally(() => this.#count(id, -1));
    } catch (error) {
      this.#count(id, -1);
      throw error;
    }
  }

  /**
   * A world with all unconfirmed changes, for display.
   * @template {{canEdit: boolean, draft: (change: Unconfirmed) => any}} World
   * @param {World} world
   * @param {Record<string, string>} shelves  the names of its maps, each with the kind of the things in it
   * @param {Record<string, any>} [more]  further properties that are shown instead of the world's
   * @returns {World & Shown}
   */
  shown(world, shelves, more = {}) {
    const things = (name, kind) => [...[...world[name].values()].map((thing) => this.over(thing)), ...this.added(kind).map((change) => world.draft(change))];
    const maps = Object.entries(shelves).map(([name, kind]) => [name, new Map(things(name, kind).map((thing) => [thing.id, thing]))]);
    const pending = {
      isPending: (id) => this.isPending(id),
      fateOf: (id) => this.fateOf(id),
      heldOf: (id) => this.heldOf(id),
      mayChange: (id) => world.canEdit && this.fateOf(id) === undefined,
    };
    const values = { ...Object.fromEntries(maps), ...pending, ...more };
    return Object.create(world, Object.fromEntries(Object.entries(values).map(([name, value]) => [name, { value }])));
  }

  close() {
    this.#off();
  }

  #of(id) {
    return this.#outgoing.unconfirmed.getSnapshot().filter(({ thing }) => thing === id);
  }

  #count(id, step) {
    const count = (this.#open.get(id) ?? 0) + step;
    if (count > 0) this.#open.set(id, count);
    else this.#open.delete(id);
    this.#onChange();
  }
}

/**
 * What a shown world has more than the world.
 * @typedef {object} Shown
 * @property {(id: string) => boolean} isPending
 * @property {Edits["fateOf"]} fateOf
 * @property {Edits["heldOf"]} heldOf
 * @property {(id: string) => boolean} mayChange  whether the user may change the thing now
 */
