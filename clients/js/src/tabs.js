/**
 * One connection for all tabs of one address and user:
 *
 *     const client = await connectTabs({ url, getToken, user: "u1" });
 *
 * What it returns is used like a `Client`. The connection is in a SharedWorker. Without SharedWorkers, it is in one of the tabs
 * (`tabs_leader.js`). Without Web Locks, each tab has a `Client` of its own.
 */

import { connect } from "./client.js";
import { Cursor, parse } from "./cursor.js";
import { Emitter, guarded } from "./emitter.js";
import { checkedRoom } from "./protocol.js";
import { Store } from "./store.js";
import { browser } from "./surroundings.js";
import { WorkerLine } from "./tabs_lines.js";

/** @typedef {import("./client.js").Client} Client */
/** @typedef {import("./client.js").ClientEvents} ClientEvents */
/** @typedef {import("./client.js").ClientOptions} ClientOptions */
/** @typedef {import("./client.js").Status} Status */
/** @typedef {import("./events.d.ts").EventType} EventType */
/** @typedef {import("./protocol.js").Frame} Frame */
/** @typedef {import("./room.js").RoomStatus} RoomStatus */
/** @typedef {import("./tabs_hub.js").Message} Message */
/** @typedef {import("./tabs_hub.js").Port} Port */
/** @typedef {import("./tabs_lines.js").Line} Line */

/** @type {Status} */
const CLOSED = { state: "disconnected", attempt: 0, maxAttempts: 10, isReconnect: false, isLive: false, isDegraded: false };
/** @type {RoomStatus} */
const JOINING = { state: "joining" };

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
  if (!options.user) throw new TypeError("connectTabs needs `user`, the id of the user whose tabs share a connection");
  for await (const line of linesOf(options)) {
    const client = new TabClient(line, options);
    if (await client.open()) return /** @type {any} */ (client);
    client.close();
  }
  return connect(options);
}

/**
 * The ways in which this tab can share a connection, the best one first.
 * @param {ClientOptions & TabsOptions} options
 * @returns {AsyncGenerator<Line>}
 */
async function* linesOf({ url, user, worker }) {
  if (!globalThis.navigator?.locks) return;
  const name = `beaconfire ${url} ${user}`;
  if (typeof SharedWorker === "function") yield new WorkerLine(name, worker);
  if (typeof BroadcastChannel !== "function") return;
  const { LeaderLine } = await import("./tabs_leader.js");
  yield new LeaderLine(name);
}

/** The connection of all tabs, in one of them. It has the calls of a `Client`. */
export class TabClient {
  #line;
  #options;
  /** @type {Port | null} To the hub. */
  #port = null;
  #isOpen = false;
  /** @type {Emitter<ClientEvents>} */
  #emitter;
  /** @type {Set<keyof ClientEvents>} */
  #listening = new Set();
  /** @type {Map<number, TabSubscription<any>>} */
  #subscriptions = new Map();
  /** @type {Map<number, {question: Message, resolve: (answer: Message) => void}>} What waits in `seen`. */
  #waiting = new Map();
  /** @type {Map<number, AbortController>} The tokens that the hub waits for. */
  #tokens = new Map();
  #lastId = 0;
  /** @type {(() => void) | null} */
  #unwatch = null;
  /** @type {import("./messages.d.ts").PresenceStatus | undefined} */
  #presenceStatus;
  /** @type {string | undefined} The cursor up to which every subscription has its events. The next hub resumes from it. */
  #served;
  /** Where the client event `event` is. */
  #heard = new Cursor();
  userId = "";
  sessionId = "";
  /** @type {string | undefined} The cursor at the last change of the status. */
  cursor;
  /** @type {Store<Status>} */
  connection;

  /** @param {Line} line @param {ClientOptions} options */
  constructor(line, options) {
    this.#line = line;
    this.#options = options;
    this.report = (/** @type {import("./client.js").Problem} */ problem) => {
      if (options.onError) guarded(({ error }) => console.error(error), options.onError, problem);
      else if (problem.kind === "handler") console.error("beaconfire: a handler threw", problem.error);
    };
    this.#emitter = new Emitter(this.report);
    this.connection = new Store(/** @type {Status} */ (CLOSED), this.report);
  }

