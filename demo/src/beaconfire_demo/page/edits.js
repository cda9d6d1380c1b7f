/** What a view shows of the user's unconfirmed changes: immediately, marked as pending, and undone if they are refused. */

import { applied } from "./changes.js";

export class Edits {
  #client;
  #outgoing;
  #onChange;
  /** How many unconfirmed changes a thing has that the queue does not know, by its id. @type {Map<string, number>} */
  #open = new Map();
  #off;

  /**
   * @param {import("../client/index.js").Client} client
   * @param {import("./outgoing.js").Outgoing} outgoing
   * @param {() => void} onChange
   */
  constructor(client, outgoing, onChange) {
    this.#client = client;
    this.#outgoing = outgoing;
    this.#onChange = onChange;
    this.#off = outgoing.unconfirmed.subscribe(onChange);
  }

  /** A thing with its unconfirmed changes. */
  over(thing) {
    return this.#of(thing.id).reduce((shown, { changes, isAnswered }) => (isAnswered ? shown : applied(shown, changes)), thing);
  }

  /** Whether a change of the thing is unconfirmed. */
  isPending(id) {
    return this.#open.has(id) || this.#of(id).length > 0;
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
   * @template World
   * @param {World} world
   * @param {string[]} shelves  the names of its maps of things @param {string[]} [things]  the names of its single things
   * @returns {World & {isPending: (id: string) => boolean}}
   */
  shown(world, shelves, things = []) {
    const over = (shelf) => new Map([...shelf].map(([id, thing]) => [id, this.over(thing)]));
    const changed = [...shelves.map((name) => [name, over(world[name])]), ...things.map((name) => [name, this.over(world[name])])];
    const properties = Object.fromEntries(changed.map(([name, value]) => [name, { value }]));
    return Object.create(world, { ...properties, isPending: { value: (id) => this.isPending(id) } });
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
