/** The rooms an application wants, and what the gateway knows of them. One room on the wire, however many ask for it. */

import { capMs } from "./backoff.js";
import { checkedCursor, Cursor, earlier, isAbove } from "./cursor.js";
import { guarded } from "./emitter.js";
import { checkedRoom, MAX_ROOMS_IN_MESSAGE, pairOf, retryOfError } from "./protocol.js";

/** After this many retryable refusals in a row a room stays refused until it is subscribed to again. */
const MAX_REFUSALS = 10;

/** @typedef {import("./events.d.ts").EventType} EventType */
/** @typedef {import("./protocol.js").EventFrame} EventFrame */
/** @typedef {import("./protocol.js").Frame} Frame */
/** @typedef {import("./protocol.js").Refusal} Refusal */
/** @typedef {import("./protocol.js").RoomAnswer} RoomAnswer */
/** @typedef {"membership_removed" | "access_revoked" | "lease_expired"} LeaveReason */

/**
 * @template {EventType} [Type=EventType]
 * @typedef {object} RoomHandlers
 * @property {(event: import("./protocol.js").EventOf<Type>, frame: EventFrame) => void} [onEvent]
 * @property {() => void} [onReady]  the room is joined: what happens from now on is heard, and with a
 *   `cursor` everything since that was. Not repeated by a reconnect
 * @property {(left: {room: string, reason: LeaveReason}) => void} [onLeft]
 * @property {(error: Refusal, next: {willRetry: boolean}) => void} [onError]  the room was refused
 * @property {(resync: {rooms: string[], reason: string}) => void} [onResync]  events were missed: load the state again
 */

/**
 * What the table needs of the connection: sends with the message's id, and 0 where there is none.
 * @typedef {object} RoomWire
 * @property {(ask: {rooms: string[], types: string[] | undefined, cursor: string | undefined}, onAnswer: (answer: {error: Refusal | undefined, rooms: Record<string, RoomAnswer> | undefined}) => void) => number} subscribe
 * @property {(rooms: string[]) => number} unsubscribe
 */

/** One subscriber of a room. */
export class Subscription {
  #table;
  /** @type {RoomHandlers} */
  handlers;
  /** Whether `onReady` is still to come. */
  awaitsReady = true;
  /** Where it stands itself: behind the connection while its room is restored, then level with it. */
  heard = new Cursor();

  /**
   * @param {RoomTable} table
   * @param {string} room
   * @param {RoomHandlers} handlers
   * @param {readonly string[]} [types]  the event types it wants; undefined for all
   */
  constructor(table, room, handlers, types) {
    this.#table = table;
    this.room = room;
    this.handlers = handlers;
    this.types = types && new Set(types);
  }

  /**
   * Take other handlers from now on; nothing is sent.
   * @param {RoomHandlers} handlers
   */
  setHandlers(handlers) {
    this.handlers = handlers;
  }

  unsubscribe() {
    this.#table.remove(this);
  }

  /**
   * Hand it an event, unless it has had it or wants others.
   * @param {EventFrame} frame @param {string} epoch
   */
  take(frame, epoch) {
    if (frame.offset !== undefined && !this.heard.takeIn(epoch, frame.offset)) return;
    if (this.types?.has(frame.event.type) ?? true) guarded(this.handlers.onEvent, frame.event, frame);
  }

  /** Say that the room is joined, once. */
  announce() {
    if (!this.awaitsReady) return;
    this.awaitsReady = false;
    guarded(this.handlers.onReady);
  }
}

