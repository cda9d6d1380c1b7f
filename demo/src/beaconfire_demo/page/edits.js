/** The user's unconfirmed changes: shown immediately, marked as pending, and undone if they are refused. */

import { applied } from "./changes.js";

export class Edits {
  #client;
  #onChange;
  /** @type {Map<string, Set<{changes: object}>>} By the thing's id. `changes` are those that no answer contains yet. */
  #open = new Map();

  /** @param {import("../client/index.js").Client} client @param {() => void} onChange */
  constructor(client, onChange) {
    this.#client = client;
    this.#onChange = onChange;
  }

  /** A thing with its unconfirmed changes. */
  over(thing) {
    return [...(this.#open.get(thing.id) ?? [])].reduce((shown, { changes }) => applied(shown, changes), thing);
  }

  /** Whether a change of the thing is unconfirmed. */
  isPending(id) {
    return this.#open.has(id);
  }

  /**
   * Show changes of a thing, and make them. Resolves when the service has answered. The mark disappears when the change has
   * come back. Throws what `send` throws, after undoing the changes.
   * @param {string} id @param {object} changes @param {() => Promise<{mark: string | null}>} send  keeps the answer
   */
  async make(id, changes, send) {
    const edit = { changes };
    this.#begin(id, edit);
    try {
      const { mark } = await send();
      edit.changes = {}; // the kept answer contains them
      // A change that is not seen in time, or after the client gave up, was still made.
      this.#client.seen(mark).catch(() => {}).finally(() => this.#end(id, edit));
    } catch (error) {
      this.#end(id, edit);
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

  #begin(id, edit) {
    this.#open.set(id, (this.#open.get(id) ?? new Set()).add(edit));
    this.#onChange();
  }

  #end(id, edit) {
    const edits = this.#open.get(id);
    edits?.delete(edit);
    if (edits?.size === 0) this.#open.delete(id);
    this.#onChange();
  }
}
