/**
 * The connection of an application: one socket that is kept alive, its rooms and its cursor. It follows PROTOCOL.md.
 *
 *     disconnected ── connect() ──▶ connecting ◀──▶ connected        any ── close() ──▶ disconnected
 *                                       └── refused, or ten failures in a row ──▶ error ── retry() ──▶ connecting
 *
 * There are at most two links: the one in use and the one that takes over from it, after `goaway` or on the way back to
 * a WebSocket. A link is a WebSocket or, where those are blocked, a fallback over HTTP (`detour.js`).
 */

import { Backoff, MAX_ATTEMPTS } from "./backoff.js";
import { Cursor, isCursor } from "./cursor.js";
import { Emitter, guarded } from "./emitter.js";
import { Health } from "./health.js";
import { describeClose, isTooLarge, retryOf } from "./protocol.js";
import { RoomTable } from "./room.js";
import { bytesOf, LEAST_FRAME_BYTES, USUAL_LIMITS } from "./size.js";
import { Store } from "./store.js";
import { browser, systemClock } from "./surroundings.js";
import { Timer } from "./timer.js";
import { BROKE_OFF, Link } from "./link.js";

const NAME = "beaconfire-js";
const VERSION = "0.1.0";

/** How long a connection may take, from asking for a token to `connection.ack`. The gateway waits 10 s for `connect`. */
const CONNECT_TIMEOUT_MS = 10_000;
/** How long one way may take if another one is left to try: a proxy may swallow a handshake, or keep back a stream. */
const WAY_TIMEOUT_MS = 5000;
/** A connection that lasted this long is a success. One that ends sooner counts as a failed attempt, to avoid a loop. */
const STABLE_MS = 5000;
/** The longest random delay that a client adds to `afterMs` of a `goaway`. */
const MOST_SPREAD_MS = 1000;
/** Without a network, attempts do not count, and the client makes one this often: the browser may be wrong. */
const OFFLINE_PAUSE_MS = 30_000;
/** How many event ids are remembered for `seen`: an event may arrive before the answer that names it. */
const REMEMBERED_IDS = 1000;
/** How long `getToken` may take. */
const TOKEN_TIMEOUT_MS = 15_000;
/** The error's code when every attempt has failed. */
const UNREACHABLE = "unreachable";

/** @typedef {Link | import("./fallback.js").FallbackLink} AnyLink */
/** @typedef {import("./detour.js").Detour} Detour */
/** @typedef {import("./renewal.js").Renewal} Renewal */
/** @typedef {import("./seen.js").Sightings} Sightings */
/** @type {import("./ways.js").Transport[]} */
const TRANSPORTS = ["auto", "websocket", "sse", "poll"];

/** @typedef {"disconnected" | "connecting" | "connected" | "error"} State */
/** @typedef {"connect" | "reconnect" | "refused" | "expiring"} TokenReason */
/** @typedef {import("./events.d.ts").EventType} EventType */
/** @typedef {import("./protocol.js").EventFrame} EventFrame */
/** @typedef {import("./protocol.js").Frame} Frame */
/** @typedef {import("./protocol.js").Refusal} Refusal */
/** @typedef {import("./messages.d.ts").ResyncReason} ResyncReason */

/**
 * @typedef {object} Status
 * @property {State} state
 * @property {number} attempt  the number of the current or next attempt, from 1. In the state `error`, how many there were. Else 0
 * @property {number} maxAttempts
 * @property {boolean} isReconnect  whether there was a connection before
 * @property {import("./ways.js").Way} [transport]  what connects it, if it is connected
 * @property {boolean} isLive  whether it is connected by a WebSocket. Without one, events may come some seconds late
 * @property {boolean} isDegraded  whether the gateway said that events may be late
 * @property {{code: string, message: string}} [error]  why the state is `error`
 * @property {{code: string, message: string}} [reason]  in the state `connecting`, why the last connection or attempt ended
 */

/**
 * Something went wrong, for the application's own error reporting.
 * @typedef {object} Problem
 * @property {"handler" | "token" | "connection" | "room" | "message"} kind  what failed: a handler of the application threw,
 *   `getToken` failed, the connection ended in the state `error`, a room was refused, or the gateway could not use a message
 * @property {unknown} error  what was thrown, or `{code, message}`
 * @property {string} [room]
 */

