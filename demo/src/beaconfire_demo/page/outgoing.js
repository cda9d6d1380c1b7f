/**
 * The changes of fields that the user makes. They are shown immediately and kept in the library's offline queue, which sends them
 * in order and once as soon as the page is connected. A conflict opens a dialog. Signing out clears the queue.
 */

import { openQueue } from "../client/offline.js";
import { Store } from "../client/store.js";

import { ApiError, refusalOf } from "./api.js";
import { valueAt, without } from "./changes.js";
import { askWhichStay } from "./conflict.js";

/**
 * A change that is not confirmed yet. `isAnswered`: the thing that the page knows contains it.
 * @typedef {{thing: string, changes: Record<string, any>, isAnswered: boolean}} Unconfirmed
 */

/**
 * The open view: how it shows things, and what takes over the answers of its service.
 * @typedef {object} Showing
 * @property {string} url  what the addresses of its things begin with
 * @property {(field: string) => string} fieldWord
 * @property {(field: string, value: any) => string} valueWord
 * @property {(kind: string, thing: any) => void} put
 */
/** @type {Showing} */
const NOTHING = { url: "", fieldWord: (field) => field, valueWord: (_, value) => String(value ?? "none"), put: () => {} };

export class Outgoing {
  /** @type {Store<readonly Unconfirmed[]>} Oldest first. */
  unconfirmed = new Store(/** @type {readonly Unconfirmed[]} */ ([]));
  /** @type {Showing | null} */
  showing = null;

  #client;
  #toasts;
  /** @type {Promise<import("../client/offline.js").OfflineQueue>} */
  #opening;
  /** @type {import("../client/offline.js").OfflineQueue | null} */
  #queue = null;
  /** Changes that the queue has not kept yet. @type {Unconfirmed[]} */
  #begun = [];
  /** Changes are kept one after the other. @type {Promise<unknown>} */
  #keeping = Promise.resolve();
  /** The places of changes whose answer was taken over. @type {Set<number>} */
  #answered = new Set();
  /** What awaits the outcome of a change that was made on this page, by its place. */
  #waiting = new Map();
  /** The revisions that this user's changes have made last, by thing. @type {Map<string, number>} */
  #own = new Map();

