/** What this person changed and has not come back yet: shown at once, marked, and taken back where it was refused. */

import { applied } from "./changes.js";

export class Edits {
  #client;
  #onChange;
  /** @type {Map<string, Set<{changes: object}>>} By the thing's id; `changes` are those that no answer contains yet. */
  #open = new Map();

  /** @param {import("../client/index.js").Client} client @param {() => void} onChange */
  constructor(client, onChange) {
    this.#client = client;
    this.#onChange = onChange;
  }

  /** A thing as its editor sees it. */
  over(thing) {
    return [...(this.#open.get(thing.id) ?? [])].reduce((shown, { changes }) => applied(shown, changes), thing);
  }

  /** Whether a change of it is still on its way. */
  isPending(id) {
    return this.#open.has(id);
  }

  /**
   * Show changes of a thing and make them. Answers when the service has; the mark goes when the change has come back.
   * Throws what `send` throws, and then they are taken back.
   * @param {string} id @param {object} changes @param {() => Promise<{mark: string | null}>} send  keeps what was answered
   */
  async make(id, changes, send) {
    const edit = { changes };
    this.#begin(id, edit);
    try {
      const { mark } = await send();
      edit.changes = {}; // they are in what was kept
      // What is not seen in time, or after the connection was given up, was made nevertheless.
      this.#client.seen(mark).catch(() => {}).finally(() => this.#end(id, edit));
    } catch (error) {
      this.#end(id, edit);
      throw error;
    }
  }

  /**
   * A campaign with what is on its way in it, for the eyes.
   * @param {import("./world.js").World} world
   */
  shown(world) {
    const over = (things) => new Map([...things].map(([id, thing]) => [id, this.over(thing)]));
    const { settlements, structures, entities } = world;
    return Object.create(world, {
      campaign: { value: this.over(world.campaign) },
      settlements: { value: over(settlements) },
      structures: { value: over(structures) },
      entities: { value: over(entities) },
      isPending: { value: (id) => this.isPending(id) },
    });
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