/**
 * @typedef {object} ClientEvents
 * @property {Status} state  the state, the attempt or the transport has changed
 * @property {EventFrame} event  emitted once for each frame, even if it matches several rooms
 * @property {{rooms: string[], events: EventFrame[]}} restored  what happened in these rooms since the cursor of their
 *   subscription; some of it may already have been emitted as `event` for other rooms
 * @property {{cursor: string}} position
 * @property {{rooms: string[], reason: ResyncReason, cursor: string}} resync  load the state of these rooms again
 * @property {{reason: string}} degraded  events may be late
 * @property {undefined} live  events flow again; nothing was lost
 * @property {{room: string, reason: import("./room.js").LeaveReason}} left
 * @property {{root: string, role: string}} role
 * @property {Refusal} error  the gateway could not use what the client sent
 */

/**
 * `signal` is aborted when `tokenTimeoutMs` has passed.
 * @typedef {(why: {reason: TokenReason, signal: AbortSignal}) => string | Promise<string>} GetToken
 */

/**
 * @typedef {object} ClientOptions
 * @property {string} url  ws:// or wss://
 * @property {GetToken} getToken  returns an access token. Reject with an error that has `retry: "no"` if trying again is useless,
 *   as after a sign-out. Any other rejection counts as a failed attempt
 * @property {number} [tokenTimeoutMs]  how long `getToken` may take, 15,000 by default
 * @property {import("./storage.js").KeptCursor} [storage]  keeps the cursor, so that the page resumes after a reload. Only for
 *   applications that keep their state over a reload too
 * @property {number} [maxPauseMs]  the longest pause between two attempts, 32,000 by default. At least 1000
 * @property {boolean} [batch]  ask the gateway for several events in one message, which busy pages parse faster
 * @property {boolean} [debug]  print what is sent and received on the console, without tokens
 * @property {(problem: Problem) => void} [onError]  gets what went wrong, for error reporting. Without it, the errors of
 *   handlers are printed on the console
 * @property {import("./ways.js").Transport} [transport]  `auto` by default: a WebSocket and, where that is blocked, server-sent
 *   events or long polling. Any other value allows only that one
 * @property {typeof WebSocket} [WebSocket]
 * @property {typeof fetch} [fetch]  for the fallbacks
 * @property {import("./surroundings.js").Clock} [clock]
 * @property {import("./surroundings.js").Surroundings} [surroundings]
 * @property {() => number} [random]
 */

/**
 * Open a connection, and keep it open.
 *
 *     const client = connect({ url: "wss://live.example/ws", getToken });
 *     client.subscribe("campaign:c1", { onEvent: (event) => show(event) });
 * @param {ClientOptions} options
 */
export function connect(options) {
  const client = new Client(options);
  client.connect();
  return client;
}

const CLOSED = { state: "disconnected", attempt: 0, maxAttempts: MAX_ATTEMPTS, isReconnect: false, isLive: false, isDegraded: false };

export class Client {
  #options;
  #clock;
  #surroundings;
  /** @type {import("./emitter.js").Report} */
  #report;
  /** @type {Emitter<ClientEvents>} */
  #emitter;
  #cursor = new Cursor();
  #backoff;
  #health;
  /** @type {Renewal | undefined} Loaded when a token expires. */
  #renewal;
  #rooms;
  /** @type {Sightings | undefined} Loaded with the first `seen`. */
  #sightings;
  /** @type {Set<string>} The ids of the last events. */
  #recent = new Set();
  #resyncs = 0;
  /** @type {Detour | null} Loaded when a WebSocket does not get through. */
  #detour = null;
  #transport;

  /** The id of the user whose token connected the client last; empty before that. */
  userId = "";
  /**
   * The user's status in the next sessions. `keepStatus` of `@beaconfire/client/people` sets it.
   * @type {import("./messages.d.ts").PresenceStatus | undefined}
   */
  presenceStatus;
  /**
   * The status of the connection, with each change of it.
   * @type {Store<Status>}
   */
  connection;
  /** @type {Status["reason"]} Why the last connection or attempt ended. */
  #reason;
  /** @type {AnyLink | null} The link in use. */
  #link = null;
  /** @type {AnyLink | null} The link that is being opened. */
  #candidate = null;
  /** The token of the candidate. */
  #token = "";
  /** The last acknowledged session. The gateway may not know yet that its connection is gone. */
  #sessionId = "";
  /** The largest message to send: the limit of the last gateway or, before the first ack, the smallest possible limit. */
  #maxFrameBytes = LEAST_FRAME_BYTES;
  /** How long the gateway asks us to wait before the next attempt. */
  #retryAfterMs = 0;
  #isDegraded = false;
  /** Whether `degraded` was emitted, and `live` not yet. It outlives a reconnect. */
  #saidDegraded = false;
  /** Whether the connection in use has lasted for STABLE_MS. */
  #isProven = false;
  /** Set by a success, so that a refused token is renewed only once. */
  #mayRenew = true;
  /** Whether the last token was refused, and there is no new one yet. */
  #isRefused = false;
  /** @type {number | undefined} The last close code, until a gateway has acknowledged a `connect` that reports it. */
  #lastClose;
  /** @type {number | undefined} When the last connection was lost, until a gateway has acknowledged the next one. */
  #lostAt;
  #lastId = 0;
  /** @type {Map<number, (answer: Frame) => void>} Handlers for the answers to messages of the socket in use, by id. */
  #unanswered = new Map();
  #attemptTimer;
  #pauseTimer;
  #stableTimer;
  /** @type {(() => void) | null} */
  #unwatch = null;

