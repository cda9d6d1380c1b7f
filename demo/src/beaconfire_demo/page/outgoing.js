/**
 * What the user changes, creates and deletes, on its way to a service: kept in the client's offline queue, and sent in order and
 * once. If another user has changed the same fields, the user chooses. A change that is refused is undone, and the page says why.
 */

import { openQueue } from "../client/offline.js";
import { Store } from "../client/store.js";

import { ApiError, refusalOf } from "./api.js";
import { valueAt, without } from "./changes.js";
import { askWhetherDeleted, askWhichStay } from "./conflict.js";

/** The ids of new things begin with it, until the service has given them their own. */
const NEW = "new-";

/**
 * What the user does to a thing.
 * @typedef {object} Deed
 * @property {"POST" | "PUT" | "PATCH" | "DELETE"} method
 * @property {string} kind  like `settlement`
 * @property {string} [id]  none: the thing is new
 * @property {string} url
 * @property {any} [body]
 * @property {number} [revision]  the one that the user has seen
 */

/**
 * A deed that is not confirmed yet.
 * @typedef {object} Unconfirmed
 * @property {number | null} place  in the queue; null: not kept yet
 * @property {string} method
 * @property {string} kind
 * @property {string} thing  its id
 * @property {string} url
 * @property {any} changes  the fields of the thing with their new values; of a new thing all fields
 * @property {string} by  the user's id
 * @property {string} madeAt
 * @property {boolean} isNew
 * @property {boolean} isAnswered  what the page knows of the thing contains it
 * @property {boolean} isHeld  it waits for the connection, or for the service
 * @property {boolean} mayDrop  it was never sent
 */

/**
 * The open view: how it shows things, and what takes over the answers of its service.
 * @typedef {object} Showing
 * @property {string} url  what the addresses of its things begin with
 * @property {(field: string) => string} fieldWord
 * @property {(field: string, value: any) => string} valueWord
 * @property {(kind: string, thing: any) => void} put
 * @property {(kind: string, id: string) => void} drop  it was deleted
 * @property {(change: Unconfirmed, error: ApiError) => string} [undone]  what happened to a change that was refused, as a sentence
 * @property {(change: Unconfirmed, error: ApiError) => boolean} [onRefused]  shows a refused change itself, if it returns true
 * @property {string[]} [minor]  fields whose change is no reason to ask whether a thing shall still be deleted
 */
/** @type {Showing} */
const NOTHING = { url: "", fieldWord: (field) => field, valueWord: (_, value) => String(value ?? "none"), put: () => {}, drop: () => {} };

export class Outgoing {
  /** @type {Store<readonly Unconfirmed[]>} Oldest first. */
  unconfirmed = new Store(/** @type {readonly Unconfirmed[]} */ ([]));
  /** @type {Showing | null} */
  showing = null;

  #client;
  #user;
  #toasts;
  /** @type {Promise<import("../client/offline.js").OfflineQueue>} */
  #opening;
  /** @type {import("../client/offline.js").OfflineQueue | null} */
  #queue = null;
  /** Changes that the queue has not kept yet. @type {Unconfirmed[]} */
  #begun = [];
  /** Changes are kept one after the other. @type {Promise<unknown>} */
  #keeping = Promise.resolve();
  /** The places of changes that the page's state contains. @type {Set<number>} */
  #answered = new Set();
  /** What awaits the outcome of a change that was made on this page, by its place. */
  #waiting = new Map();
  /** The revisions that this user's changes have made last, by thing. @type {Map<string, number>} */
  #own = new Map();
  /** Whether the user knows that changes are kept for later. */
  #isTold = false;
  #off;

