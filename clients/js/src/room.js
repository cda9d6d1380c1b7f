/** The rooms that the application wants, and what the gateway knows of them. Subscriptions of one room share it on the wire. */

import { capMs } from "./backoff.js";
import { checkedCursor, Cursor, earlier, isAbove } from "./cursor.js";
import { guarded } from "./emitter.js";
import { checkedRoom, pairOf, retryOfError } from "./protocol.js";
import { bytesOf, MAX_ROOMS_IN_MESSAGE, USUAL_LIMITS } from "./size.js";
import { Store } from "./store.js";
import { Timer } from "./timer.js";

/** After this many refusals in a row by a limit, a room stays refused until it is subscribed to again, or another is left. */
const MAX_REFUSALS = 10;
/** The largest number of types in a subscription (PROTOCOL.md §4). */
const MAX_TYPES = 100;
/** Retries are rounded up to this, so that rooms which were refused one by one are asked for in one message. */
const RETRY_STEP_MS = 250;
/** What is asked for if no subscription of a room wants events: without types, all would come (PROTOCOL.md, "typing"). */
const NO_EVENTS = ["user.typing"];

/** @typedef {import("./events.d.ts").EventType} EventType */
/** @typedef {import("./protocol.js").EventFrame} EventFrame */
/** @typedef {import("./protocol.js").Frame} Frame */
/** @typedef {import("./protocol.js").Refusal} Refusal */
/** @typedef {import("./protocol.js").RoomAnswer} RoomAnswer */
/** @typedef {import("./requests.js").Requests} Requests */
/** @typedef {import("./messages.d.ts").LeaveReason} LeaveReason */
/** @typedef {import("./messages.d.ts").ResyncReason} ResyncReason */

/**
 * How a subscription's room stands:
 *
 * * `idle`: the subscription is not enabled, or has ended
 * * `joining`: the gateway has not answered yet, or there is no connection. The room is joined as soon as possible
 * * `joined`: events are received
 * * `retrying`: the gateway refused the room for the moment, or `requests.js` cannot be loaded (`error`). The client tries again
 * * `refused`: the gateway refused the room (`error`). The client does not ask again before the application does
 * * `left`: the gateway removed the user from the room (`reason`)
 * @typedef {object} RoomStatus
 * @property {"idle" | "joining" | "joined" | "retrying" | "refused" | "left"} state
 * @property {Refusal} [error]
 * @property {LeaveReason} [reason]
 */

/**
 * Handlers for single types of events. With a parameter, so that types which an application declares are among them.
 * @template {EventType} Type
 * @typedef {{[One in Type]?: (event: import("./events.d.ts").Events[One], frame: EventFrame) => void}} HandlersByType
 */

/**
 * @template {EventType} [Type=EventType]
 * @typedef {object} RoomHandlers
 * @property {(event: import("./protocol.js").EventOf<Type>, frame: EventFrame) => void} [onEvent]
 * @property {HandlersByType<EventType>} [on]  handlers for single types of events, which are called after `onEvent`
 * @property {() => void} [onReady]  the room is joined: events from now on are received and, with a `cursor`, all events
 *   since then were. A reconnect does not repeat it
 * @property {(left: {room: string, reason: LeaveReason}) => void} [onLeft]
 * @property {(error: Refusal, next: {willRetry: boolean}) => void} [onError]  the room was refused
 * @property {(resync: {rooms: string[], reason: ResyncReason}) => void} [onResync]  events were missed: load the state again
 * @property {(frame: Frame) => void} [onPeople]  a `presence`, `typing` or `selection` message of the room, and what the answer to
 *   joining it said of these. `@beaconfire/client/people` makes something useful of it
 */

/**
 * @template {EventType} [Type=EventType]
 * @typedef {object} RoomOptions
 * @property {readonly Type[]} [types]  only these event types; all by default. An empty list: no events
 * @property {string | null} [cursor]  the `X-Beaconfire-Cursor` of a snapshot. What happened since then comes before `onReady`
 * @property {boolean} [presence]  ask for `presence` messages. `@beaconfire/client/people` does that
 * @property {boolean} [enabled]  false: do not subscribe before `setEnabled(true)`
 */

/** @typedef {{error?: Refusal, rooms?: Record<string, RoomAnswer>}} Answer  to a message about rooms */