/** A room somebody wants (or wanted until a moment ago). */
class Room {
  /** @type {Set<Subscription>} */
  subscriptions = new Set();
  /** @type {"absent" | "joining" | "joined" | "refused"} */
  place = "absent";
  /** What the gateway was last asked for: types, and from where. */
  asked = "";
  /** The message that asked for it. */
  messageId = 0;
  /** @type {string | undefined} The gateway must restore it from here first; what lies above comes that way alone. */
  since;
  /** Whether the gateway has us in the room, with other types perhaps than it was asked for since. */
  isHeld = false;
  refusals = 0;
  /** @type {unknown} */
  retryTimer = null;

  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }

  /** What its subscriptions want together; undefined for all types. */
  get types() {
    const wanted = [...this.subscriptions].map(({ types }) => types);
    if (wanted.length === 0 || wanted.includes(undefined)) return undefined;
    return [...new Set(wanted.flatMap((types) => [...(types ?? [])]))].sort();
  }

  get isAskedAsWanted() {
    return this.asked === keyOf(this.types, this.since);
  }

  /** Whether somebody was told that the room is joined, and counts on every event since. */
  get isPromised() {
    return [...this.subscriptions].some(({ awaitsReady }) => !awaitsReady);
  }

  /**
   * Whether those who count on it are served with these types.
   * @param {readonly string[] | undefined} types
   */
  isServedBy(types) {
    const counting = [...this.subscriptions].filter(({ awaitsReady }) => !awaitsReady);
    return types === undefined || counting.every((one) => one.types && [...one.types].every((type) => types.includes(type)));
  }

  /** Nobody is promised anything any more: who stays is told again when the room is joined. */
  forgetPromises() {
    this.since = undefined;
    for (const subscription of this.subscriptions) subscription.awaitsReady = true;
  }
}

export class RoomTable {
  #clock;
  #random;
  #wire;
  #cursor;
  /** @type {Map<string, Room>} */
  #rooms = new Map();
  /** @type {Map<string, string[] | undefined>} The types that the last `connect` asked for, by room. */
  #introduced = new Map();
  /** @type {unknown} */
  #flushTimer = null;

  /**
   * @param {import("./surroundings.js").Clock} clock
   * @param {() => number} random
   * @param {RoomWire} wire
   * @param {Cursor} cursor  the connection's
   */
  constructor(clock, random, wire, cursor) {
    this.#clock = clock;
    this.#random = random;
    this.#wire = wire;
    this.#cursor = cursor;
  }

