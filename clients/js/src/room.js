/** The rooms an application wants, and what the gateway knows of them. One room on the wire, however many ask for it. */

import { capMs } from "./backoff.js";
import { guarded } from "./emitter.js";
import { checkedRoom, MAX_ROOMS_IN_MESSAGE, pairOf, retryOfError } from "./protocol.js";

/** After this many retryable refusals in a row a room stays refused until it is subscribed to again. */
const MAX_REFUSALS = 10;

/** @typedef {import("./events.d.ts").EventType} EventType */
/** @typedef {import("./protocol.js").EventFrame} EventFrame */
/** @typedef {import("./protocol.js").Refusal} Refusal */
/** @typedef {import("./protocol.js").RoomAnswer} RoomAnswer */
/** @typedef {"membership_removed" | "access_revoked" | "lease_expired"} LeaveReason */

/**
 * @template {EventType} [Type=EventType]
 * @typedef {object} RoomHandlers
 * @property {(event: import("./protocol.js").EventOf<Type>, frame: EventFrame) => void} [onEvent]
 * @property {() => void} [onReady]  the room is joined: what happens from now on is heard. Not repeated by a reconnect
 * @property {(left: {room: string, reason: LeaveReason}) => void} [onLeft]
 * @property {(error: Refusal, next: {willRetry: boolean}) => void} [onError]  the room was refused
 * @property {(resync: {rooms: string[], reason: string}) => void} [onResync]  events were missed: load the state again
 */

/**
 * What the table needs of the connection: sends, and false where there is none.
 * @typedef {object} RoomWire
 * @property {(rooms: string[], types: string[] | undefined, onAnswer: (answer: {error: Refusal | undefined, rooms: Record<string, RoomAnswer> | undefined}) => void) => boolean} subscribe
 * @property {(rooms: string[]) => boolean} unsubscribe
 */

/** One subscriber of a room. */
export class Subscription {
  #table;
  /** @type {RoomHandlers} */
  handlers;
  /** Whether `onReady` is still to come. */
  awaitsReady = true;

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
  /** Which types the gateway was last asked for. */
  asked = "";
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
    return this.asked === keyOf(this.types);
  }
}

export class RoomTable {
  #clock;
  #random;
  #wire;
  /** @type {Map<string, Room>} */
  #rooms = new Map();
  /** @type {Map<string, string>} What the last `connect` asked for. */
  #introduced = new Map();
  /** @type {unknown} */
  #flushTimer = null;

  /**
   * @param {import("./surroundings.js").Clock} clock
   * @param {() => number} random
   * @param {RoomWire} wire
   */
  constructor(clock, random, wire) {
    this.#clock = clock;
    this.#random = random;
    this.#wire = wire;
  }

  /**
   * @param {string} name
   * @param {RoomHandlers} handlers
   * @param {readonly string[]} [types]  undefined for all
   */
  add(name, handlers, types) {
    const room = this.#rooms.get(checkedRoom(name)) ?? new Room(name);
    this.#rooms.set(name, room);
    const subscription = new Subscription(this, name, handlers, types);
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

  /** The rooms for `connect`, and the types of those that do not want all. */
  introduce() {
    const rooms = [...this.#rooms.values()].filter((room) => room.subscriptions.size > 0 && room.place !== "refused");
    this.#introduced = new Map(rooms.map((room) => [room.name, keyOf(room.types)]));
    const narrowed = rooms.filter((room) => room.types !== undefined);
    const types = Object.fromEntries(narrowed.map((room) => [room.name, room.types]));
    return { rooms: rooms.map((room) => room.name), types: narrowed.length > 0 ? types : undefined };
  }

  /**
   * A connection was acknowledged with these answers; it knows no other rooms of ours.
   * @param {Record<string, RoomAnswer>} answers
   */
  connected(answers) {
    this.lost();
    for (const [name, answer] of Object.entries(answers)) {
      // Unsubscribed since `connect` was sent: keep it as joined for the flush, which leaves it.
      const room = this.#rooms.get(name) ?? new Room(name);
      this.#rooms.set(name, room);
      room.asked = this.#introduced.get(name) ?? "";
      this.#answered(room, answer);
    }
    this.#flush();
  }

  /** The connection is gone; the rooms are still wanted. */
  lost() {
    for (const room of this.#rooms.values()) {
      room.isHeld = false;
      if (room.place !== "refused") room.place = "absent";
    }
  }

  /**
   * Hand an event to everybody whose room is among its rooms. The frame has the long form, a subscriber may have used
   * the short one: then the pair decides, as it did at the gateway.
   * @param {EventFrame} frame
   */
  deliver(frame) {
    const names = new Set(frame.rooms.flatMap((name) => [name, pairOf(name)]));
    for (const name of names) {
      for (const { handlers, types } of this.#subscriptions(name)) {
        if (types?.has(frame.event.type) ?? true) guarded(handlers.onEvent, frame.event, frame);
      }
    }
  }

  /**
   * The gateway put us out of a room.
   * @param {{room: string, reason: LeaveReason}} left
   */
  left(left) {
    const room = this.#rooms.get(left.room);
    if (!room) return;
    room.isHeld = false;
    for (const subscription of room.subscriptions) subscription.awaitsReady = true;
    // Only a lease that could not be renewed may come back by itself; for the others somebody has to act.
    if (left.reason === "lease_expired") this.#retryLater(room, 0);
    else room.place = "refused";
    for (const { handlers } of this.#subscriptions(left.room)) guarded(handlers.onLeft, left);
  }

  /** @param {{rooms: string[], reason: string}} resync */
  resync(resync) {
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
    /** @type {Map<string, Room[]>} A message has one list of types. */
    const unasked = new Map();
    for (const room of this.#rooms.values()) {
      if (room.place === "refused" || (room.place !== "absent" && room.isAskedAsWanted)) continue;
      const key = keyOf(room.types);
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

  /** @param {Room[]} rooms  all wanted with the same types */
  #join(rooms) {
    const names = rooms.map((room) => room.name);
    const types = rooms[0]?.types;
    const isSent = this.#wire.subscribe(names, types, ({ error, rooms: answers }) => {
      for (const room of rooms) {
        const answer = answers?.[room.name] ?? { success: false, ...(error && { error }) };
        // A room left meanwhile is another object by now, or none; one that was asked for anew waits for that answer.
        const isCurrent = this.#rooms.get(room.name) === room && room.asked === keyOf(types);
        if (isCurrent && room.place === "joining") this.#answered(room, answer);
      }
    });
    if (!isSent) return;
    for (const room of rooms) {
      room.place = "joining";
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
 * Types as one word, to compare by. All of them: the empty word.
 * @param {readonly string[] | undefined} types
 */
function keyOf(types) {
  return types?.join(" ") ?? "";
}