  /** @param {ClientOptions} options */
  constructor(options) {
    this.debug = options.debug ?? false;
    this.#options = options;
    this.#report = (problem) => {
      const { onError } = options;
      if (onError) guarded(({ error }) => console.error(error), onError, problem);
      else if (problem.kind === "handler") console.error("beaconfire: a handler threw", problem.error);
    };
    this.#emitter = new Emitter(this.#report);
    this.connection = new Store(/** @type {Status} */ (CLOSED), this.#report);
    this.#clock = options.clock ?? systemClock;
    this.#surroundings = options.surroundings ?? browser;
    this.#attemptTimer = new Timer(this.#clock);
    this.#pauseTimer = new Timer(this.#clock);
    this.#stableTimer = new Timer(this.#clock);
    this.#transport = options.transport ?? "auto";
    if (!TRANSPORTS.includes(this.#transport)) {
      throw new TypeError(`transport: expected one of ${TRANSPORTS}, got ${this.#transport}`);
    }
    const random = options.random ?? Math.random;
    this.#backoff = new Backoff(random, options.maxPauseMs);
    this.#health = new Health(
      this.#clock,
      () => this.#request({ type: "ping" }) > 0,
      () => this.#link && this.#lost(this.#link, BROKE_OFF, "No answer to a ping"),
    );
    /** @type {import("./room.js").Send} */
    const send = (message, onAnswer) => this.#request(message, onAnswer);
    this.#rooms = new RoomTable(this.#clock, random, send, this.#cursor, this.#report);
    const kept = options.storage?.read();
    if (isCursor(kept)) this.#cursor.reset(kept);
  }

  /** @returns {State} */
  get state() {
    return this.status.state;
  }

  /** The same as `connection.getSnapshot()`. */
  get status() {
    return this.connection.getSnapshot();
  }

  /** Whether it is connected by a WebSocket. Without one, events may come some seconds late. */
  get isLive() {
    return this.status.isLive;
  }

  get isDegraded() {
    return this.#isDegraded;
  }

  /** @returns {string | undefined} Opaque. */
  get cursor() {
    return this.#cursor.value;
  }

  /**
   * @returns {string} The gateway's name for this connection, with which a service can send to it alone. Each connection has
   *   another one. Empty without a connection.
   */
  get sessionId() {
    return this.#link === null ? "" : this.#sessionId;
  }

  /**
   * @template {keyof ClientEvents} Name
   * @param {Name} name
   * @param {(value: ClientEvents[Name]) => void} handler
   * @returns {() => void} removes the handler
   */
  on(name, handler) {
    return this.#emitter.on(name, handler);
  }

