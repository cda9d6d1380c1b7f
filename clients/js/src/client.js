/**
 * The connection of an application: one socket, kept alive, its rooms and its cursor. PROTOCOL.md is the contract.
 *
 *     disconnected ── connect() ──▶ connecting ◀──▶ connected        any ── close() ──▶ disconnected
 *                                       └── refused, or ten failures in a row ──▶ error ── retry() ──▶ connecting
 *
 * At most two sockets: the one in use and, while a gateway says goodbye, the one that takes over from it.
 */

import { Backoff, MAX_ATTEMPTS } from "./backoff.js";
import { Cursor, isCursor } from "./cursor.js";
import { Emitter } from "./emitter.js";
import { Health } from "./health.js";
import { KeptCursor } from "./kept.js";
import { describeClose, isTooLarge, retryOf } from "./protocol.js";
import { Renewal } from "./renewal.js";
import { RoomTable } from "./room.js";
import { NotSeen, SEEN_TIMEOUT_MS, Sightings } from "./seen.js";
import { bytesOf, LEAST_FRAME_BYTES, USUAL_FRAME_BYTES } from "./size.js";
import { browser, systemClock } from "./surroundings.js";
import { BROKE_OFF, Link } from "./transport.js";

const NAME = "beaconfire-js";
const VERSION = "0.1.0";

/** From asking for a token to `connection.ack`. The gateway itself waits 10 s for `connect`. */
const CONNECT_TIMEOUT_MS = 10_000;
/** A connection that lasted this long is a success; one that dies sooner counts as a failed attempt, or it loops. */
const STABLE_MS = 5000;
/** The longest a client adds to its turn to leave a gateway that stops. */
const MOST_SPREAD_MS = 1000;
/** Without a network attempts are not counted, and made this rarely: the browser may be wrong about the network. */
const OFFLINE_PAUSE_MS = 30_000;
/** The code of the error after the last attempt. */
const UNREACHABLE = "unreachable";

/** @typedef {"disconnected" | "connecting" | "connected" | "error"} State */
/** @typedef {"connect" | "reconnect" | "refused" | "expiring"} TokenReason */
/** @typedef {import("./events.d.ts").EventType} EventType */
/** @typedef {import("./protocol.js").EventFrame} EventFrame */
/** @typedef {import("./protocol.js").Frame} Frame */
/** @typedef {import("./protocol.js").Refusal} Refusal */

/**
 * @typedef {object} Status
 * @property {State} state
 * @property {number} attempt  which attempt is made or waited for, from 1; 0 where none is
 * @property {number} maxAttempts
 * @property {boolean} isReconnect  whether there was a connection before
 * @property {{code: string, message: string}} [error]  why it is in `error`
 */

/**
 * @typedef {object} ClientEvents
 * @property {Status} state
 * @property {EventFrame} event  once for each frame, whatever rooms it matches
 * @property {{rooms: string[], events: EventFrame[]}} restored  what happened in rooms since the cursor they were asked for
 *   with; some of it may have come as `event` for other rooms
 * @property {{cursor: string}} position
 * @property {{rooms: string[], reason: import("./messages.d.ts").ResyncReason, cursor: string}} resync  load the state of these rooms again
 * @property {{reason: string}} degraded  events may be late…
 * @property {undefined} live  …and flow again; nothing was lost
 * @property {{room: string, reason: import("./room.js").LeaveReason}} left
 * @property {{root: string, role: string}} role
 * @property {Refusal} error  the gateway could not use what we sent
 */

/**
 * @typedef {object} ClientOptions
 * @property {string} url  ws:// or wss://
 * @property {(why: {reason: TokenReason}) => Promise<string>} getToken  Rejects with `retry: "no"` on the error where
 *   trying again is of no use (signed out); any other rejection counts as a failed attempt
 * @property {"session" | "local" | import("./kept.js").CursorStorage} [storage]  keep the cursor there, so that the page goes
 *   on from it after a reload: for applications that keep their state as well. Needs `user`
 * @property {string} [user]  the id of the user whose cursor is kept
 * @property {boolean} [debug]  say on the console what is sent and received; never tokens
 * @property {typeof WebSocket} [WebSocket]
 * @property {import("./surroundings.js").Clock} [clock]
 * @property {import("./surroundings.js").Surroundings} [surroundings]
 * @property {() => number} [random]
 */