/**
 * What the table needs of the connection: send a message and return its id, or 0 if there is no connection.
 * @typedef {(message: Frame, onAnswer?: (answer: Answer) => void) => number} Send
 */

/** @type {RoomStatus} */
const IDLE = { state: "idle" };
/** @type {RoomStatus} */
const JOINING = { state: "joining" };
/** @type {RoomStatus} */
const JOINED = { state: "joined" };

/**
 * One subscription of a room.
 *
 *     const room = client.subscribe("campaign:c1", { onEvent: (event) => show(event) });
 *     room.unsubscribe();
 * @template {EventType} [Type=EventType]
 */
export class Subscription {
  #table;
  /** @type {RoomHandlers<any>} */
  handlers;
  /**
   * Whether `onReady` has not been called yet.
   * @internal
   */
  awaitsReady = true;
  /**
   * Its own cursor: behind the connection's while its room is restored, then equal to it.
   * @internal
   */
  heard = new Cursor();
  /** @type {Store<RoomStatus>} How its room stands. */
  status;

  /**
   * @param {RoomTable} table
   * @param {string} room
   * @param {RoomHandlers<any>} handlers
   * @param {readonly string[]} [types]  the wanted event types; undefined for all
   * @param {boolean} [wantsPresence]
   */
  constructor(table, room, handlers, types, wantsPresence = false) {
    this.#table = table;
    this.status = new Store(IDLE, table.report);
    this.room = room;
    this.handlers = handlers;
    this.types = types && new Set(types);
    this.wantsPresence = wantsPresence;
  }

  /**
   * Replace the handlers. Nothing is sent.
   * @param {RoomHandlers<Type>} handlers
   */
  setHandlers(handlers) {
    this.handlers = handlers;
  }

  /**
   * Unsubscribe for a while, and subscribe again. Each time it is enabled it gets `onReady`. Does nothing if it is as wanted.
   * @param {boolean} isEnabled
   */
  setEnabled(isEnabled) {
    if (isEnabled) this.#table.enter(this);
    else this.#table.remove(this);
  }

  /**
   * Send a message about the room, such as `typing`. Returns false without a connection.
   * @param {Frame} message
   */
  tell(message) {
    return this.#table.tell({ ...message, room: this.room });
  }

  unsubscribe() {
    this.#table.remove(this);
  }

