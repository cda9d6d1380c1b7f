/**
 * One connection for all tabs of one address and user:
 *
 *     const client = await connectTabs({ url, getToken, user: "u1" });
 *
 * What it returns is used like a `Client`. The connection is in a SharedWorker. A browser without SharedWorkers or Web Locks gets
 * a `Client` of its own for each tab.
 */

import { connect } from "./client.js";
import { Emitter, guarded } from "./emitter.js";
import { checkedRoom } from "./protocol.js";
import { Store } from "./store.js";
import { browser } from "./surroundings.js";

/** How long the worker may take to answer. */
const WELCOME_MS = 3000;

/** @typedef {import("./client.js").Client} Client */
/** @typedef {import("./client.js").ClientEvents} ClientEvents */
/** @typedef {import("./client.js").ClientOptions} ClientOptions */
/** @typedef {import("./client.js").Status} Status */
/** @typedef {import("./events.d.ts").EventType} EventType */
/** @typedef {import("./protocol.js").Frame} Frame */
/** @typedef {import("./room.js").RoomStatus} RoomStatus */
/** @typedef {import("./tabs_hub.js").Message} Message */
/** @typedef {import("./tabs_hub.js").Port} Port */

/**
 * @typedef {object} TabsOptions
 * @property {string} user  the id of the user. Tabs of other users have a connection of their own
 * @property {() => SharedWorker} [worker]  makes the worker from `@beaconfire/client/tabs_worker`, if your bundler does not
 */

/**
 * Open the connection of all tabs, or join it. It resolves before the connection is open.
 * @param {ClientOptions & TabsOptions} options  `storage` and the options for tests do not count
 * @returns {Promise<Client>}  or a `TabClient`, which is used like one
 */
export async function connectTabs(options) {
  const port = await openPort(options);
  return port === null ? connect(options) : /** @type {any} */ (new TabClient(port, options));
}

/**
 * A port to the worker; null if there is none.
 * @param {ClientOptions & TabsOptions} options
 * @returns {Promise<Port | null>}
 */