  /** Open the connection and keep it open. Does nothing if it is already open. */
  connect() {
    if (this.state === "connecting" || this.state === "connected") return;
    this.#unwatch ??= this.#surroundings.watch({
      onOnline: () => this.#networkIsBack(),
      onOffline: () => this.#health.check(),
      onAwake: () => this.#wake(),
      onFreeze: () => this.#freeze(),
    });
    this.#resetAttempts();
    this.#dial("connect");
  }

  /** Try to connect now, after `error` or instead of waiting for the next attempt. Attempts are counted from 1 again. */
  retry() {
    if (this.state === "connected" || this.#candidate !== null) return;
    if (this.state !== "connecting") return this.connect();
    this.#backoff.reset();
    this.#dial("reconnect");
  }

  /** Close the connection. The next `connect()` uses the same subscriptions and cursor. */
  close() {
    this.#unwatch?.();
    this.#unwatch = null;
    this.#lostAt = undefined; // the time until the next `connect` is the application's choice
    this.#hangUp();
    this.#setState("disconnected");
  }

  /**
   * Subscribe to a room. Several subscriptions of one room share it on the wire. All survive reconnects.
   * @template {EventType} [Type=EventType]
   * @param {string} room  `campaign:c1`, `campaign:c1/settlement:s1` or, if the root is unknown, `settlement:s1`
   * @param {import("./room.js").RoomHandlers<Type>} [handlers]
   * @param {import("./room.js").RoomOptions<Type>} [options]
   * @returns {import("./room.js").Subscription<Type>}
   */
  subscribe(room, handlers = {}, options = {}) {
    return this.#rooms.add(room, handlers, options);
  }

  /**
   * Send a message of the protocol, such as `presence`. Returns false without a connection.
   * @param {Frame} message
   * @param {(answer: Frame) => void} [onAnswer]  is not called if the connection ends first. The answer comes after all events
   *   that were missed: that to a `ping` says that a resume is complete
   */
  tell(message, onAnswer) {
    return this.#request(message, onAnswer) > 0;
  }

  /**
   * Wait until a change has come back. Resolves when its event was passed to its handlers. If no subscription wants the event,
   * it resolves when everything up to its offset was applied. Rejects with `NotSeen` (`@beaconfire/client/seen`), whose code is
   * `timeout`, `closed` (the client is not connected, or stopped) or `resync` (events were missed, and the state is loaded
   * again anyway).
   * @param {string | number | null | undefined} mark  `X-Beaconfire-Offset` or `X-Beaconfire-Pending` of the answer to the
   *   change. If the answer has neither, the change caused no event, and there is nothing to wait for
   * @param {{timeoutMs?: number}} [options]
   * @returns {Promise<void>}
   */
  async seen(mark, options = {}) {
    const resyncs = this.#resyncs;
    const { Sightings } = await import("./seen.js");
    this.#sightings ??= new Sightings(this.#clock, {
      hasSeen: (id) => this.#recent.has(id),
      servedUpTo: () => this.#cursor.value && this.#rooms.servedUpTo(this.#cursor.value),
    });
    return this.#sightings.wait(mark, { ...options, status: this.status, hasMissed: resyncs !== this.#resyncs });
  }

  // Opening.

  /** @param {Exclude<TokenReason, "expiring">} reason */
  #dial(reason) {
    this.#pauseTimer.stop();
    const link = this.#propose(this.#detour?.first ?? "websocket");
    if (this.#link === null) this.#setState("connecting");
    this.#attemptTimer.stop();
    this.#fetchToken(this.#isRefused ? "refused" : reason).then(
      (token) => {
        if (link !== this.#candidate) return;
        this.#isRefused = false;
        this.#allow(link, CONNECT_TIMEOUT_MS);
        this.#open(link, token);
      },
      (error) => this.#failed(link, BROKE_OFF, `No token: ${error?.message ?? error}`, error?.retry === "no"),
    );
  }

  /**
   * Give the candidate some time.
   * @param {AnyLink} link @param {number} ms
   */
  #allow(link, ms) {
    this.#attemptTimer.set(ms, () => this.#notThrough(link, BROKE_OFF, `No connection in time (${link.way})`));
  }

  /**
   * Make a link the candidate.
   * @param {import("./ways.js").Way} way
   * @returns {AnyLink}
   */
  #propose(way) {
    /** @type {import("./link.js").LinkHandlers} */
    const handlers = {
      onOpen: () => this.#introduce(link),
      onFrame: (frame) => this.#receive(link, frame),
      onEnd: (code, why) => (link === this.#candidate ? this.#notThrough(link, code, why) : this.#lost(link, code, why)),
    };
    /** @type {AnyLink} */
    const link =
      way === "websocket" || this.#detour === null
        ? new Link(this.#options.url, this.#WebSocket, handlers, this.#options.batch)
        : this.#detour.link(way, handlers);
    this.#candidate = link;
    return link;
  }

  get #WebSocket() {
    return this.#options.WebSocket ?? globalThis.WebSocket;
  }

  /** Whether HTTP may take the place of a WebSocket that does not get through. */
  get #mayDetour() {
    return this.#transport !== "websocket" && this.#link === null;
  }

  /** @param {TokenReason} reason */
  async #fetchToken(reason) {
    const { getToken, tokenTimeoutMs = TOKEN_TIMEOUT_MS } = this.#options;
    const abort = new AbortController();
    const { signal } = abort;
    const timer = new Timer(this.#clock);
    const late = new Promise((_, reject) => {
      timer.set(tokenTimeoutMs, () => {
        abort.abort();
        reject(new Error(`getToken took longer than ${tokenTimeoutMs / 1000} s`));
      });
    });
    try {
      const token = await Promise.race([getToken({ reason, signal }), late]);
      if (typeof token !== "string" || token === "") throw new TypeError(`getToken: expected a token, got ${typeof token}`);
      return token;
    } catch (error) {
      this.#report({ kind: "token", error });
      throw error;
    } finally {
      timer.stop();
    }
  }

  /** @param {AnyLink} link @param {string} token */
  #open(link, token) {
    this.#token = token;
    if (link.way === "websocket" && this.#mayDetour) {
      const isPossible = this.#transport === "auto" && typeof this.#WebSocket === "function";
      if (!isPossible) return this.#notThrough(link, BROKE_OFF, "There is no WebSocket");
      // Not for long, if there is another way.
      if (!this.#isKnown && this.#detour?.after("websocket") !== null) this.#allow(link, WAY_TIMEOUT_MS);
    }
    try {
      link.open();
    } catch (error) {
      this.#failed(link, BROKE_OFF, String(error), true); // the address is invalid: trying again changes nothing
    }
  }

  /**
   * A link ended before it was acknowledged. If nothing came from the gateway, this way may be blocked: try the next one.
   * @param {AnyLink} link @param {number} code @param {string} reason
   */
  async #notThrough(link, code, reason) {
    if (link !== this.#candidate) return;
    if (code !== BROKE_OFF || !this.#mayDetour) return this.#failed(link, code, reason); // else the old link works
    this.#attemptTimer.stop();
    let problem = "";
    if (this.#detour === null) await this.#loadDetour().catch((error) => (problem = `. No fallback: ${error}`));
    if (link !== this.#candidate) return;
    this.#detour?.failed(link.way);
    const next = this.#detour?.after(link.way);
    if (!next) return this.#failed(link, code, reason + problem);
    this.#log("×", { code, reason });
    this.#dropCandidate();
    const other = this.#propose(next);
    this.#allow(other, this.#detour?.after(next) ? WAY_TIMEOUT_MS : CONNECT_TIMEOUT_MS);
    this.#open(other, this.#token);
  }

  async #loadDetour() {
    const { Detour } = await import("./detour.js");
    const { url, fetch = globalThis.fetch } = this.#options;
    const means = { url, transport: this.#transport, fetch, WebSocket: this.#WebSocket, clock: this.#clock, knowsSocket: this.#isKnown };
    this.#detour ??= new Detour(means, () => this.#moveSoon(0, 0));
  }

  /** Whether there was a connection before. */
  get #isKnown() {
    return this.status.isReconnect;
  }

  /** @param {AnyLink} link */
  #introduce(link) {
    const message = {
      type: "connect",
      id: (this.#lastId += 1),
      token: this.#token,
      rooms: [],
      cursor: this.#cursor.value,
      client: { name: NAME, version: VERSION },
      status: this.presenceStatus,
      lastClose: this.#lastClose,
      awayMs: this.#lostAt && Math.max(0, this.#clock.now() - this.#lostAt),
      replaces: this.#sessionId || undefined,
    };
    const introduction = { ...message, ...this.#rooms.introduce(this.#maxFrameBytes - bytesOf(message)) };
    this.#log("→", introduction);
    link.send(introduction);
  }

  /** @param {AnyLink} link @param {Frame} ack */
  #accept(link, ack) {
    this.#attemptTimer.stop();
    const leftAt = this.#cursor.value;
    this.#candidate = null;
    this.#retryAfterMs = 0;
    this.#lastClose = this.#lostAt = undefined;
    this.#leaveLink(); // the old connection, if any: from the ack on, only the new one counts
    this.#link = link;
    this.#detour?.worked(link.way);
    this.#sessionId = ack["sessionId"];
    const limits = { ...USUAL_LIMITS, ...ack["limits"] };
    this.#maxFrameBytes = limits.maxFrameBytes;
    this.#isDegraded = ack["degraded"] === true; // before the state is emitted: the light must not flash green
    this.userId = ack["userId"];
    /** @type {string | undefined} The name of the gateway that acknowledged the last connection, if it has one. */
    this.gateway = ack["gateway"];
    this.#options.storage?.connectedAs(this.userId);
    this.#cursor.begin(ack["cursor"]);
    this.#isProven = false;
    this.#stableTimer.set(STABLE_MS, () => {
      this.#isProven = true;
      this.#resetAttempts();
    });
    this.#health.start(ack["heartbeatS"]);
    this.#setState("connected");
    if (this.#link !== link) return; // a handler has closed it
    this.#sayDegraded("broker_unreachable"); // or `live`: the old gateway's trouble is not the new one's
    this.#rooms.connected(ack["rooms"] ?? {}, leftAt, limits);
    this.#moved();
  }

  #resetAttempts() {
    this.#backoff.reset();
    this.#mayRenew = true;
  }

  // Ending.

  /**
   * An attempt has failed.
   * @param {AnyLink} link @param {number} code @param {string} reason @param {boolean} [isFinal]
   */
  #failed(link, code, reason, isFinal = false) {
    if (link !== this.#candidate) return;
    this.#log("×", { code, reason });
    this.#dropCandidate();
    if (this.#link !== null && this.#link.way !== link.way) return this.#detour?.worked(this.#link.way); // it looks again later
    this.#lastClose = code;
    if (this.#link === null) this.#reason = describeClose(code, reason);
    this.#countFailure();
    if (isTooLarge(code) && this.#maxFrameBytes > LEAST_FRAME_BYTES) {
      // This gateway accepts less than the last one: try the smallest `connect`; the other rooms follow after the ack.
      this.#maxFrameBytes = LEAST_FRAME_BYTES;
      return this.#pause();
    }
    this.#goOn(code, reason, isFinal);
  }

  /**
   * The connection in use is gone.
   * @param {AnyLink} link @param {number} code @param {string} reason
   */
  #lost(link, code, reason) {
    if (link !== this.#link) return;
    this.#log("×", { code, reason });
    this.#leaveLink();
    this.#rooms.lost();
    this.#lastClose = code;
    this.#lostAt = this.#clock.now();
    this.#reason = describeClose(code, reason);
    if (this.#candidate !== null) return this.#setState("connecting");
    if (!this.#isProven) this.#countFailure();
    this.#goOn(code, reason, false);
  }

  /**
   * Look up what to do after a close code, and do it.
   * @param {number} code @param {string} reason @param {boolean} isFinal
   */
  #goOn(code, reason, isFinal) {
    const retry = isFinal ? "no" : retryOf(code);
    if (this.#link !== null && (retry !== "token" || !this.#mayRenew)) {
      return this.#pause(); // the attempt was to take over: the old connection still works
    }
    if (retry === "no" || (retry === "token" && !this.#mayRenew)) {
      return this.#stop(isFinal ? { code: "unusable", message: reason } : describeClose(code, reason));
    }
    if (retry === "token") {
      this.#mayRenew = false;
      this.#isRefused = true;
      return this.#dial("refused");
    }
    if (this.#backoff.isExhausted) {
      return this.#stop({ code: UNREACHABLE, message: `No connection after ${MAX_ATTEMPTS} attempts` });
    }
    this.#pause();
  }

  #pause() {
    const isOffline = this.#surroundings.isOffline();
    const pause = isOffline ? OFFLINE_PAUSE_MS : this.#backoff.next() + this.#retryAfterMs;
    this.#retryAfterMs = 0;
    if (this.#link === null) this.#setState("connecting");
    this.#pauseTimer.set(pause, () => this.#dial("reconnect"));
  }

  /** Without a network an attempt says nothing about the gateway. */
  #countFailure() {
    if (!this.#surroundings.isOffline()) this.#backoff.fail();
  }

  #networkIsBack() {
    if (this.#link !== null) {
      this.#detour?.look();
      return this.#health.check();
    }
    this.#detour?.forget();
    if (this.state !== "connecting" && !this.#hasGivenUp) return;
    this.#dropCandidate(); // an earlier attempt may hang in a network that is gone
    this.retry();
  }

  /** The user is back at the page: stop waiting, and try again even after the last attempt. */
  #wake() {
    this.#health.check(); // it finds a socket that was closed while the page was frozen
    if (this.#hasGivenUp) return this.retry();
    if (this.state === "connecting" && this.#link === null && this.#candidate === null) this.#dial("reconnect");
  }

  /** The page goes into the browser's back/forward cache, which takes only pages without a socket. */
  #freeze() {
    if (this.state !== "connecting" && this.state !== "connected") return;
    this.#hangUp();
    this.#setState("connecting");
  }

  /** Whether it stopped only because no gateway answered. */
  get #hasGivenUp() {
    return this.state === "error" && this.status.error?.code === UNREACHABLE;
  }

  /** @param {{code: string, message: string}} error */
  #stop(error) {
    this.#hangUp();
    this.#setState("error", error);
  }

  #hangUp() {
    this.#dropCandidate();
    this.#leaveLink();
    this.#rooms.lost();
  }

  #dropCandidate() {
    this.#attemptTimer.stop();
    this.#candidate?.abandon();
    this.#candidate = null;
  }

  #leaveLink() {
    this.#stableTimer.stop();
    this.#pauseTimer.stop();
    this.#detour?.stop();
    this.#health.stop();
    this.#renewal?.stop();
    this.#unanswered.clear();
    this.#isDegraded = false;
    this.#link?.abandon();
    this.#link = null;
  }

  // Frames.

  /** @param {AnyLink} link @param {Frame} frame */
  #receive(link, frame) {
    this.#log("←", frame);
    if (link === this.#candidate) {
      if (frame.type === "connection.ack") this.#accept(link, frame);
      if (frame.type === "error") this.#retryAfterMs = frame["retryAfterMs"] ?? 0; // the close that follows cannot carry it
    } else if (link === this.#link) {
      this.#health.heard();
      this.#take(frame);
      this.#moved();
    }
  }

  /** Something was applied: store the cursor, and resolve `seen` promises. */
  #moved() {
    const cursor = this.#cursor.value;
    this.#options.storage?.write(cursor && this.#rooms.servedUpTo(cursor));
    this.#sightings?.look();
  }

  /** @param {Frame} frame */
  #take(frame) {
    switch (frame.type) {
      case "event":
        return this.#takeEvent(/** @type {EventFrame} */ (frame));
      case "reply":
        return this.#takeAnswer(frame);
      case "position":
        return this.#takePosition(frame["cursor"]);
      case "restored":
        return this.#takeRestored(/** @type {Frame & {id: number, rooms: string[], events: EventFrame[]}} */ (frame));
      case "resync":
        return this.#takeResync(/** @type {Frame & ClientEvents["resync"]} */ (frame));
      case "room.left":
        this.#rooms.left(/** @type {Frame & ClientEvents["left"]} */ (frame));
        return this.#emitter.emit("left", { room: frame["room"], reason: frame["reason"] });
      case "presence":
      case "typing":
      case "selection":
        return this.#rooms.people(frame);
      case "role.changed":
        return this.#emitter.emit("role", { root: frame["root"], role: frame["role"] });
      case "token.expiring":
        return void this.#renew(frame["inS"]);
      case "degraded":
        this.#isDegraded = true;
        return this.#sayDegraded(frame["reason"]);
      case "live":
        this.#isDegraded = false;
        return this.#sayDegraded("");
      case "goaway":
        return this.#moveSoon(frame["afterMs"], frame["withinMs"]);
      case "error":
        this.#emitter.emit("error", /** @type {Refusal} */ (/** @type {unknown} */ (frame)));
        this.#report({ kind: "message", error: frame });
        return this.#takeAnswer({ ...frame, success: false, error: frame });
      // Other types belong to a newer protocol, and are ignored.
    }
  }

  /**
   * Emit `degraded` or `live` if that has changed.
   * @param {string} reason
   */
  #sayDegraded(reason) {
    const status = this.status;
    if (status.isDegraded !== this.#isDegraded) this.connection.set({ ...status, isDegraded: this.#isDegraded });
    if (this.#isDegraded === this.#saidDegraded) return;
    this.#saidDegraded = this.#isDegraded;
    if (this.#isDegraded) this.#emitter.emit("degraded", { reason });
    else this.#emitter.emit("live", undefined);
  }

  /** @param {EventFrame} frame */
  #takeEvent(frame) {
    // An event without an offset is applied in any case. It is ephemeral, or the gateway held it back (conflation). Then it
    // has the cursor that this session has reached.
    if (frame.offset !== undefined && !this.#cursor.takeIn(this.#cursor.epoch, frame.offset)) return;
    if (frame.cursor !== undefined) this.#cursor.advance(frame.cursor);
    this.#emitter.emit("event", frame);
    this.#rooms.deliver(frame);
    this.#note(frame);
  }

  /** @param {{id: number, rooms: string[], events: EventFrame[]}} restored */
  #takeRestored(restored) {
    this.#emitter.emit("restored", restored);
    this.#rooms.restore(restored);
    for (const frame of restored.events) this.#note(frame);
  }

  /** @param {EventFrame} frame */
  #note({ event: { id } }) {
    this.#recent.delete(id);
    this.#recent.add(id);
    if (this.#recent.size > REMEMBERED_IDS) this.#recent.delete(/** @type {string} */ (this.#recent.values().next().value));
  }

  /** @param {Frame} answer */
  #takeAnswer(answer) {
    const onAnswer = this.#unanswered.get(answer["id"]);
    this.#unanswered.delete(answer["id"]);
    onAnswer?.(answer);
    if (answer["cursor"]) this.#takePosition(answer["cursor"]); // after the answer: the joined rooms begin at this cursor
  }

  /** @param {string} cursor */
  #takePosition(cursor) {
    this.#cursor.advance(cursor);
    this.#emitter.emit("position", { cursor });
  }

  /** @param {ClientEvents["resync"]} resync */
  #takeResync({ rooms, reason, cursor }) {
    const resync = { rooms, reason, cursor };
    this.#cursor.reset(cursor);
    this.#emitter.emit("resync", resync);
    this.#rooms.resync(resync);
    this.#resyncs += 1;
    this.#sightings?.skipped(this.#cursor.epoch);
  }

  /**
   * Replace the token without a reconnect.
   * @param {number} inS
   */
  async #renew(inS) {
    const link = this.#link;
    const loaded = await import("./renewal.js").catch((error) => this.#report({ kind: "token", error }));
    if (!loaded || this.#link !== link) return; // at its end the token is refused, and the client connects with a new one
    this.#renewal ??= new loaded.Renewal(this.#clock, {
      getToken: () => this.#fetchToken("expiring"),
      send: (token, onAnswer) => this.#request({ type: "refresh", token }, (answer) => onAnswer(answer.success)),
    });
    this.#renewal.start(inS);
  }

  /**
   * The gateway stops. Open the next connection, and leave this one when the next one is acknowledged, so that there is no gap.
   * A random delay is added to `afterMs`, so that clients do not all arrive at once. Most of the remaining time is left
   * for connecting, and for trying again.
   * @param {number} afterMs @param {number} withinMs
   */
  #moveSoon(afterMs, withinMs) {
    const spreadMs = Math.min(MOST_SPREAD_MS, Math.max(0, withinMs - afterMs) / 4);
    const pause = afterMs + (this.#options.random ?? Math.random)() * spreadMs;
    this.#pauseTimer.set(pause, () => this.#candidate ?? this.#dial("reconnect"));
  }

  /**
   * Send a message on the connection in use. Returns its id, or 0 if there is no connection.
   * @param {Frame} message @param {(answer: any) => void} [onAnswer]
   */
  #request(message, onAnswer) {
    if (this.#link === null) return 0;
    const numbered = { ...message, id: (this.#lastId += 1) };
    this.#log("→", numbered);
    if (!this.#link.send(numbered)) return 0;
    this.#rooms.count(message);
    if (onAnswer) this.#unanswered.set(numbered.id, onAnswer);
    return numbered.id;
  }

  /**
   * @param {State} state
   * @param {{code: string, message: string}} [error]
   */
  #setState(state, error) {
    const before = this.status;
    const attempt = state === "connecting" || error ? this.#backoff.attempt : 0;
    const transport = this.#link?.way;
    const isSame = before.state === state && before.attempt === attempt && before.error === error;
    if (isSame && (state !== "connected" || before.transport === transport)) return;
    if (state !== "connecting") this.#reason = undefined;
    /** @type {Status} */
    const status = {
      state,
      attempt,
      maxAttempts: MAX_ATTEMPTS,
      isReconnect: state !== "disconnected" && (before.isReconnect || before.state === "connected"),
      isLive: state === "connected" && transport === "websocket",
      isDegraded: this.#isDegraded,
      ...(state === "connected" && transport && { transport }),
      ...(error && { error }),
      ...(this.#reason && { reason: this.#reason }),
    };
    this.#log("=", status);
    this.#sightings?.look(status);
    if (state === "error") this.#report({ kind: "connection", error });
    this.connection.set(status);
    if (this.status === status) this.#emitter.emit("state", status);
  }

  /** @param {string} direction @param {object} message */
  #log(direction, message) {
    if (!this.debug) return;
    console.debug("beaconfire", direction, "token" in message ? { ...message, token: "(hidden)" } : message);
  }
}