  /**
   * @param {string} name
   * @param {RoomHandlers} handlers
   * @param {readonly string[]} [types]  undefined for all
   * @param {string} [cursor]  the one of a snapshot
   */
  add(name, handlers, types, cursor) {
    const room = this.#rooms.get(checkedRoom(name)) ?? new Room(name);
    const subscription = new Subscription(this, name, handlers, types);
    if (cursor !== undefined) {
      subscription.heard.reset(checkedCursor(cursor));
      room.since = room.since === undefined ? cursor : earlier(room.since, cursor, this.#cursor.epoch);
    }
    this.#rooms.set(name, room);
    room.subscriptions.add(subscription);
    if (room.place === "refused") this.#forgetRefusal(room); // somebody asks anew: perhaps a member by now
    this.#flushSoon();
    return subscription;
  }

  /** @param {Subscription} subscription */
  remove(subscription) {
    const room = this.#rooms.get(subscription.room);
    if (!room?.subscriptions.delete(subscription)) return;
    if (room.place === "refused" && room.isHeld) room.place = "joined"; // perhaps these were the types that were refused
    this.#flushSoon();
  }

  /** The rooms for `connect`, and the types of those that do not want all. What is to be restored is asked for by itself. */
  introduce() {
    const isMeant = (/** @type {Room} */ room) => room.subscriptions.size > 0 && room.place !== "refused" && room.since === undefined;
    const rooms = [...this.#rooms.values()].filter(isMeant);
    this.#introduced = new Map(rooms.map((room) => [room.name, room.types]));
    const narrowed = rooms.filter((room) => room.types !== undefined);
    const types = Object.fromEntries(narrowed.map((room) => [room.name, room.types]));
    return { rooms: rooms.map((room) => room.name), types: narrowed.length > 0 ? types : undefined };
  }

  /**
   * A connection was acknowledged with these answers; it knows no other rooms of ours.
   * @param {Record<string, RoomAnswer>} answers
   * @param {string | undefined} leftAt  the cursor up to which everybody was served before
   */
  connected(answers, leftAt) {
    this.lost();
    if (leftAt !== undefined) for (const room of this.#rooms.values()) this.#owe(room, answers[room.name], leftAt);
    for (const [name, answer] of Object.entries(answers)) {
      // Unsubscribed since `connect` was sent: keep it as joined for the flush, which leaves it.
      const room = this.#rooms.get(name) ?? new Room(name);
      this.#rooms.set(name, room);
      room.asked = keyOf(this.#introduced.get(name));
      this.#answered(room, answer);
    }
    this.#flush();
  }

  /**
   * A room that somebody counts on, and that did not come back with the connection as it was: refused for the moment, or
   * joined on the old connection after the new one had asked. It is restored from where it was left.
   * @param {Room} room @param {RoomAnswer | undefined} answer @param {string} leftAt
   */
  #owe(room, answer, leftAt) {
    if (!room.isPromised) return;
    if (room.since !== undefined) room.since = earlier(room.since, leftAt, this.#cursor.epoch);
    else if (!answer?.success || !room.isServedBy(this.#introduced.get(room.name))) room.since = leftAt;
  }

  /** The connection is gone; the rooms are still wanted. */
  lost() {
    for (const room of this.#rooms.values()) {
      room.isHeld = false;
      room.messageId = 0;
      if (room.place !== "refused") room.place = "absent";
    }
  }

  /**
   * Up to where everybody was served: the cursor, or below it while a room is restored.
   * @param {string} cursor
   */
  servedUpTo(cursor) {
    const behind = [...this.#rooms.values()].flatMap(({ since }) => since ?? []);
    return behind.reduce((one, other) => earlier(one, other, this.#cursor.epoch), cursor);
  }

  /**
   * Hand an event to everybody whose room is among its rooms. The frame has the long form, a subscriber may have used
   * the short one: then the pair decides, as it did at the gateway.
   * @param {EventFrame} frame
   */
  deliver(frame) {
    for (const name of namesOf(frame)) {
      const room = this.#rooms.get(name);
      if (room && !this.#comesRestored(room, frame)) this.#hand(room, frame);
    }
  }

  /**
   * What happened in rooms since the cursor that they were asked for with: for those who are in them alone.
   * @param {{id: number, rooms: string[], events: EventFrame[]}} restored
   */
  restore({ id, rooms, events }) {
    for (const frame of events) {
      const names = namesOf(frame);
      for (const name of rooms) {
        const room = this.#rooms.get(name);
        // Asked for differently since: all of it comes again.
        if (room && names.has(name) && room.messageId === id && room.isAskedAsWanted) this.#hand(room, frame);
      }
    }
  }

  /** @param {Room} room @param {EventFrame} frame */
  #comesRestored({ since }, { offset }) {
    return since !== undefined && offset !== undefined && isAbove(this.#cursor.epoch, offset, since);
  }

  /** @param {Room} room @param {EventFrame} frame */
  #hand(room, frame) {
    for (const subscription of [...room.subscriptions]) subscription.take(frame, this.#cursor.epoch);
  }

  /**
   * The gateway put us out of a room.
   * @param {{room: string, reason: LeaveReason}} left
   */
  left(left) {
    const room = this.#rooms.get(left.room);
    if (!room) return;
    room.isHeld = false;
    room.forgetPromises();
    // Only a lease that could not be renewed may come back by itself; for the others somebody has to act.
    if (left.reason === "lease_expired") this.#retryLater(room, 0);
    else room.place = "refused";
    for (const { handlers } of this.#subscriptions(left.room)) guarded(handlers.onLeft, left);
  }

  /** @param {{rooms: string[], reason: string, cursor: string}} resync */
  resync({ cursor, ...resync }) {
    for (const { subscriptions } of this.#rooms.values()) for (const { heard } of subscriptions) heard.lower(cursor);
    for (const name of resync.rooms) {
      for (const { handlers } of this.#subscriptions(name)) guarded(handlers.onResync, resync);
    }
  }

  /** @param {string} name */
  #subscriptions(name) {
    return [...(this.#rooms.get(name)?.subscriptions ?? [])];
  }

  /** Not at once: what is unsubscribed and subscribed again in one turn (React's StrictMode) sends nothing. */
  #flushSoon() {
    this.#flushTimer ??= this.#clock.setTimeout(() => this.#flush(), 0);
  }

  #flush() {
    this.#clock.clearTimeout(this.#flushTimer);
    this.#flushTimer = null;
    this.#leave([...this.#rooms.values()].filter((room) => room.subscriptions.size === 0));
    for (const room of this.#rooms.values()) if (room.place === "joined") announce(room);
    /** @type {Map<string, Room[]>} A message has one list of types and one cursor. */
    const unasked = new Map();
    for (const room of this.#rooms.values()) {
      if (room.place === "refused" || (room.place !== "absent" && room.isAskedAsWanted)) continue;
      const key = keyOf(room.types, room.since);
      unasked.set(key, [...(unasked.get(key) ?? []), room]);
    }
    for (const rooms of unasked.values()) {
      for (let at = 0; at < rooms.length; at += MAX_ROOMS_IN_MESSAGE) {
        this.#join(rooms.slice(at, at + MAX_ROOMS_IN_MESSAGE));
      }
    }
  }

  /** @param {Room[]} rooms */
  #leave(rooms) {
    // Of a subscribe that is still unanswered the answer comes first: messages are answered in order.
    const known = rooms.filter((room) => room.isHeld || room.place === "joining").map((room) => room.name);
    for (let at = 0; at < known.length; at += MAX_ROOMS_IN_MESSAGE) {
      this.#wire.unsubscribe(known.slice(at, at + MAX_ROOMS_IN_MESSAGE));
    }
    for (const room of rooms) {
      this.#clock.clearTimeout(room.retryTimer);
      this.#rooms.delete(room.name);
    }
  }

  /** @param {Room[]} rooms  all wanted with the same types, from the same cursor */
  #join(rooms) {
    const types = rooms[0]?.types;
    const cursor = rooms[0]?.since;
    const id = this.#wire.subscribe({ rooms: rooms.map(({ name }) => name), types, cursor }, ({ error, rooms: answers }) => {
      for (const room of rooms) {
        // A room left meanwhile is another object by now, or none; one that was asked for anew waits for that answer.
        if (this.#rooms.get(room.name) !== room || room.messageId !== id || room.place !== "joining") continue;
        const answer = answers?.[room.name] ?? { success: false, ...(error && { error }) };
        if (cursor !== undefined && answers) this.#restored(room, answer, types);
        this.#answered(room, answer);
      }
      this.#flushSoon(); // what was wanted differently while this was asked
    });
    if (id === 0) return;
    for (const room of rooms) {
      room.place = "joining";
      room.messageId = id;
      room.asked = keyOf(types, cursor);
    }
  }

  /** @param {Room} room @param {RoomAnswer} answer @param {string[] | undefined} types */
  #restored(room, answer, types) {
    if (!answer.success) {
      room.isHeld = false; // it was left for being restored
    } else if (room.isAskedAsWanted) {
      room.since = undefined;
      room.asked = keyOf(types);
    }
  }

  /** @param {Room} room @param {RoomAnswer} answer */
  #answered(room, answer) {
    if (answer.success) {
      room.place = "joined";
      room.isHeld = true;
      this.#forgetRefusals(room);
      announce(room);
    } else {
      this.#refused(room, answer.error ?? { code: "bad_request", message: "refused without a reason" });
    }
  }

  /** @param {Room} room @param {Refusal} error */
  #refused(room, error) {
    room.refusals += 1;
    const willRetry = retryOfError(error.code) === "backoff" && room.refusals < MAX_REFUSALS;
    if (willRetry) this.#retryLater(room, error.retryAfterMs ?? 0);
    else room.place = "refused";
    if (!willRetry && !room.isHeld) room.forgetPromises();
    for (const { handlers } of this.#subscriptions(room.name)) guarded(handlers.onError, error, { willRetry });
  }

  /** @param {Room} room @param {number} leastMs */
  #retryLater(room, leastMs) {
    room.place = "refused";
    const pause = leastMs + this.#random() * capMs(room.refusals);
    this.#clock.clearTimeout(room.retryTimer);
    room.retryTimer = this.#clock.setTimeout(() => {
      room.place = "absent";
      this.#flush();
    }, pause);
  }

  /** @param {Room} room */
  #forgetRefusal(room) {
    room.place = "absent";
    this.#forgetRefusals(room);
  }

  /** @param {Room} room */
  #forgetRefusals(room) {
    room.refusals = 0;
    this.#clock.clearTimeout(room.retryTimer);
  }
}

/** @param {Room} room */
function announce(room) {
  if (!room.isAskedAsWanted) return; // what was added meanwhile is asked for next
  for (const subscription of [...room.subscriptions]) subscription.announce();
}

/**
 * What a room is asked for, as one word to compare by.
 * @param {readonly string[] | undefined} types @param {string} [since]
 */
function keyOf(types, since) {
  return `${types?.join(" ") ?? ""} ${since ?? ""}`;
}

/**
 * The names under which the rooms of an event may be known.
 * @param {EventFrame} frame
 */
function namesOf(frame) {
  return new Set(frame.rooms.flatMap((name) => [name, pairOf(name)]));
}