async function openPort(options) {
  const { url, user, transport, batch, maxPauseMs, tokenTimeoutMs } = options;
  if (!user) throw new TypeError("connectTabs needs `user`, the id of the user whose tabs share a connection");
  if (typeof SharedWorker !== "function" || !globalThis.navigator?.locks) return null;
  const name = `beaconfire ${url} ${user}`;
  try {
    const make = () => new SharedWorker(new URL("./tabs_worker.js", import.meta.url), { type: "module", name });
    const worker = (options.worker ?? make)();
    const alive = `${name} ${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
    const release = await held(alive);
    const wanted = Object.entries({ transport, batch, maxPauseMs, tokenTimeoutMs }).filter(([, value]) => value !== undefined);
    const given = { url: new URL(url, location.href).href, ...Object.fromEntries(wanted) };
    worker.port.postMessage({ kind: "hello", options: given, alive });
    const isWelcome = await new Promise((resolve) => {
      worker.onerror = () => resolve(false);
      worker.port.onmessage = ({ data }) => data.kind === "welcome" && resolve(true);
      setTimeout(() => resolve(false), WELCOME_MS);
    });
    if (isWelcome) return worker.port;
    release();
  } catch {
    // A policy of the page may forbid workers.
  }
  return null;
}

/**
 * Hold a lock as long as this tab lives, so that the worker notices its end.
 * @param {string} name
 * @returns {Promise<() => void>} releases it
 */
function held(name) {
  return new Promise((resolve) => {
    void navigator.locks.request(name, () => new Promise((release) => resolve(() => release(undefined))));
  });
}

/** The connection of all tabs, in one of them. It has the calls of a `Client`. */
export class TabClient {
  #port;
  #options;
  /** @type {Emitter<ClientEvents>} */
  #emitter;
  /** @type {Set<keyof ClientEvents>} */
  #listening = new Set();
  /** @type {Map<number, TabSubscription<any>>} */
  #subscriptions = new Map();
  /** @type {Map<number, (answer: Message) => void>} */
  #waiting = new Map();
  #lastId = 0;
  #unwatch;
  /** @type {import("./messages.d.ts").PresenceStatus | undefined} */
  #presenceStatus;
  userId = "";
  sessionId = "";
  /** @type {string | undefined} The cursor at the last change of the status. */
  cursor;
  /** @type {Store<Status>} */
  connection;

  /** @param {Port} port @param {ClientOptions} options */
  constructor(port, options) {
    this.#port = port;
    this.#options = options;
    this.report = (/** @type {import("./client.js").Problem} */ problem) => {
      if (options.onError) guarded(({ error }) => console.error(error), options.onError, problem);
      else if (problem.kind === "handler") console.error("beaconfire: a handler threw", problem.error);
    };
    this.#emitter = new Emitter(this.report);
    const status = { state: "connecting", attempt: 1, maxAttempts: 10, isReconnect: false, isLive: false, isDegraded: false };
    this.connection = new Store(/** @type {Status} */ (status), this.report);
    port.onmessage = ({ data }) => this.#receive(data);
    this.#unwatch = browser.watch({
      onOnline: () => this.#send({ kind: "network", isOffline: false }),
      onOffline: () => this.#send({ kind: "network", isOffline: true }),
      onAwake: () => this.#send({ kind: "awake" }),
      onFreeze: () => {},
    });
    if (browser.isOffline()) this.#send({ kind: "network", isOffline: true });
  }

  get status() {
    return this.connection.getSnapshot();
  }

  get state() {
    return this.status.state;
  }

  get isLive() {
    return this.status.isLive;
  }

  get isDegraded() {
    return this.status.isDegraded;
  }

  get presenceStatus() {
    return this.#presenceStatus;
  }

  set presenceStatus(status) {
    this.#presenceStatus = status;
    this.#send({ kind: "presenceStatus", status });
  }

  /**
   * @template {keyof ClientEvents} Name
   * @param {Name} name @param {(value: ClientEvents[Name]) => void} handler
   */
  on(name, handler) {
    if (name !== "state" && !this.#listening.has(name)) this.#send({ kind: "listen", name });
    this.#listening.add(name);
    return this.#emitter.on(name, handler);
  }

  /** The worker connects. */
  connect() {}

  retry() {
    this.#send({ kind: "retry" });
  }

  /** Leave the connection. It is closed when the last tab leaves it. */
  close() {
    this.#unwatch();
    this.#send({ kind: "bye" });
    this.#set({ ...this.status, state: "disconnected", attempt: 0, isLive: false });
    for (const answer of this.#waiting.values()) answer({ kind: "seen", code: "closed", message: "The client was closed" });
    this.#waiting.clear();
  }

  /**
   * @template {EventType} [Type=EventType]
   * @param {string} room
   * @param {import("./room.js").RoomHandlers<Type>} [handlers]
   * @param {import("./room.js").RoomOptions<Type>} [options]
   */
  subscribe(room, handlers = {}, { enabled = true, ...options } = {}) {
    /** @type {TabSubscription<Type>} */
    const subscription = new TabSubscription(checkedRoom(room), handlers, options, {
      report: this.report,
      send: (message) => this.#send(message),
      begin: () => {
        this.#subscriptions.set((this.#lastId += 1), subscription);
        return this.#lastId;
      },
      end: (id) => this.#subscriptions.delete(id),
    });
    if (enabled) subscription.setEnabled(true);
    return subscription;
  }

  /** @param {Frame} message */
  tell(message) {
    this.#send({ kind: "tell", message });
    return this.state === "connected";
  }

  /**
   * @param {string | number | null | undefined} mark
   * @param {{timeoutMs?: number}} [options]
   */
  async seen(mark, options) {
    const { NotSeen } = await import("./seen.js");
    const id = (this.#lastId += 1);
    /** @type {Message} */
    const answer = await new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#send({ kind: "seen", id, mark, options });
    });
    if (answer["code"]) throw new NotSeen(answer["code"], answer["message"]);
  }

  /** @param {Message} message */
  #send(message) {
    this.#port.postMessage(message);
  }

  /** @param {Status} status */
  #set(status) {
    this.connection.set(status);
    this.#emitter.emit("state", status);
  }

  /** @param {Message} message */
  #receive(message) {
    const { id } = message;
    switch (message.kind) {
      case "status":
        this.userId = message["userId"];
        this.sessionId = message["sessionId"];
        this.cursor = message["cursor"];
        return this.#set(message["status"]);
      case "event":
        return this.#emitter.emit(message["name"], message["value"]);
      case "problem":
        return this.report(message["problem"]);
      case "room":
        return this.#subscriptions.get(id)?.status.set(message["status"]);
      case "call":
        return this.#subscriptions.get(id)?.call(message["name"], message["args"]);
      case "seen":
        this.#waiting.get(id)?.(message);
        return void this.#waiting.delete(id);
      case "token":
        return void this.#giveToken(id, message["reason"]);
    }
  }

  /** @param {number} id @param {import("./client.js").TokenReason} reason */
  async #giveToken(id, reason) {
    try {
      const token = await this.#options.getToken({ reason, signal: new AbortController().signal });
      this.#send({ kind: "token", id, token });
    } catch (error) {
      const { message = String(error), retry } = /** @type {any} */ (error ?? {});
      this.#send({ kind: "token", id, message, retry });
    }
  }
}

/**
 * A subscription of a tab. It has the calls of a `Subscription`.
 * @template {EventType} [Type=EventType]
 */
export class TabSubscription {
  #options;
  #tab;
  #id = 0;
  /** @type {Store<RoomStatus>} */
  status;

  /**
   * @param {string} room
   * @param {import("./room.js").RoomHandlers<any>} handlers
   * @param {object} options
   * @param {{report: import("./emitter.js").Report, send: (message: Message) => void, begin: () => number, end: (id: number) => void}} tab
   *   `begin` returns an id, under which it is called until `end`
   */
  constructor(room, handlers, options, tab) {
    this.room = room;
    this.handlers = handlers;
    this.#options = options;
    this.#tab = tab;
    this.status = new Store(/** @type {RoomStatus} */ ({ state: "idle" }), tab.report);
  }

  /** @param {import("./room.js").RoomHandlers<Type>} handlers */
  setHandlers(handlers) {
    this.handlers = handlers;
  }

  /** @param {boolean} isEnabled */
  setEnabled(isEnabled) {
    if (isEnabled === (this.#id !== 0)) return;
    if (!isEnabled) return this.unsubscribe();
    this.#id = this.#tab.begin();
    this.#tab.send({ kind: "subscribe", id: this.#id, room: this.room, options: this.#options });
    this.#options = { ...this.#options, cursor: undefined }; // only for the first time
  }

  unsubscribe() {
    if (this.#id === 0) return;
    this.#tab.send({ kind: "unsubscribe", id: this.#id });
    this.#tab.end(this.#id); // what is on its way is not passed on
    this.#id = 0;
    this.status.set({ state: "idle" });
  }

  /** @param {Frame} message */
  tell(message) {
    this.#tab.send({ kind: "tell", id: this.#id, message });
    return this.status.getSnapshot().state === "joined";
  }

  /**
   * What the room's handler gets.
   * @internal
   * @param {Exclude<keyof import("./room.js").RoomHandlers, "on">} name @param {any[]} args
   */
  call(name, args) {
    guarded(this.#tab.report, /** @type {(...args: any[]) => void} */ (this.handlers[name]), ...args);
    const [event, frame] = args;
    if (name === "onEvent") guarded(this.#tab.report, /** @type {any} */ (this.handlers.on)?.[event.type], event, frame);
  }
}
