/**
 * Changes that a user makes without a network: they are kept, and sent in order when the client is connected again.
 *
 *     const queue = await openQueue({
 *       client,
 *       user: "u1",
 *       headers: async () => ({ Authorization: `Bearer ${await token()}` }),
 *       onConflict: (change, response) => askTheUser(change, response),
 *     });
 *     await queue.add({ method: "PATCH", url, body: { level: 3 }, ifMatch: '"5"', thing: "settlement:s1" });
 *     await queue.clear();   // at sign-out
 *
 * Each change has an id, which is its `Idempotency-Key` and `X-Correlation-Id` each time it is sent. So a change whose answer was
 * lost is made once. One tab at a time sends, where the browser has Web Locks.
 *
 *     waiting ── connected ──▶ sending ── 2xx ──▶ sent ── its event ──▶ gone
 *        ▲                        │ ── 409, 412 ──▶ conflict ── onConflict ──▶ waiting, or gone
 *        └── no answer, 5xx, 429 ─┘ ── another 4xx ──▶ gone, after onRefused
 */

import { Backoff } from "./backoff.js";
import { Caused, markOf, newId } from "./caused.js";
import { openKept } from "./kept_changes.js";
import { Store } from "./store.js";
import { systemClock } from "./surroundings.js";
import { Timer } from "./timer.js";

const MAX_CHANGES = 500;
const MAX_BYTES = 1024 * 1024;
/** Services of Beaconfire remember the keys of changes for 8 days. Later, a change that is sent again could be made twice. */
const MAX_AGE_MS = 7 * 24 * 3600 * 1000;
const SEND_TIMEOUT_MS = 20_000;
const LONGEST_PAUSE_MS = 30_000;
/** How long to wait for the event of a change whose answer was lost, before a conflict is handed to the application. */
const CATCH_UP_MS = 3000;

/** @typedef {import("./client.js").Client} Client */

/**
 * What a change asks for.
 * @typedef {object} ChangeRequest
 * @property {string} method  `POST`, `PUT`, `PATCH` or `DELETE`
 * @property {string} url
 * @property {unknown} [body]  sent as JSON
 * @property {string} [ifMatch]  the `ETag` that the change starts from. The service refuses the change if it is outdated
 * @property {string} [thing]  a name of what is changed, such as `settlement:s1`. A later change of the same thing with the same
 *   `ifMatch` starts from what the earlier one has made
 */

/**
 * @typedef {ChangeRequest & {id: string, place: number, madeAt: number, wasSent: boolean}} Change  `wasSent`: it was sent before, but
 *   its answer was lost
 */

/** @typedef {Change & {state: "waiting" | "sending" | "conflict" | "sent"}} Pending */

/**
 * @typedef {object} QueueOptions
 * @property {Client} client
 * @property {string} user  the id of the user who makes the changes. They are sent only while the client is connected as this user
 * @property {() => HeadersInit | Promise<HeadersInit>} [headers]  further headers, such as `Authorization`
 * @property {(change: Change, response: Response) => Resolution | undefined | void | Promise<Resolution | undefined | void>} [onConflict]
 *   the thing was changed by somebody else. Returns what to send instead, or nothing to drop the change. The queue waits for it
 * @property {(change: Change, response: Response | null) => void} [onRefused]  the service refused the change, and it was dropped.
 *   Without a response, it was too old
 * @property {(change: Change, response: Response) => void} [onSent]
 * @property {number} [maxChanges]  500 by default
 * @property {number} [maxAgeMs]  an older change is dropped; 7 days by default
 * @property {typeof fetch} [fetch]
 * @property {import("./surroundings.js").Clock} [clock]
 * @property {() => number} [random]
 */

/** @typedef {{body?: unknown, ifMatch?: string | undefined}} Resolution  what to change in a change before it is sent again */

/** The queue takes no further change. */
export class QueueFull extends Error {
  constructor() {
    super("Too many changes wait to be sent. Connect to send them before you make further ones");
    this.name = "QueueFull";
  }
}

/** @param {QueueOptions} options */
export async function openQueue(options) {
  const { client, user } = options;
  if (!user) throw new TypeError("openQueue needs `user`, the id of the user who makes the changes");
  const queue = new OfflineQueue(options, await openKept(user));
  await queue.open(client);
  return queue;
}

export class OfflineQueue {
  #options;
  #kept;
  #caused;
  #lock;
  #channel;
  #clock;
  #backoff;
  #retry;
  /** @type {(() => void)[]} */
  #offs = [];
  /** @type {Map<number, Pending["state"]>} The states of changes that do not wait, by place. */
  #states = new Map();
  /** @type {Pending[]} Sent, but not settled. */
  #sent = [];
  /** @type {Promise<void> | null} */
  #flushing = null;
  /** Whether to look again when that has ended. */
  #again = false;
  /** @type {AbortController | null} Of the change that is sent and not answered. */
  #asking = null;
  #isConnected;
  #isClosed = false;
  /** @type {Store<readonly Pending[]>} The changes that are not settled, oldest first. */
  pending = new Store(/** @type {readonly Pending[]} */ ([]));