export class Client {
  #options;
  #clock;
  #surroundings;
  /** @type {Emitter<ClientEvents>} */
  #emitter = new Emitter();
  #cursor = new Cursor();
  #backoff;
  #health;
  #renewal;
  #rooms;
  #kept;
  #sightings;

  /** @type {Status} */
  #status = { state: "disconnected", attempt: 0, maxAttempts: MAX_ATTEMPTS, isReconnect: false };
  /** @type {Link | null} The socket in use. */
  #link = null;
  /** @type {Link | null} The socket that is being opened. */
  #candidate = null;
  /** The last session that was acknowledged: the gateway may not know yet that its connection is gone. */
  #sessionId = "";
  /** What the gateway takes at most: the last one's limit, and before the first ack the least there is. */
  #maxFrameBytes = LEAST_FRAME_BYTES;
  /** The pause that the gateway asks for before the next attempt. */
  #retryAfterMs = 0;
  #isDegraded = false;
  /** Whether `degraded` was told, and `live` not yet: it is told over a reconnect, too. */
  #saidDegraded = false;
  /** Whether the connection in use has lasted. */
  #isProven = false;
  /** Set by a success, so that a refused token is renewed once and not for ever. */
  #mayRenew = true;
  /** @type {number | undefined} The code of the last close that no gateway has been told yet. */
  #lastClose;
  #lastId = 0;
  /** @type {Map<number, (answer: Frame) => void>} Messages of the socket in use that wait for their answer. */
  #unanswered = new Map();
  /** @type {unknown} */
  #attemptTimer = null;
  /** @type {unknown} */
  #pauseTimer = null;
  /** @type {unknown} */
  #stableTimer = null;
  /** @type {(() => void) | null} */
  #unwatch = null;