  /**
   * Pass it an event, unless it already had the event or wants other types.
   * @internal
   * @param {EventFrame} frame @param {string} epoch
   */
  take(frame, epoch) {
    if (frame.offset !== undefined && !this.heard.takeIn(epoch, frame.offset)) return;
    const { event } = frame;
    if (!(this.types?.has(event.type) ?? true)) return;
    this.call("onEvent", event, frame);
    guarded(this.#table.report, /** @type {Record<string, any> | undefined} */ (this.handlers.on)?.[event.type], event, frame);
  }

  /**
   * Call `onReady`, once.
   * @internal
   * @param {string | undefined} cursor  the connection's
   */
  announce(cursor) {
    if (!this.awaitsReady) return;
    this.awaitsReady = false;
    // What is restored later for another subscription of the room happened before this one began.
    if (cursor !== undefined && this.heard.value === undefined) this.heard.reset(cursor);
    this.call("onReady");
  }

  /**
   * @internal
   * @template {Exclude<keyof RoomHandlers, "on">} Name
   * @param {Name} name @param {Parameters<NonNullable<RoomHandlers[Name]>>} args
   */
  call(name, ...args) {
    guarded(this.#table.report, /** @type {(...args: any[]) => void} */ (this.handlers[name]), ...args);
  }
}

/** A room that is wanted, or that the client has not left yet. */
export class Room {
  /** @type {Set<Subscription<any>>} */
  subscriptions = new Set();
  /** @type {"absent" | "joining" | "joined" | "refused" | "leaving"} */
  place = "absent";
  /**
   * The long form of a short name, as the gateway looked it up; undefined until it answers. Another root may have a room
   * with the same pair, and this client may be in that room too.
   * @type {string | undefined}
   */
  meaning;
  /** What the gateway was last asked for: types, and the cursor. */
  asked = "";
  /** The id of the last message that asked to join or leave it. */
  messageId = 0;
  /** @type {string | undefined} The gateway must restore the room from this cursor first. Later events come only that way. */
  since;
  /** Whether the session is in the room, perhaps with other types than were asked for since. */
  isHeld = false;
  refusals = 0;
  /** Set while a refused room will be asked for again automatically. */
  retry;
  /** @type {RoomStatus | null} Why the session is not in it; null if nothing speaks against it. */
  trouble = null;

  /** @param {string} name @param {import("./surroundings.js").Clock} clock */
  constructor(name, clock) {
    this.name = name;
    this.retry = new Timer(clock);
  }

  /** @param {EventFrame} frame */
  isMeantBy(frame) {
    return this.meaning === undefined || frame.rooms.includes(this.meaning);
  }

  /** The types that its subscriptions want together; undefined for all types. */
  get types() {
    const wanted = [...this.subscriptions].map(({ types }) => types);
    if (wanted.length === 0 || wanted.includes(undefined)) return undefined;
    const all = [...new Set(wanted.flatMap((types) => [...(types ?? [])]))].sort();
    if (all.length === 0) return NO_EVENTS;
    return all.length > MAX_TYPES ? undefined : all; // too many to name: each subscription filters its own
  }

  /** Whether the session is in it, or may be soon: messages are answered in order. */
  get isKnown() {
    return this.isHeld || this.place === "joining";
  }

  get wantsPresence() {
    return [...this.subscriptions].some(({ wantsPresence }) => wantsPresence);
  }

  get isAskedAsWanted() {
    return this.asked === keyOf(this);
  }

  /**
   * Tell its subscriptions how it stands.
   * @param {RoomStatus} [hindrance]  why it cannot be asked for
   */
  show(hindrance = JOINING) {
    const isServed = this.isHeld && this.since === undefined;
    for (const one of [...this.subscriptions]) {
      const status = isServed && !one.awaitsReady ? JOINED : hindrance;
      one.status.set((this.place === "refused" && this.trouble) || status);
    }
  }

  /** The subscriptions for which `onReady` was called. They rely on getting every event. */
  get relying() {
    return [...this.subscriptions].filter(({ awaitsReady }) => !awaitsReady);
  }

  /**
   * Whether these types cover every subscription that relies on the room.
   * @param {readonly string[] | undefined} types
   */
  isServedBy(types) {
    return types === undefined || this.relying.every((one) => one.types && [...one.types].every((type) => types.includes(type)));
  }

  /** Events may be missed from now on. Subscriptions get `onReady` again when the room is joined again. */
  forgetPromises() {
    this.since = undefined;
    for (const subscription of this.subscriptions) subscription.awaitsReady = true;
  }
}

export class RoomTable {
  #clock;
  #random;
  #send;
  #cursor;
  /** @type {Map<string, Room>} By name. */
  rooms = new Map();
  /** @type {Map<string, Wanted | null>} What the last `connect` asked for, by room. Null if the room did not fit into it. */
  #introduced = new Map();
  /** What the gateway accepts. */
  limits = USUAL_LIMITS;
  /** The random part of pauses. It is the same for all rooms of one answer, so that they are asked for together. */
  jitter = 0;
  #flushTimer;
  /** @type {Requests | undefined} Loaded with the first subscription, so that it is there when the network is bad. */
  #requests;
  #isLoading = false;
  #loadFailures = 0;
  /** @type {RoomStatus | undefined} Set if it could not be loaded. */
  #hindrance;

  /**
   * @param {import("./surroundings.js").Clock} clock
   * @param {() => number} random
   * @param {Send} send
   * @param {Cursor} cursor  the connection's
   * @param {import("./emitter.js").Report} report
   */
  constructor(clock, random, send, cursor, report) {
    this.report = report;
    this.#clock = clock;
    this.#random = random;
    this.#send = send;
    this.#cursor = cursor;
    this.#flushTimer = new Timer(clock);
  }

  /**
   * @template {EventType} Type
   * @param {string} name
   * @param {RoomHandlers<Type>} handlers
   * @param {RoomOptions<Type>} options
   */
  add(name, handlers, { types, cursor, presence, enabled = true }) {
    /** @type {Subscription<Type>} */
    const subscription = new Subscription(this, checkedRoom(name), handlers, types, presence);
    if (cursor != null) subscription.heard.reset(checkedCursor(cursor));
    if (enabled) this.enter(subscription, cursor ?? undefined);
    return subscription;
  }

  /**
   * @param {Subscription<any>} subscription
   * @param {string} [cursor]  of a snapshot
   */
  enter(subscription, cursor) {
    const room = this.#room(subscription.room);
    if (room.subscriptions.has(subscription)) return;
    if (cursor !== undefined) this.#oweSince(room, cursor);
    room.subscriptions.add(subscription);
    if (room.place === "leaving") room.place = "absent"; // the gateway removes it first, then joins it again
    if (room.place === "refused") this.#forgetRefusal(room); // a new request: the user may be a member by now
    room.show();
    this.flushSoon();
  }

  /** @param {string} name */
  #room(name) {
    const room = this.rooms.get(name) ?? new Room(name, this.#clock);
    this.rooms.set(name, room);
    return room;
  }

  /** @param {Room} room @param {string} cursor */
  #oweSince(room, cursor) {
    room.since = room.since === undefined ? cursor : earlier(room.since, cursor, this.#cursor.epoch);
  }

  /** @param {Subscription<any>} subscription */
  remove(subscription) {
    const room = this.rooms.get(subscription.room);
    if (!room?.subscriptions.delete(subscription)) return;
    if (room.subscriptions.size === 0) room.since = undefined;
    if (room.subscriptions.size === 0 || room.isHeld) room.retry.stop();
    if (room.place === "refused" && room.isHeld) room.place = "joined"; // perhaps the removed types were refused
    subscription.awaitsReady = true;
    subscription.status.set(IDLE);
    this.flushSoon();
  }

  /**
   * Send a message that needs no answer. Returns false without a connection.
   * @param {Frame} message
   */
  tell(message) {
    return this.#send(message) > 0;
  }

  /**
   * The rooms for `connect`, and the types of those that do not want all types. Rooms that must be restored, or do not fit,
   * are subscribed to after the ack.
   * @param {number} spareBytes  how many bytes of the gateway's limit are left for them
   */
  introduce(spareBytes) {
    const isMeant = (/** @type {Room} */ room) => room.subscriptions.size > 0 && room.place !== "refused" && room.since === undefined;
    const meant = [...this.rooms.values()].filter(isMeant);
    // `presence` is for all rooms of the message. If only some want it, a `subscribe` asks for it after the ack.
    const wantsPresence = meant.length > 0 && meant.every((room) => room.wantsPresence);
    const types = Object.create(null);
    const message = { rooms: /** @type {string[]} */ ([]), types, presence: wantsPresence || undefined };
    let spare = spareBytes - bytesOf(message);
    this.#introduced.clear();
    for (const room of meant) {
      const bytes = bytesOf([room.name, { [room.name]: room.types }]);
      const fits = message.rooms.length < MAX_ROOMS_IN_MESSAGE && bytes <= spare;
      this.#introduced.set(room.name, fits ? { types: room.types, wantsPresence } : null);
      if (!fits) continue;
      message.rooms.push(room.name);
      if (room.types) types[room.name] = room.types;
      spare -= bytes;
    }
    return Object.keys(types).length > 0 ? message : { ...message, types: undefined };
  }

  /**
   * A connection was acknowledged with these answers. The session is in no other rooms.
   * @param {Record<string, RoomAnswer>} answers
   * @param {string | undefined} leftAt  the cursor of the connection before
   * @param {import("./size.js").Limits} limits  of this gateway
   */
  connected(answers, leftAt, limits) {
    this.#forgetConnection();
    this.limits = limits;
    this.#requests?.pace.begin(limits);
    this.jitter = this.#random();
    if (leftAt !== undefined) for (const room of this.rooms.values()) this.#owe(room, answers[room.name], leftAt);
    for (const [name, answer] of Object.entries(answers)) {
      // It may have been unsubscribed since `connect` was sent: keep it as joined, and the flush leaves it.
      const room = this.#room(name);
      room.asked = keyOf(this.#introduced.get(name) ?? {});
      this.answered(room, answer);
    }
    this.#flush();
  }

  /**
   * Restore a room that a subscription relies on, if it did not come back with the connection. It was refused for the moment,
   * it was joined on the old connection after the new one had sent `connect`, or it did not fit into `connect`.
   * @param {Room} room @param {RoomAnswer | undefined} answer @param {string} leftAt
   */
  #owe(room, answer, leftAt) {
    const introduced = this.#introduced.get(room.name);
    if (room.relying.length === 0 && introduced !== null) return;
    const isBack = answer?.success && room.isServedBy(introduced?.types);
    if (room.since !== undefined || !isBack) this.#oweSince(room, leftAt);
  }

  /** The connection is gone. The rooms are still wanted. */
  lost() {
    this.#forgetConnection();
    for (const room of this.rooms.values()) room.show();
  }

  #forgetConnection() {
    this.#requests?.pace.reset();
    for (const room of this.rooms.values()) {
      room.isHeld = false;
      room.messageId = 0;
      if (room.place !== "refused") room.place = "absent";
      if (room.subscriptions.size === 0) this.rooms.delete(room.name);
    }
  }

  /**
   * The cursor up to which every subscription has its events. It is below the connection's while a room is restored.
   * @param {string} cursor
   */
  servedUpTo(cursor) {
    const behind = [...this.rooms.values()].flatMap(({ since }) => since ?? []);
    return behind.reduce((one, other) => earlier(one, other, this.#cursor.epoch), cursor);
  }

  /**
   * Pass an event to every subscription of its rooms. The frame names rooms in the long form. A subscription with a short
   * name gets the events of the room that the gateway found for it.
   * @param {EventFrame} frame
   */
  deliver(frame) {
    for (const name of namesOf(frame)) {
      const room = this.rooms.get(name);
      if (!room?.isMeantBy(frame) || this.#comesRestored(room, frame)) continue;
      // Before the room is joined, only those of its events come that are in another room, too.
      this.hand(room.relying, frame);
    }
  }

  /**
   * Pass on missed events of rooms that were asked for with a cursor.
   * @param {import("./requests.js").Restored} restored
   */
  restore(restored) {
    this.#requests?.restore(restored);
  }

  /** @param {Room} room @param {EventFrame} frame */
  #comesRestored({ since }, { offset }) {
    return since !== undefined && offset !== undefined && isAbove(this.#cursor.epoch, offset, since);
  }

  /**
   * Pass an event to subscriptions.
   * @param {Subscription<any>[]} subscriptions @param {EventFrame} frame
   */
  hand(subscriptions, frame) {
    for (const subscription of subscriptions) subscription.take(frame, this.#cursor.epoch);
  }

  /**
   * The gateway has removed the session from a room.
   * @param {{room: string, reason: LeaveReason}} left
   */
  left(left) {
    const room = this.rooms.get(left.room);
    if (!room) return;
    const { since = room.relying.length > 0 ? this.#cursor.value : undefined } = room;
    room.isHeld = false;
    room.forgetPromises();
    // Only an expired lease is worth asking again automatically. The other reasons need a person.
    if (left.reason === "lease_expired") {
      room.since = since; // what happens until the room is joined again is restored
      this.#retryLater(room, this.#random() * capMs(room.refusals));
    } else {
      room.place = "refused";
    }
    room.trouble = { state: room.retry.isSet ? "retrying" : "left", reason: left.reason };
    room.show();
    this.#call(left.room, "onLeft", left);
  }

  /**
   * Pass on a message about people in a room.
   * @param {Frame} frame
   */
  people(frame) {
    for (const name of new Set([frame["room"], pairOf(frame["room"])])) {
      if ((this.rooms.get(name)?.meaning ?? frame["room"]) === frame["room"]) this.#call(name, "onPeople", frame);
    }
  }

  /** @param {{rooms: string[], reason: ResyncReason, cursor: string}} resync */
  resync({ cursor, ...resync }) {
    for (const { subscriptions } of this.rooms.values()) for (const { heard } of subscriptions) heard.lower(cursor);
    for (const name of resync.rooms) this.#call(name, "onResync", resync);
  }

  /**
   * Call a handler of each subscription of a room.
   * @template {Exclude<keyof RoomHandlers, "on">} Name
   * @param {string} room @param {Name} name @param {Parameters<NonNullable<RoomHandlers[Name]>>} args
   */
  #call(room, name, ...args) {
    for (const one of [...(this.rooms.get(room)?.subscriptions ?? [])]) one.call(name, ...args);
  }

  /** @param {Room} room */
  #announce(room) {
    if (!room.isAskedAsWanted) return; // what was added in the meantime is asked for next
    for (const subscription of [...room.subscriptions]) subscription.announce(this.#cursor.value);
  }

  /** Wait for the end of this turn: unsubscribing and subscribing again in one turn (React's StrictMode) sends nothing. */
  flushSoon() {
    if (!this.#flushTimer.isSet) this.#flushTimer.set(0, () => this.#flush());
  }

  #flush() {
    this.#flushTimer.stop();
    for (const room of this.rooms.values()) if (room.place === "joined") this.#announce(room);
    if (this.#requests) this.#requests.flush();
    else void this.#load();
    for (const room of this.rooms.values()) room.show(this.#hindrance);
  }

  /**
   * Count a message of any type that was sent.
   * @param {Frame} message
   */
  count(message) {
    if (this.#requests) this.#requests.pace.count(message);
    else void this.#load();
  }

  async #load() {
    if (this.#isLoading) return;
    this.#isLoading = true;
    try {
      const { Requests } = await import("./requests.js");
      this.#requests = new Requests(this, this.#clock, this.#random, this.#send, () => this.#flush());
      this.#hindrance = undefined;
      this.flushSoon();
    } catch (error) {
      this.report({ kind: "room", error });
      this.#hindrance = { state: "retrying", error: { code: "unavailable", message: String(error) } };
      this.#flushTimer.set(this.#random() * capMs(this.#loadFailures), () => this.#flush());
      this.#loadFailures += 1;
    }
    this.#isLoading = false;
  }

  /** @param {Room} room @param {RoomAnswer} answer */
  answered(room, answer) {
    if (answer.success) {
      this.#forgetRefusal(room);
      room.meaning = answer.room;
      room.place = "joined";
      room.isHeld = true;
      const { presence, selection = [] } = answer;
      if (presence) this.#call(room.name, "onPeople", { type: "presence", ...presence });
      this.#call(room.name, "onPeople", { type: "selection", items: selection });
      this.#announce(room);
      room.show();
    } else {
      this.refused(room, answer.error ?? { code: "bad_request", message: "No reason given" });
    }
  }

  /** @param {Room} room @param {Refusal} error */
  refused(room, error) {
    room.refusals += 1;
    // A service that is away comes back at some time, but a limit may stay exceeded.
    const willRetry = retryOfError(error.code) === "backoff" && (error.code !== "too_many" || room.refusals < MAX_REFUSALS);
    if (willRetry) this.#retryLater(room, (error.retryAfterMs ?? 0) + this.jitter * capMs(room.refusals));
    else room.place = "refused";
    if (!willRetry && !room.isHeld) room.forgetPromises();
    room.trouble = { state: willRetry ? "retrying" : "refused", error };
    room.show();
    this.sayRefused(room, error, willRetry);
  }

  /** @param {Room} room @param {Refusal} error @param {boolean} willRetry */
  sayRefused(room, error, willRetry) {
    this.#call(room.name, "onError", error, { willRetry });
    this.report({ kind: "room", error, room: room.name });
  }

  /** @param {Room} room @param {number} pauseMs */
  #retryLater(room, pauseMs) {
    room.place = "refused";
    const now = this.#clock.now();
    const at = Math.ceil((now + pauseMs) / RETRY_STEP_MS) * RETRY_STEP_MS;
    room.retry.set(at - now, () => {
      this.askAgain(room);
      this.flushSoon();
    });
  }

  /** @param {Room} room */
  askAgain(room) {
    room.place = "absent";
    room.retry.stop();
    room.trouble = null;
  }

  /** @param {Room} room */
  #forgetRefusal(room) {
    this.askAgain(room);
    room.refusals = 0;
  }
}

/** @typedef {{types?: readonly string[] | undefined, wantsPresence?: boolean | undefined, since?: string | undefined}} Wanted */

/**
 * A string to compare by: what a room is asked for.
 * @param {Wanted} wanted
 */
export function keyOf({ types, wantsPresence, since }) {
  return `${types?.join(" ") ?? ""} ${wantsPresence ? "who" : ""} ${since ?? ""}`;
}

/**
 * The names, long and short, under which the rooms of an event may be subscribed to.
 * @param {EventFrame} frame
 */
export function namesOf(frame) {
  return new Set(frame.rooms.flatMap((name) => [name, pairOf(name)]));
}
