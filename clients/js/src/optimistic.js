/**
 * Changes that are shown before the service has confirmed them:
 *
 *     const edits = new Optimistic(client);
 *     await edits.make("settlement:s1", (settlement) => ({ ...settlement, level: 3 }), async ({ id }) => {
 *       const response = await fetch(url, { method: "PATCH", headers: { "X-Correlation-Id": id }, body });
 *       if (!response.ok) throw new Refused(response);
 *       return markOf(response);
 *     });
 *     edits.over("settlement:s1", settlement);   // the settlement as it is shown
 *
 * A change is shown at once. It is taken back if it is refused, and settled when its event has come.
 */

import { Caused, markOf, newId } from "./caused.js";
import { Store } from "./store.js";

export { markOf };

/** @typedef {import("./client.js").Client} Client */
/**
 * A change that is not settled yet.
 * @typedef {object} Update
 * @property {string} id
 * @property {(value: any) => any} update  from the value without the change to the value with it. It must not alter its argument
 */

export class Optimistic {
  #client;
  #caused;
  /** @type {Store<ReadonlyMap<string, readonly Update[]>>} The unsettled changes of each thing, oldest first. */
  pending = new Store(/** @type {ReadonlyMap<string, readonly Update[]>} */ (new Map()));

  /** @param {Client} client */
  constructor(client) {
    this.#client = client;
    this.#caused = new Caused(client);
  }

  /**
   * A value of a thing with its unsettled changes, for display.
   * @template Value
   * @param {string} thing @param {Value} value
   * @returns {Value}
   */
  over(thing, value) {
    return (this.pending.getSnapshot().get(thing) ?? []).reduce((shown, { update }) => update(shown), value);
  }

  /** @param {string} thing */
  isPending(thing) {
    return this.pending.getSnapshot().has(thing);
  }

  /**
   * Show a change of a thing, and make it. Resolves when the service has confirmed it. The change is shown until its event was
   * given to the handlers, and `until` has resolved. If `send` rejects, the change is taken back, and this rejects, too.
   * @template Value
   * @param {string} thing  a name of your own, such as `settlement:s1`
   * @param {(value: Value) => Value} update
   * @param {(change: {id: string}) => Promise<string | null>} send  makes the change, and returns the mark of the answer
   *   (`markOf`). Send `id` as `X-Correlation-Id`, so that the change is found even if its answer is lost. Reject to take the
   *   change back
   * @param {{until?: () => unknown}} [options]  `until`: called when the event has come. The change is shown until its promise
   *   resolves, such as that of loading the thing again
   */
  async make(thing, update, send, { until } = {}) {
    const id = newId();
    this.#set(thing, (updates) => [...updates, { id, update }]);
    const drop = () => this.#set(thing, (updates) => updates.filter((one) => one.id !== id));
    let mark;
    try {
      mark = await send({ id });
    } catch (error) {
      // The answer may be lost although the change was made: then its event says so.
      if (!this.#caused.has(id)) {
        drop();
        throw error;
      }
    }
    void this.#settle(id, mark, until).then(drop);
  }

  /** Stop listening to the client. Unsettled changes are forgotten. */
  close() {
    this.#caused.close();
    this.pending.set(new Map());
  }

  /** @param {string} id @param {string | null | undefined} mark @param {(() => unknown) | undefined} until */
  async #settle(id, mark, until) {
    try {
      // A change that is not seen in time, or after the client gave up, was made all the same.
      if (!this.#caused.has(id)) await Promise.race([this.#client.seen(mark).catch(() => {}), this.#caused.when(id)]);
      await until?.();
    } catch (error) {
      console.error(error);
    } finally {
      this.#caused.forget(id);
    }
  }

  /** @param {string} thing @param {(updates: readonly Update[]) => readonly Update[]} change */
  #set(thing, change) {
    const before = this.pending.getSnapshot();
    const updates = change(before.get(thing) ?? []);
    const after = new Map(before);
    if (updates.length > 0) after.set(thing, updates);
    else after.delete(thing);
    this.pending.set(after);
  }
}