  /** @param {{client: import("../client/index.js").Client, session: import("./session.js").Session, toasts: any}} page */
  constructor({ client, session, toasts }) {
    this.#client = client;
    this.#toasts = toasts;
    this.#opening = openQueue({
      client,
      user: session.user.id,
      headers: async () => ({ Authorization: `Bearer ${await session.token()}` }),
      fetch: (url, options) => fetchRenewed(session, url, options),
      onSent: (change, response) => void this.#sent(change, response),
      onConflict: (change, response) => this.#solve(change, response),
      onRefused: (change, response) => void this.#refused(change, response),
    });
    void this.#opening.then((queue) => {
      this.#queue = queue;
      queue.pending.subscribe(() => this.#show());
      this.#show();
    });
  }

  /** How many changes no service has yet. */
  get unsent() {
    return this.unconfirmed.getSnapshot().filter(({ isAnswered }) => !isAnswered).length;
  }

  /**
   * Change fields of a thing. Resolves when the service has made the change, or the user dropped it after a conflict. Without a
   * connection that takes until there is one. Rejects with ApiError if the service refuses it.
   * @param {{kind: string, id: string, url: string, changes: Record<string, any>, revision: number}} change  `revision`: the one
   *   that the user has seen
   */
  async change({ kind, id, url, changes, revision }) {
    if (this.#client.state !== "connected") this.#toasts.show("Your change is kept, and sent when the connection is back.");
    const begun = { thing: id, changes, isAnswered: false };
    this.#begun.push(begun);
    this.#show();
    const request = { method: "PATCH", url, body: changes, ifMatch: `"${revision}"`, thing: `${kind}:${id}` };
    const keeping = this.#keeping.then(async () => (await this.#opening).add(request));
    this.#keeping = keeping.catch(() => {});
    try {
      const { place } = await keeping;
      return new Promise((settle, fail) => this.#waiting.set(place, { settle, fail }));
    } finally {
      this.#begun = this.#begun.filter((one) => one !== begun);
      this.#show();
    }
  }

  /** Forget everything: the user signs out. */
  async clear() {
    await (await this.#opening).clear();
  }

  close() {
    void this.#opening.then((queue) => queue.close());
  }

  #show() {
    const kept = this.#queue?.pending.getSnapshot() ?? [];
    for (const place of this.#answered) if (!kept.some((one) => one.place === place)) this.#answered.delete(place);
    const shown = kept.map(({ place, thing, body }) => {
      return { thing: placeOf(thing).id, changes: /** @type {any} */ (body), isAnswered: this.#answered.has(place) };
    });
    this.unconfirmed.set([...shown, ...this.#begun]);
  }

  /** Take over what the service made of a change. */
  async #sent({ place, thing, url }, response) {
    const body = await response.json().catch(() => ({}));
    const now = body.error?.current ?? Object.values(body)[0];
    if (now?.revision) {
      this.#own.set(now.id, now.revision);
      this.#viewOf(url).put(placeOf(thing).kind, now);
    }
    this.#answered.add(place);
    this.#show();
    this.#finish(place, ({ settle }) => settle(now));
  }

  /** Ask the user which values stay. Returns what to send instead, or nothing to drop the change. */
  async #solve({ place, thing, url, body }, response) {
    const error = await refusalOf(response);
    const { current, conflicts = [] } = error.details;
    if (!current) return void this.#tell(place, error);
    const ifMatch = `"${current.revision}"`;
    if (this.#own.get(current.id) === current.revision) return { ifMatch }; // only this user has changed it
    const view = this.#viewOf(url);
    view.put(placeOf(thing).kind, current);
    const fields = conflicts.filter((field) => valueAt(body, field) !== undefined);
    const theirs = fields.length > 0 ? await askWhichStay({ fields, current, mine: body, view }) : [];
    const mine = without(body, theirs);
    if (Object.keys(mine).length > 0) return { body: mine, ifMatch };
    this.#finish(place, ({ settle }) => settle(current));
    return undefined;
  }

  async #refused({ place }, response) {
    this.#tell(place, response ? await refusalOf(response) : new ApiError(0, "too_old", "It is more than a week old."));
  }

  /** Say that a change was refused. @param {number} place @param {ApiError} error */
  #tell(place, error) {
    const isKnown = this.#finish(place, ({ fail }) => fail(error));
    if (!isKnown) this.#toasts.show(`A change that you made earlier could not be made. ${error.message}`, { kind: "bad", ms: 0 });
  }

  /** Tell what awaits the outcome of a change. Returns whether anything does. */
  #finish(place, tell) {
    const waiting = this.#waiting.get(place);
    this.#waiting.delete(place);
    if (waiting) tell(waiting);
    return waiting !== undefined;
  }

  /** The open view, if the address is one of its things. @param {string} url @returns {Showing} */
  #viewOf(url) {
    return this.showing && url.startsWith(new URL(this.showing.url, location.href).href) ? this.showing : NOTHING;
  }
}

/** @param {string} thing  as in the queue, `settlement:s1` */
function placeOf(thing = "") {
  const at = thing.indexOf(":");
  return { kind: thing.slice(0, at), id: thing.slice(at + 1) };
}

/** If the token is refused, renew it, and ask again. */
async function fetchRenewed(session, url, options) {
  const answer = await fetch(url, options);
  if (answer.status !== 401) return answer;
  const refused = options.headers.get("Authorization").slice("Bearer ".length);
  options.headers.set("Authorization", `Bearer ${await session.renewed(refused)}`);
  return fetch(url, options);
}