  /** @param {{client: import("../client/index.js").Client, session: import("./session.js").Session, toasts: any}} page */
  constructor({ client, session, toasts }) {
    this.#client = client;
    this.#user = session.user.id;
    this.#toasts = toasts;
    this.#opening = openQueue({
      client,
      user: this.#user,
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
    this.#off = client.on("state", ({ state }) => {
      if (state === "connected") this.#isTold = false;
      this.#show();
    });
  }

  /** How many changes no service has yet. */
  get unsent() {
    return this.unconfirmed.getSnapshot().filter(({ isAnswered }) => !isAnswered).length;
  }

  /** How many changes wait for the connection, or for a service. */
  get held() {
    return this.unconfirmed.getSnapshot().filter(({ isHeld }) => isHeld).length;
  }

  /**
   * Do something to a thing. Resolves with the thing as the service has made it, without one if the user took the change back, or
   * with the error of a refusal, which the user was told. Without a connection that takes until there is one.
   * @param {Deed} deed @returns {Promise<{thing?: any, error?: ApiError}>}
   */
  async make({ method, kind, id = newName(), url, body, revision }) {
    this.#tellOnce();
    const ifMatch = revision === undefined ? undefined : `"${revision}"`;
    const request = { method, url: new URL(url, location.href).href, body, ifMatch, thing: `${kind}:${id}` };
    const begun = this.#shownOf({ ...request, place: null, madeAt: Date.now(), wasSent: true, state: "sending" });
    this.#begun.push(begun);
    this.#show();
    const keeping = this.#keeping.then(async () => (await this.#opening).add(request));
    this.#keeping = keeping.catch(() => {});
    try {
      const { place } = await keeping;
      return new Promise((settle) => this.#waiting.set(place, settle));
    } catch ({ message }) {
      return this.#undo(begun, new ApiError(0, "not_kept", `${message}.`));
    } finally {
      this.#begun = this.#begun.filter((one) => one !== begun);
      this.#show();
    }
  }

  /** Take a change back that waits. @param {number} place */
  async drop(place) {
    const isDropped = await (await this.#opening).drop(place);
    if (isDropped) this.#finish(place, {});
    else this.#toasts.show("This was sent already.", { kind: "bad" });
  }

  /** The page's state contains an event. It may be of a change whose answer has not come. @param {any} event */
  noticed({ metadata }) {
    const cause = metadata?.correlationId;
    const change = cause && this.#queue?.pending.getSnapshot().find(({ id }) => id === cause);
    if (!change || this.#answered.has(change.place)) return;
    this.#answered.add(change.place);
    this.#show();
  }

  /** Forget everything: the user signs out. */
  async clear() {
    await (await this.#opening).clear();
  }

  close() {
    this.#off();
    void this.#opening.then((queue) => queue.close());
  }

  #show() {
    const kept = this.#queue?.pending.getSnapshot() ?? [];
    for (const place of this.#answered) if (!kept.some((one) => one.place === place)) this.#answered.delete(place);
    this.unconfirmed.set([...kept.map((change) => this.#shownOf(change)), ...this.#begun]);
  }

  /** @returns {Unconfirmed} */
  #shownOf({ place, method, thing, url, body, madeAt, wasSent, state }) {
    const { kind, id } = nameOf(thing);
    const isWaiting = state === "waiting";
    return {
      place,
      method,
      kind,
      thing: id,
      url,
      changes: body ?? {},
      by: this.#user,
      madeAt: new Date(madeAt).toISOString(),
      isNew: id.startsWith(NEW),
      isAnswered: this.#answered.has(place),
      isHeld: isWaiting && (wasSent || this.#client.state !== "connected"),
      mayDrop: isWaiting && !wasSent,
    };
  }

  #tellOnce() {
    if (this.#client.state === "connected" || this.#isTold) return;
    this.#isTold = true;
    this.#toasts.show("Your change is kept, and sent when the connection is back.");
  }

  /** Take over what the service made of a change. */
  async #sent(change, response) {
    const { place, method, thing, url } = change;
    const { kind, id } = nameOf(thing);
    const body = await response.json().catch(() => ({}));
    const now = body.error?.current ?? Object.values(body)[0];
    if (method === "DELETE") this.#viewOf(url).drop(kind, id);
    else if (now?.revision) {
      this.#own.set(now.id, now.revision);
      this.#viewOf(url).put(kind, now);
    }
    this.#answered.add(place);
    this.#show();
    this.#finish(place, { thing: now });
  }

  /** Ask the user what to do about a conflict. Returns what to send instead, or nothing to drop the change. */
  async #solve(change, response) {
    const { place, method, thing, url, body } = change;
    const error = await refusalOf(response);
    const { current, conflicts = [] } = error.details;
    const view = this.#viewOf(url);
    if (current) view.put(nameOf(thing).kind, current);
    if (!current || method === "POST") return void this.#undo(this.#shownOf({ ...change, state: "conflict" }), error);
    const ifMatch = `"${current.revision}"`;
    if (this.#own.get(current.id) === current.revision) return { ifMatch }; // only this user has changed it
    if (method === "DELETE") {
      const fields = conflicts.filter((field) => !view.minor?.includes(field));
      if (fields.length === 0 || (await askWhetherDeleted({ fields, current, view }))) return { ifMatch };
      this.#finish(place, {});
      return undefined;
    }
    const fields = conflicts.filter((field) => valueAt(body, field) !== undefined);
    const theirs = fields.length > 0 ? await askWhichStay({ fields, current, mine: body, view }) : [];
    const mine = without(body, theirs);
    if (Object.keys(mine).length > 0) return { body: mine, ifMatch };
    this.#finish(place, { thing: current });
    return undefined;
  }

  async #refused(change, response) {
    const error = response ? await refusalOf(response) : new ApiError(0, "too_old", "It is more than a week old.");
    const { kind, id } = nameOf(change.thing);
    if (change.method === "DELETE" && error.status === 404) {
      this.#viewOf(change.url).drop(kind, id); // another user was faster
      return this.#finish(change.place, {});
    }
    this.#undo(this.#shownOf(change), error);
  }

  /** Say that a change was refused. @param {Unconfirmed} change @param {ApiError} error */
  #undo(change, error) {
    const view = this.#viewOf(change.url);
    if (!view.onRefused?.(change, error)) {
      const undone = view.undone?.(change, error) ?? `A change that you made earlier was refused. ${error.message}`;
      this.#toasts.show(undone, { kind: "bad", ms: 10_000 });
    }
    this.#finish(change.place, { error });
    return { error };
  }

  /** Tell what awaits the outcome of a change. @param {number | null} place @param {{thing?: any, error?: ApiError}} outcome */
  #finish(place, outcome) {
    this.#waiting.get(place)?.(outcome);
    this.#waiting.delete(place);
  }

  /** The open view, if the address is one of its things. @param {string} url @returns {Showing} */
  #viewOf(url) {
    return this.showing && isBelow(url, this.showing.url) ? this.showing : NOTHING;
  }
}

/** Whether an address is one of those that begin with `start`. @param {string} url @param {string} start */
export function isBelow(url, start) {
  const whole = new URL(start, location.href).href;
  return url === whole || url.startsWith(`${whole}/`);
}

/** @param {string} thing  as in the queue, `settlement:s1` */
function nameOf(thing = "") {
  const at = thing.indexOf(":");
  return { kind: thing.slice(0, at), id: thing.slice(at + 1) };
}

function newName() {
  return NEW + Array.from(crypto.getRandomValues(new Uint32Array(2)), (word) => word.toString(36)).join("");
}

/** If the token is refused, renew it, and ask again. */
async function fetchRenewed(session, url, options) {
  const answer = await fetch(url, options);
  if (answer.status !== 401) return answer;
  const refused = options.headers.get("Authorization").slice("Bearer ".length);
  options.headers.set("Authorization", `Bearer ${await session.renewed(refused)}`);
  return fetch(url, options);
}