  /** @internal @param {QueueOptions} options @param {import("./kept_changes.js").KeptChanges} kept */
  constructor(options, kept) {
    this.#options = options;
    this.#kept = kept;
    this.#isConnected = options.client.state === "connected";
    this.#clock = options.clock ?? systemClock;
    this.#backoff = new Backoff(options.random, LONGEST_PAUSE_MS);
    this.#retry = new Timer(this.#clock);
    this.#lock = `beaconfire-offline ${options.user}`;
    this.#caused = new Caused(options.client);
    this.#channel = channelOf(this.#lock);
  }

  /** @internal @param {Client} client */
  async open(client) {
    this.#offs.push(client.on("state", ({ state }) => this.#follow(state)));
    if (this.#channel) this.#channel.onmessage = () => void this.#show();
    /** @type {{unref?: () => void} | null} */ (this.#channel)?.unref?.(); // Node would not end otherwise
    await this.#show();
    void this.flush();
  }

  /** Whether changes outlive the page. False where the browser has no IndexedDB, as in some private windows. */
  get isLasting() {
    return this.#kept.isLasting;
  }

  /**
   * Keep a change, and send it as soon as possible. Resolves when it is kept. Rejects with `QueueFull`.
   * @param {ChangeRequest} request
   * @returns {Promise<Change>}
   */
  async add({ method, url, body, ifMatch, thing }) {
    const { maxChanges = MAX_CHANGES } = this.#options;
    const address = new URL(url, globalThis.location?.href).href;
    const change = { id: newId(), madeAt: Date.now(), wasSent: false, method, url: address, body, ifMatch, thing };
    const waiting = await this.#kept.read();
    if (waiting.length >= maxChanges || JSON.stringify([...waiting, change]).length > MAX_BYTES) throw new QueueFull();
    const kept = await this.#kept.add(/** @type {Omit<Change, "place">} */ (change));
    await this.#changed();
    void this.flush();
    return kept;
  }

  /**
   * Try to send what waits. It is called automatically when a change is added, and when the client is connected.
   * @returns {Promise<void>}
   */
  flush() {
    if (this.#flushing) this.#again = true; // it may have read already, and ends now
    else this.#flushing = this.#flushAll().finally(() => (this.#flushing = null));
    return this.#flushing;
  }

  /**
   * Forget a change that was never sent, because the user takes it back. Resolves with whether it was forgotten. If it was sent,
   * it may have been made.
   * @param {number} place  of the change
   * @returns {Promise<boolean>}
   */
  async drop(place) {
    const isDropped = await this.#kept.removeUnsent(place);
    await this.#changed();
    return isDropped;
  }

  /** Forget all changes of this user. Call it at sign-out. */
  async clear() {
    await this.#kept.clear();
    this.#sent = [];
    await this.#changed();
  }

  /** Stop sending. The changes are kept. */
  close() {
    this.#isClosed = true;
    this.#retry.stop();
    this.#caused.close();
    for (const off of this.#offs) off();
    this.#channel?.close();
    if (this.#flushing) void this.#flushing.finally(() => this.#kept.close());
    else this.#kept.close();
  }

  /** @param {string} state */
  #follow(state) {
    const isBack = state === "connected" && !this.#isConnected;
    this.#isConnected = state === "connected";
    if (!isBack) return;
    this.#asking?.abort(); // it was sent over the network of before, which may never answer
    void this.flush();
  }

  async #flushAll() {
    do {
      this.#again = false;
      await this.#flush();
    } while (this.#again && !this.#isClosed);
  }

  async #flush() {
    this.#retry.stop();
    const send = async () => {
      for (;;) {
        const [change] = this.#maySend ? await this.#kept.read() : [];
        if (change === undefined) return this.#backoff.reset();
        if (!(await this.#sendOne(change))) return this.#later();
        await this.#changed();
      }
    };
    try {
      await alone(this.#lock, send); // only one tab sends, so that the order holds across tabs
    } catch (error) {
      if (this.#isClosed) return;
      console.error("beaconfire: the offline queue failed, and tries again", error); // the database, or a handler
      this.#later();
    }
  }

  get #maySend() {
    const { client, user } = this.#options;
    return !this.#isClosed && client.state === "connected" && client.userId === user;
  }

  #later() {
    if (this.#maySend) this.#retry.set(this.#backoff.next(), () => void this.flush());
  }

  /**
   * Send the oldest change. Returns whether to go on with the next one.
   * @param {Change} change
   */
  async #sendOne(change) {
    const { maxAgeMs = MAX_AGE_MS, onRefused, onSent } = this.#options;
    if (Date.now() - change.madeAt > maxAgeMs) return this.#drop(change, () => onRefused?.(change, null));
    await this.#setState(change, "sending");
    const isRepeated = change.wasSent;
    // Noted before it is sent: if the page ends now, the next one knows that it may have been made.
    if (!(await this.#kept.replace({ ...change, wasSent: true }))) return this.#drop(change, () => {}); // dropped meanwhile
    const response = await this.#fetch(change);
    if (response?.ok) {
      await this.#rebase(change, response.headers.get("ETag"));
      await this.#drop(change, () => onSent?.(change, response));
      this.#settle(change, markOf(response));
      return true;
    }
    this.#states.delete(change.place);
    const status = response?.status ?? 0;
    if (response === null || status === 401 || status === 408 || status === 425 || status === 429 || status >= 500) {
      await this.#show();
      return false;
    }
    if (status !== 409 && status !== 412) return this.#drop(change, () => onRefused?.(change, response));
    // What is in the way of a repeated change may be the change itself.
    if (isRepeated && (await this.#wasMade(change))) return this.#drop(change, () => onSent?.(change, response));
    return this.#solve(change, response);
  }

  /** @param {Change} change @returns {Promise<Response | null>} null without an answer in time */
  #fetch(change) {
    const asking = (this.#asking = new AbortController());
    AbortSignal.timeout(SEND_TIMEOUT_MS).addEventListener("abort", () => asking.abort());
    const none = new Promise((resolve) => asking.signal.addEventListener("abort", () => resolve(null)));
    const answer = this.#ask(change, asking.signal).catch(() => null);
    return Promise.race([answer, none]).finally(() => (this.#asking = null));
  }

  /** @param {Change} change @param {AbortSignal} signal */
  async #ask({ id, method, url, body, ifMatch }, signal) {
    const { headers = () => ({}), fetch = globalThis.fetch } = this.#options;
    const all = new Headers(await headers());
    all.set("Idempotency-Key", id);
    all.set("X-Correlation-Id", id);
    if (body !== undefined) all.set("Content-Type", "application/json");
    if (ifMatch !== undefined) all.set("If-Match", ifMatch);
    return fetch(url, { method, headers: all, body: body === undefined ? null : JSON.stringify(body), signal });
  }

  /**
   * Whether the event of a change arrives, or has arrived.
   * @param {Change} change
   */
  async #wasMade({ id }) {
    const late = new Promise((resolve) => this.#clock.setTimeout(() => resolve(undefined), CATCH_UP_MS));
    await Promise.race([this.#caused.when(id), late]);
    this.#caused.forget(id);
    return this.#caused.has(id);
  }

  /**
   * Hand a conflict to the application.
   * @param {Change} change @param {Response} response
   */
  async #solve(change, response) {
    await this.#setState(change, "conflict");
    const { onConflict } = this.#options;
    const resolution = await onConflict?.(change, response);
    this.#states.delete(change.place);
    if (!resolution) return this.#drop(change, () => {});
    await this.#rebase(change, resolution.ifMatch ?? null); // the user has seen what is there now
    // Another request needs another key.
    await this.#kept.replace({ ...change, ...resolution, id: newId(), wasSent: false });
    return true;
  }

  /**
   * Later changes of the same thing started from the same revision: they start from the new one.
   * @param {Change} change @param {string | null} tag  the new revision
   */
  async #rebase(change, tag) {
    if (change.thing === undefined || change.ifMatch === undefined || tag === null) return;
    for (const other of await this.#kept.read()) {
      const follows = other.place > change.place && other.thing === change.thing && other.ifMatch === change.ifMatch;
      if (follows) await this.#kept.replace({ ...other, ifMatch: tag });
    }
  }

  /** @param {Change} change @param {() => void} tell */
  async #drop(change, tell) {
    await this.#kept.remove(change.place);
    this.#states.delete(change.place);
    try {
      tell();
    } catch (error) {
      console.error(error);
    }
    return true;
  }

  /**
   * Show a sent change until its event has come.
   * @param {Change} change @param {string | null} mark
   */
  #settle(change, mark) {
    this.#sent.push({ ...change, state: "sent" });
    const seen = this.#options.client.seen(mark).catch(() => {}); // it was made all the same
    void Promise.race([seen, this.#caused.when(change.id)]).then(() => {
      this.#caused.forget(change.id);
      this.#sent = this.#sent.filter(({ id }) => id !== change.id);
      return this.#show();
    });
  }

  /** @param {Change} change @param {Pending["state"]} state */
  async #setState(change, state) {
    this.#states.set(change.place, state);
    await this.#show();
  }

  /** Show what has changed, and tell the other tabs. */
  async #changed() {
    await this.#show();
    if (!this.#isClosed) this.#channel?.postMessage("changed");
  }

  async #show() {
    if (this.#isClosed) return;
    const waiting = (await this.#kept.read()).map((one) => ({ ...one, state: this.#states.get(one.place) ?? "waiting" }));
    this.pending.set(/** @type {Pending[]} */ ([...this.#sent, ...waiting]));
  }
}

/**
 * Run something while no other tab does. If the browser has no locks, or forbids them with its storage, it runs anyway.
 * @param {string} name @param {() => Promise<void>} run
 */
async function alone(name, run) {
  let isRunning = false;
  const once = () => ((isRunning = true), run());
  try {
    if (globalThis.navigator?.locks) return await navigator.locks.request(name, once);
  } catch (error) {
    if (isRunning) throw error;
  }
  return run();
}

/** @param {string} name @returns {BroadcastChannel | null} null if the browser has none, or forbids it */
function channelOf(name) {
  try {
    return new BroadcastChannel(name);
  } catch {
    return null;
  }
}