  /**
   * Resolves with false if there is no hub.
   * @internal
   * @returns {Promise<boolean>}
   */
  open() {
    this.#isOpen = true;
    this.#set({ ...this.status, state: "connecting", attempt: 1 });
    this.#unwatch = browser.watch({
      onOnline: () => this.#send({ kind: "network", isOffline: false }),
      onOffline: () => this.#send({ kind: "network", isOffline: true }),
      onAwake: () => this.#send({ kind: "awake" }),
      onFreeze: () => {},
    });
    return this.#line.open((port, alive) => this.#attach(port, alive));
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
    if (name !== "state" && !this.#listening.has(name)) {
      this.#listening.add(name);
      this.#send({ kind: "listen", name });
    }
    return this.#emitter.on(name, handler);
  }

  /** Join the connection again after `close`, with the same subscriptions. Does nothing if it is already open. */
  connect() {
    if (this.#isOpen) return;
    void this.open().then((hasHub) => {
      if (hasHub || !this.#isOpen) return;
      this.close();
      const error = { code: "unreachable", message: "The connection of the tabs does not answer. Call connect() again" };
      this.#set({ ...CLOSED, state: "error", error });
      this.report({ kind: "connection", error });
    });
  }

  retry() {
    this.connect();
    this.#send({ kind: "retry" });
  }

  /** Leave the connection. It is closed when the last tab leaves it. */
  close() {
    this.#isOpen = false;
    this.#unwatch?.();
    this.#send({ kind: "bye" });
    this.#line.close();
    this.#port = null;
    this.sessionId = "";
    this.#abortTokens();
    for (const one of this.#subscriptions.values()) one.status.set(JOINING);
    this.#set({ ...CLOSED });
    for (const { resolve } of this.#waiting.values()) resolve({ kind: "seen", code: "closed", message: "The client was closed" });
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
    if (!this.#isOpen) throw new NotSeen("closed", "Not connected: call connect() first");
    const id = (this.#lastId += 1);
    const question = { kind: "seen", id, mark, options };
    /** @type {Message} */
    const answer = await new Promise((resolve) => {
      this.#waiting.set(id, { question, resolve });
      this.#send(question);
    });
    if (answer["code"]) throw new NotSeen(answer["code"], answer["message"]);
  }

  /**
   * There is a hub, or another one: tell it everything that this tab wants.
   * @param {Port | null} port @param {string} alive  the lock that this tab holds as long as it lives
   */
  #attach(port, alive) {
    this.#port = port;
    if (port === null) return;
    port.onmessage = ({ data }) => this.#receive(data);
    const { url, transport, batch, maxPauseMs, tokenTimeoutMs } = this.#options;
    const options = { url: new URL(url, globalThis.location?.href).href, transport, batch, maxPauseMs, tokenTimeoutMs };
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    this.#abortTokens();
    this.#send({ kind: "hello", options: given, alive, cursor: this.#served, isOffline: browser.isOffline() });
    if (this.#presenceStatus) this.#send({ kind: "presenceStatus", status: this.#presenceStatus });
    for (const name of this.#listening) this.#send({ kind: "listen", name });
    for (const one of this.#subscriptions.values()) one.enter(this.#served);
    for (const { question } of this.#waiting.values()) this.#send(question);
  }

  /** @param {Message} message */
  #send(message) {
    this.#port?.postMessage(message);
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
        return this.#takeStatus(message);
      case "served":
        this.#served = message["cursor"];
        return;
      case "resync":
        return this.#takeResync(message["cursor"]);
      case "event":
        return this.#takeEvent(message);
      case "problem":
        return this.report(message["problem"]);
      case "room":
        return this.#subscriptions.get(id)?.show(message["status"]);
      case "call":
        return this.#subscriptions.get(id)?.call(message["name"], message["args"], message["cursor"]);
      case "seen":
        this.#waiting.get(id)?.resolve(message);
        return void this.#waiting.delete(id);
      case "token":
        return void this.#giveToken(id, message["reason"]);
      case "noToken":
        return this.#tokens.get(id)?.abort();
    }
  }

  /** @param {Message} message */
  #takeStatus({ status, userId, sessionId, cursor, served }) {
    this.userId = userId || this.userId;
    this.sessionId = sessionId;
    this.cursor = cursor;
    this.#served = served ?? this.#served;
    // Another hub does not know that this tab was connected before.
    const isLoss = this.status.state === "connected" && status.state === "connecting";
    const isReconnect = status.state !== "disconnected" && (status.isReconnect || this.status.isReconnect || isLoss);
    this.#set({ ...status, isReconnect });
  }

  /** @param {Message} message */
  #takeEvent({ name, value, cursor }) {
    // What another hub repeats, to resume, is not passed on again.
    if (name === "event" && value.offset !== undefined && !this.#heard.takeIn(parse(cursor).epoch, value.offset)) return;
    this.#emitter.emit(name, value);
  }

  /** @param {string} cursor  events after it may come again */
  #takeResync(cursor) {
    this.#served = cursor;
    this.#heard.lower(cursor);
    for (const { heard } of this.#subscriptions.values()) heard.lower(cursor);
  }

  /** @param {number} id @param {import("./client.js").TokenReason} reason */
  async #giveToken(id, reason) {
    const abort = new AbortController();
    this.#tokens.set(id, abort);
    const port = this.#port;
    try {
      const token = await this.#options.getToken({ reason, signal: abort.signal });
      port?.postMessage({ kind: "token", id, token });
    } catch (error) {
      const { message = String(error), retry } = /** @type {any} */ (error ?? {});
      port?.postMessage({ kind: "token", id, message, retry });
    } finally {
      if (this.#tokens.get(id) === abort) this.#tokens.delete(id);
    }
  }

  /** No hub waits for a token any more. */
  #abortTokens() {
    for (const abort of this.#tokens.values()) abort.abort();
    this.#tokens.clear();
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
  /** Whether `onReady` was called: it relies on getting every event. */
  #isReady = false;
  /**
   * The last event that was passed on. Another hub repeats some, to resume.
   * @internal
   */
  heard = new Cursor();
  /** @type {Store<RoomStatus>} */
  status;

  /**
   * @param {string} room
   * @param {import("./room.js").RoomHandlers<any>} handlers
   * @param {{cursor?: string | null | undefined}} options
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
    this.status.set(JOINING);
    this.enter(undefined);
  }

  /**
   * Ask the hub for the room, again after it has moved to another tab.
   * @internal
   * @param {string | undefined} served  where this tab resumes
   */
  enter(served) {
    const cursor = this.#isReady ? served : this.#options.cursor;
    this.#tab.send({ kind: "subscribe", id: this.#id, room: this.room, options: { ...this.#options, cursor } });
  }

  unsubscribe() {
    if (this.#id === 0) return;
    this.#tab.send({ kind: "unsubscribe", id: this.#id });
    this.#tab.end(this.#id); // what is on its way is not passed on
    this.#id = 0;
    this.#isReady = false;
    this.heard = new Cursor();
    this.#options = { ...this.#options, cursor: undefined }; // only for the first time
    this.status.set({ state: "idle" });
  }

  /** @param {Frame} message */
  tell(message) {
    this.#tab.send({ kind: "tell", id: this.#id, message });
    return this.status.getSnapshot().state === "joined";
  }

  /**
   * How the room stands.
   * @internal
   * @param {RoomStatus} status
   */
  show(status) {
    if (status.state === "refused" || status.state === "left") this.#isReady = false;
    this.status.set(status);
  }

  /**
   * What the room's handler gets.
   * @internal
   * @param {Exclude<keyof import("./room.js").RoomHandlers, "on">} name @param {any[]} args
   * @param {string | undefined} cursor  where the subscription is
   */
  call(name, args, cursor) {
    const [event, frame] = args;
    if (name === "onEvent" && frame.offset !== undefined && !this.heard.takeIn(parse(cursor ?? "").epoch, frame.offset)) return;
    if (name === "onLeft") this.#isReady = false;
    if (name === "onReady") {
      if (this.#isReady) return; // it is joined again at another hub
      this.#isReady = true;
      if (cursor !== undefined && this.heard.value === undefined) this.heard.reset(cursor);
    }
    guarded(this.#tab.report, /** @type {(...args: any[]) => void} */ (this.handlers[name]), ...args);
    if (name === "onEvent") guarded(this.#tab.report, /** @type {any} */ (this.handlers.on)?.[event.type], event, frame);
  }
}