  /** @param {ClientOptions} options */
  constructor(options) {
    this.debug = options.debug ?? false;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#surroundings = options.surroundings ?? browser;
    const random = options.random ?? Math.random;
    this.#backoff = new Backoff(random);
    this.#health = new Health(
      this.#clock,
      () => this.#request({ type: "ping" }) > 0,
      () => this.#link && this.#lost(this.#link, BROKE_OFF, "no answer to a ping"),
    );
    this.#renewal = new Renewal(this.#clock, {
      getToken: () => this.#options.getToken({ reason: "expiring" }),
      send: (token, onAnswer) => this.#request({ type: "refresh", token }, (answer) => onAnswer(answer.success)),
    });
    /** @type {import("./room.js").Send} */
    const send = (message, onAnswer) => this.#request(message, ({ error, rooms }) => onAnswer({ error, rooms }));
    this.#rooms = new RoomTable(this.#clock, random, send, this.#cursor);
    this.#sightings = new Sightings(this.#clock, (mark) => this.#hasReached(mark));
    this.#kept = new KeptCursor(options.storage, options.url, options.user);
    const kept = this.#kept.read();
    if (isCursor(kept)) this.#cursor.reset(kept);
  }

  /** @returns {State} */
  get state() {
    return this.#status.state;
  }

  get status() {
    return this.#status;
  }

  get isDegraded() {
    return this.#isDegraded;
  }

  /** @returns {string | undefined} Opaque. */
  get cursor() {
    return this.#cursor.value;
  }

  /**
   * @template {keyof ClientEvents} Name
   * @param {Name} name
   * @param {(value: ClientEvents[Name]) => void} handler
   * @returns {() => void} takes the handler off again
   */
  on(name, handler) {
    return this.#emitter.on(name, handler);
  }

  /** Open the connection and keep it open. Does nothing where it is open already. */
  connect() {
    if (this.state === "connecting" || this.state === "connected") return;
    this.#unwatch ??= this.#surroundings.watch({
      onOnline: () => this.#networkIsBack(),
      onOffline: () => this.#health.check(),
      onAwake: () => this.#wake(),
    });
    this.#backoff.reset();
    this.#mayRenew = true;
    this.#dial("connect");
  }

  /** After `error`, or instead of waiting for the next attempt: try now, and count from the start. */
  retry() {
    if (this.state === "connected" || this.#candidate !== null) return;
    if (this.state !== "connecting") return this.connect();
    this.#backoff.reset();
    this.#dial("reconnect");
  }

  /** Close the connection. Subscriptions and cursor stay for the next `connect()`. */
  close() {
    this.#unwatch?.();
    this.#unwatch = null;
    this.#hangUp();
    this.#setState("disconnected");
  }

  /**
   * Hear a room. Several subscriptions of one room share it; all survive reconnects.
   * @template {EventType} [Type=EventType]
   * @param {string} room  `campaign:c1`, `campaign:c1/settlement:s1` or, where the root is unknown, `settlement:s1`
   * @param {import("./room.js").RoomHandlers<Type>} [handlers]
   * @param {{types?: readonly Type[], cursor?: string | null}} [options]  `types`: hear these event types only; without, all.
   *   `cursor`: go on from a snapshot, the `X-Beaconfire-Cursor` it came with; what happened since comes before `onReady`
   */
  subscribe(room, handlers = {}, { types, cursor } = {}) {
    return this.#rooms.add(room, /** @type {import("./room.js").RoomHandlers<any>} */ (handlers), types, cursor ?? undefined);
  }

  /**
   * Wait until a change was applied here. Resolves when the event was handed to its handlers, or everything up to its
   * place was, where it is for nobody here. Rejects with `NotSeen`: `timeout`; `closed`, where the client is not
   * connected or stops being; `resync`, where events were missed and the state is loaded again anyway.
   * @param {string | number | null | undefined} mark  what the answer to the change said: `X-Beaconfire-Offset`, or
   *   `X-Beaconfire-Pending`; neither where it told of nothing, and then there is nothing to wait for
   * @param {{timeoutMs?: number}} [options]
   * @returns {Promise<void>}
   */
  async seen(mark, { timeoutMs = SEEN_TIMEOUT_MS } = {}) {
    if (!(timeoutMs > 0)) throw new TypeError(`timeoutMs: expected a number above 0, got ${timeoutMs}`);
    if (this.state === "disconnected") throw new NotSeen("closed", "not connected: call connect() first");
    if (this.state === "error") throw new NotSeen("closed", `not connected: ${this.#status.error?.message}`);
    return this.#sightings.wait(mark, timeoutMs);
  }

  // Opening.

  /** @param {Exclude<TokenReason, "expiring">} reason */
  #dial(reason) {
    this.#clock.clearTimeout(this.#pauseTimer);
    /** @type {Link} */
    const link = new Link(this.#options.url, this.#options.WebSocket ?? globalThis.WebSocket, {
      onOpen: () => this.#introduce(link, token),
      onFrame: (frame) => this.#receive(link, frame),
      onEnd: (code, why) => (link === this.#candidate ? this.#failed(link, code, why) : this.#lost(link, code, why)),
    });
    let token = "";
    this.#candidate = link;
    if (this.#link === null) this.#setState("connecting", { attempt: this.#backoff.attempt });
    const onTimeout = () => this.#failed(link, BROKE_OFF, "no connection in time");
    this.#attemptTimer = this.#clock.setTimeout(onTimeout, CONNECT_TIMEOUT_MS);
    this.#fetchToken(reason).then(
      (fetched) => {
        token = fetched;
        if (link === this.#candidate) this.#open(link);
      },
      (error) => this.#failed(link, BROKE_OFF, `no token: ${error?.message ?? error}`, error?.retry === "no"),
    );
  }

  /** @param {Exclude<TokenReason, "expiring">} reason */
  async #fetchToken(reason) {
    return this.#options.getToken({ reason });
  }

  /** @param {Link} link */
  #open(link) {
    try {
      link.open();
    } catch (error) {
      this.#failed(link, BROKE_OFF, String(error), true); // no address at all: trying again changes nothing
    }
  }

  /** @param {Link} link @param {string} token */
  #introduce(link, token) {
    const message = {
      type: "connect",
      id: (this.#lastId += 1),
      token,
      rooms: [],
      cursor: this.#cursor.value,
      client: { name: NAME, version: VERSION },
      lastClose: this.#lastClose,
      replaces: this.#sessionId || undefined,
    };
    const introduction = { ...message, ...this.#rooms.introduce(this.#maxFrameBytes - bytesOf(message)) };
    this.#log("→", introduction);
    link.send(introduction);
  }

  /** @param {Link} link @param {Frame} ack */
  #accept(link, ack) {
    this.#clock.clearTimeout(this.#attemptTimer);
    const leftAt = this.#cursor.value;
    this.#candidate = null;
    this.#retryAfterMs = 0;
    this.#lastClose = undefined;
    this.#leaveLink(); // the one it takes over from, if any: from the ack on only the new one counts
    this.#link = link;
    this.#sessionId = ack["sessionId"];
    this.#maxFrameBytes = ack["limits"]?.maxFrameBytes ?? USUAL_FRAME_BYTES;
    this.#isDegraded = ack["degraded"] === true; // before the state is told: the light must not turn green for a moment
    if (this.#options.user && ack["userId"] !== this.#options.user) this.#kept.stop();
    this.#cursor.begin(ack["cursor"]);
    this.#isProven = false;
    this.#stableTimer = this.#clock.setTimeout(() => this.#prove(), STABLE_MS);
    this.#health.start(ack["heartbeatS"]);
    this.#setState("connected");
    if (this.#link !== link) return; // a handler has closed it
    this.#sayDegraded("broker_unreachable"); // or that it is over: the old gateway's trouble is not the new one's
    this.#rooms.connected(ack["rooms"] ?? {}, leftAt, this.#maxFrameBytes);
    this.#moved();
  }

  /** The connection has lasted: the counters start from the beginning. */
  #prove() {
    this.#isProven = true;
    this.#backoff.reset();
    this.#mayRenew = true;
  }

  // Ending.

  /**
   * An attempt came to nothing.
   * @param {Link} link @param {number} code @param {string} reason @param {boolean} [isFinal]
   */
  #failed(link, code, reason, isFinal = false) {
    if (link !== this.#candidate) return;
    this.#log("×", { code, reason });
    this.#dropCandidate();
    this.#lastClose = code;
    this.#countFailure();
    if (isTooLarge(code) && this.#maxFrameBytes > LEAST_FRAME_BYTES) {
      // This gateway takes less than the last one did: what does not fit into the smallest `connect` follows it.
      this.#maxFrameBytes = LEAST_FRAME_BYTES;
      return this.#pause();
    }
    this.#goOn(code, reason, isFinal);
  }

  /**
   * The connection in use is gone.
   * @param {Link} link @param {number} code @param {string} reason
   */
  #lost(link, code, reason) {
    if (link !== this.#link) return;
    this.#log("×", { code, reason });
    this.#leaveLink();
    this.#rooms.lost();
    this.#lastClose = code;
    if (this.#candidate !== null) return this.#setState("connecting", { attempt: this.#backoff.attempt });
    if (!this.#isProven) this.#countFailure();
    this.#goOn(code, reason, false);
  }

  /**
   * Look up what to do next; the client does not interpret.
   * @param {number} code @param {string} reason @param {boolean} isFinal
   */
  #goOn(code, reason, isFinal) {
    const retry = isFinal ? "no" : retryOf(code);
    if (this.#link !== null && (retry !== "token" || !this.#mayRenew)) {
      return this.#pause(); // the attempt was to take over: the old connection still stands
    }
    if (retry === "no") return this.#stop(isFinal ? { code: "unusable", message: reason } : describeClose(code, reason));
    if (retry === "token" && !this.#mayRenew) return this.#stop(describeClose(code, reason));
    if (retry === "token") {
      this.#mayRenew = false;
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
    if (this.#link === null) this.#setState("connecting", { attempt: this.#backoff.attempt });
    this.#clock.clearTimeout(this.#pauseTimer);
    this.#pauseTimer = this.#clock.setTimeout(() => this.#dial("reconnect"), pause);
  }

  /** Without a network an attempt says nothing about the gateway. */
  #countFailure() {
    if (!this.#surroundings.isOffline()) this.#backoff.fail();
  }

  #networkIsBack() {
    if (this.#link !== null) return this.#health.check();
    if (this.state !== "connecting" && !this.#hasGivenUp) return;
    this.#dropCandidate(); // an attempt from before may hang in a network that is gone
    this.retry();
  }

  /** The page is looked at again: a pause has been long enough, and after the last attempt there is one more. */
  #wake() {
    if (this.#link !== null) return this.#health.check();
    if (this.#hasGivenUp) return this.retry();
    if (this.state === "connecting" && this.#candidate === null) this.#dial("reconnect");
  }

  /** Whether it stopped for no other reason than that nothing answered. */
  get #hasGivenUp() {
    return this.state === "error" && this.#status.error?.code === UNREACHABLE;
  }

  /** @param {{code: string, message: string}} error */
  #stop(error) {
    this.#hangUp();
    this.#setState("error", { error });
  }

  #hangUp() {
    this.#dropCandidate();
    this.#leaveLink();
    this.#rooms.lost();
  }

  #dropCandidate() {
    this.#clock.clearTimeout(this.#attemptTimer);
    this.#candidate?.abandon();
    this.#candidate = null;
  }

  #leaveLink() {
    this.#clock.clearTimeout(this.#stableTimer);
    this.#clock.clearTimeout(this.#pauseTimer);
    this.#health.stop();
    this.#renewal.stop();
    this.#unanswered.clear();
    this.#isDegraded = false;
    this.#link?.abandon();
    this.#link = null;
  }

  // Frames.

  /** @param {Link} link @param {Frame} frame */
  #receive(link, frame) {
    this.#log("←", frame);
    if (link === this.#candidate) {
      if (frame.type === "connection.ack") this.#accept(link, frame);
      if (frame.type === "error") this.#retryAfterMs = frame["retryAfterMs"] ?? 0; // the close that follows has no place for it
    } else if (link === this.#link) {
      this.#health.heard();
      this.#take(frame);
      this.#moved();
    }
  }

  /** What was applied is applied: keep its place, and tell who waits for it. */
  #moved() {
    const cursor = this.#cursor.value;
    this.#kept.write(cursor && this.#rooms.servedUpTo(cursor));
    this.#sightings.look();
  }

  /** @param {string | number} mark */
  #hasReached(mark) {
    const cursor = this.#cursor.value;
    if (cursor === undefined) return false;
    const served = new Cursor();
    served.reset(this.#rooms.servedUpTo(cursor));
    return served.hasReached(typeof mark === "number" ? `${this.#cursor.epoch}:${mark}` : mark);
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
      case "role.changed":
        return this.#emitter.emit("role", { root: frame["root"], role: frame["role"] });
      case "token.expiring":
        return this.#renewal.start(frame["inS"]);
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
        return this.#takeAnswer({ ...frame, success: false, error: frame });
      // Others are of a newer protocol: "names and shapes reserved".
    }
  }

  /**
   * Tell a change between `degraded` and `live`.
   * @param {string} reason
   */
  #sayDegraded(reason) {
    if (this.#isDegraded === this.#saidDegraded) return;
    this.#saidDegraded = this.#isDegraded;
    if (this.#isDegraded) this.#emitter.emit("degraded", { reason });
    else this.#emitter.emit("live", undefined);
  }

  /** @param {EventFrame} frame */
  #takeEvent(frame) {
    // Without an offset it is ephemeral: not stored, never repeated, does not touch the cursor.
    if (frame.offset !== undefined && !this.#cursor.take(frame.offset)) return;
    this.#emitter.emit("event", frame);
    this.#rooms.deliver(frame);
    this.#sightings.note(frame.event.id);
  }

  /** @param {{id: number, rooms: string[], events: EventFrame[]}} restored */
  #takeRestored(restored) {
    this.#emitter.emit("restored", { rooms: restored.rooms, events: restored.events });
    this.#rooms.restore(restored);
    for (const { event } of restored.events) this.#sightings.note(event.id);
  }

  /** @param {Frame} answer */
  #takeAnswer(answer) {
    const onAnswer = this.#unanswered.get(answer["id"]);
    this.#unanswered.delete(answer["id"]);
    onAnswer?.(answer);
    if (answer["cursor"]) this.#takePosition(answer["cursor"]); // last: the rooms that it joins begin there
  }

  /** @param {string} cursor */
  #takePosition(cursor) {
    this.#cursor.advance(cursor);
    this.#emitter.emit("position", { cursor });
  }

  /** @param {ClientEvents["resync"]} resync */
  #takeResync({ rooms, reason, cursor }) {
    this.#cursor.reset(cursor);
    this.#emitter.emit("resync", { rooms, reason, cursor });
    this.#rooms.resync({ rooms, reason, cursor });
    this.#sightings.skipped(this.#cursor.epoch);
  }

  /**
   * The gateway stops. Open the next connection first and leave this one when that is acknowledged: no gap to see.
   * A little later than its turn, so that those whose turn it is do not all come at once; most of the time that is left is
   * for arriving, and for trying again.
   * @param {number} afterMs @param {number} withinMs
   */
  #moveSoon(afterMs, withinMs) {
    const spreadMs = Math.min(MOST_SPREAD_MS, Math.max(0, withinMs - afterMs) / 4);
    const pause = afterMs + (this.#options.random ?? Math.random)() * spreadMs;
    this.#clock.clearTimeout(this.#pauseTimer);
    this.#pauseTimer = this.#clock.setTimeout(() => this.#candidate ?? this.#dial("reconnect"), pause);
  }

  /**
   * Send a message on the connection in use. Returns its id, 0 where there is none.
   * @param {Frame} message @param {(answer: Frame) => void} [onAnswer]
   */
  #request(message, onAnswer) {
    if (this.#link === null) return 0;
    const numbered = { ...message, id: (this.#lastId += 1) };
    this.#log("→", numbered);
    if (!this.#link.send(numbered)) return 0;
    if (onAnswer) this.#unanswered.set(numbered.id, onAnswer);
    return numbered.id;
  }

  /**
   * @param {State} state
   * @param {{attempt?: number, error?: {code: string, message: string}}} [more]
   */
  #setState(state, { attempt = 0, error } = {}) {
    const before = this.#status;
    if (before.state === state && before.attempt === attempt && before.error === error) return;
    const isReconnect = state !== "disconnected" && (before.isReconnect || before.state === "connected");
    this.#status = { state, attempt, maxAttempts: MAX_ATTEMPTS, isReconnect, ...(error && { error }) };
    this.#log("=", this.#status);
    if (state === "disconnected") this.#sightings.fail("closed", "the client was closed");
    if (state === "error") this.#sightings.fail("closed", `the connection ended: ${error?.message}`);
    this.#emitter.emit("state", this.#status);
  }

  /** @param {string} direction @param {object} message */
  #log(direction, message) {
    if (!this.debug) return;
    console.debug("beaconfire", direction, "token" in message ? { ...message, token: "(hidden)" } : message);
  }
}
