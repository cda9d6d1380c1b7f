/** The rooms an application wants, and what the gateway knows of them. One room on the wire, however many ask for it. */

import { capMs } from "./backoff.js";
import { checkedCursor, Cursor, earlier, isAbove } from "./cursor.js";
import { guarded } from "./emitter.js";
import { Pace } from "./pace.js";
import { checkedRoom, pairOf, retryOfError } from "./protocol.js";
import { bytesOf, inLists, LEAST_FRAME_BYTES, MAX_ROOMS_IN_MESSAGE } from "./size.js";

/** After this many refusals in a row by a limit a room stays refused until it is subscribed to, or another is left. */
const MAX_REFUSALS = 10;
/** Most types that a room can be asked for with (PROTOCOL.md §4). */
const MAX_TYPES = 100;
/** Retries are put together this closely, so that rooms which were refused one by one are asked for in one message. */
const RETRY_STEP_MS = 250;

/** @typedef {import("./events.d.ts").EventType} EventType */
/** @typedef {import("./protocol.js").EventFrame} EventFrame */
/** @typedef {import("./protocol.js").Frame} Frame */
/** @typedef {import("./protocol.js").Refusal} Refusal */
/** @typedef {import("./protocol.js").RoomAnswer} RoomAnswer */
/** @typedef {import("./messages.d.ts").LeaveReason} LeaveReason */
/** @typedef {import("./messages.d.ts").ResyncReason} ResyncReason */

/**
 * @template {EventType} [Type=EventType]
 * @typedef {object} RoomHandlers
 * @property {(event: import("./protocol.js").EventOf<Type>, frame: EventFrame) => void} [onEvent]
 * @property {() => void} [onReady]  the room is joined: what happens from now on is heard, and with a
 *   `cursor` everything since that was. Not repeated by a reconnect
 * @property {(left: {room: string, reason: LeaveReason}) => void} [onLeft]
 * @property {(error: Refusal, next: {willRetry: boolean}) => void} [onError]  the room was refused
 * @property {(resync: {rooms: string[], reason: ResyncReason}) => void} [onResync]  events were missed: load the state again
 */

/** @typedef {{error?: Refusal, rooms?: Record<string, RoomAnswer>}} Answer  to a message about rooms */

/**
 * What the table needs of the connection: sends a message and returns its id, 0 where there is no connection.
 * @typedef {(message: Frame, onAnswer: (answer: Answer) => void) => number} Send
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

/** A room somebody wants, or that the gateway has still to let us leave. */
class Room {
  /** @type {Set<Subscription>} */
  subscriptions = new Set();
  /** @type {"absent" | "joining" | "joined" | "refused" | "leaving"} */
  place = "absent";
  /**
   * The long form of a short name, as the gateway looked it up; undefined until it says so. Another root may have a room
   * with the same pair, and this client may be in it.
   * @type {string | undefined}
   */
  meaning;
  /** What the gateway was last asked for: types, and from where. */
  asked = "";
  /** The message that asked for it, or to leave it. */
  messageId = 0;
  /** @type {string | undefined} The gateway must restore it from here first; what lies above comes that way alone. */
  since;
  /** Whether the gateway has us in the room, with other types perhaps than it was asked for since. */
  isHeld = false;
  refusals = 0;
  /** When a refused room is asked for again; Infinity: not by itself. */
  retryAt = Infinity;
  /** When that was decided. */
  refusedAt = 0;
  /** Whether it was refused because there are too many rooms: once another is left there may be space for it. */
  lacksSpace = false;

  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }

  /** @param {EventFrame} frame */
  isMeantBy(frame) {
    return this.meaning === undefined || frame.rooms.includes(this.meaning);
  }

  /** What its subscriptions want together; undefined for all types. */
  get types() {
    const wanted = [...this.subscriptions].map(({ types }) => types);
    if (wanted.length === 0 || wanted.includes(undefined)) return undefined;
    const all = [...new Set(wanted.flatMap((types) => [...(types ?? [])]))].sort();
    return all.length > MAX_TYPES ? undefined : all; // then each subscription takes its own
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
  #send;
  #cursor;
  #pace;
  /** @type {Map<string, Room>} */
  #rooms = new Map();
  /** @type {Map<string, string[] | undefined>} The types that the last `connect` asked for, by room. */
  #introduced = new Map();
  /** @type {Set<string>} The rooms for which the last `connect` had no space. */
  #leftOut = new Set();
  /** The largest message that the gateway takes. */
  #maxFrameBytes = LEAST_FRAME_BYTES;
  /** @type {unknown} */
  #flushTimer = null;
  /** @type {unknown} */
  #retryTimer = null;
  #nextRetryAt = Infinity;
  /** Where in their pauses rooms are asked for again: the same for all of one answer, so that they are asked for together. */
  #jitter = 0;

  /**
   * @param {import("./surroundings.js").Clock} clock
   * @param {() => number} random
   * @param {Send} send
   * @param {Cursor} cursor  the connection's
   */
  constructor(clock, random, send, cursor) {
    this.#clock = clock;
    this.#random = random;
    this.#send = send;
    this.#cursor = cursor;
    this.#pace = new Pace(clock, random, () => this.#flush());
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
    if (room.place === "leaving") room.place = "absent"; // the gateway leaves it first, then joins it again
    if (room.place === "refused") this.#forgetRefusal(room); // somebody asks anew: perhaps a member by now
    this.#flushSoon();
    return subscription;
  }

  /** @param {Subscription} subscription */
  remove(subscription) {
    const room = this.#rooms.get(subscription.room);
    if (!room?.subscriptions.delete(subscription)) return;
    if (room.place === "refused" && room.isHeld) room.place = "joined"; // perhaps these were the types that were refused
    if (room.subscriptions.size === 0) room.since = undefined;
    this.#flushSoon();
  }

  /**
   * The rooms for `connect`, and the types of those that do not want all. What is to be restored is asked for by itself, and
   * so is what does not fit.
   * @param {number} spareBytes  what the rest of the message leaves of the gateway's limit
   */
  introduce(spareBytes) {
    const isMeant = (/** @type {Room} */ room) => room.subscriptions.size > 0 && room.place !== "refused" && room.since === undefined;
    const meant = [...this.#rooms.values()].filter(isMeant);
    let spare = spareBytes - bytesOf({ types: {} });
    /** @type {Room[]} */
    const rooms = [];
    for (const room of meant) {
      const name = bytesOf(room.name) + 1;
      const bytes = room.types ? 2 * name + bytesOf(room.types) + 1 : name;
      if (rooms.length === MAX_ROOMS_IN_MESSAGE || bytes > spare) continue;
      rooms.push(room);
      spare -= bytes;
    }
    this.#introduced = new Map(rooms.map((room) => [room.name, room.types]));
    this.#leftOut = new Set(meant.map(({ name }) => name).filter((name) => !this.#introduced.has(name)));
    const narrowed = rooms.filter((room) => room.types !== undefined);
    const types = Object.fromEntries(narrowed.map((room) => [room.name, room.types]));
    return { rooms: rooms.map((room) => room.name), types: narrowed.length > 0 ? types : undefined };
  }

  /**
   * A connection was acknowledged with these answers; it knows no other rooms of ours.
   * @param {Record<string, RoomAnswer>} answers
   * @param {string | undefined} leftAt  the cursor up to which everybody was served before
   * @param {number} maxFrameBytes  the largest message that this gateway takes
   */
  connected(answers, leftAt, maxFrameBytes) {
    this.lost();
    this.#maxFrameBytes = maxFrameBytes;
    this.#jitter = this.#random();
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
   * A room that somebody counts on, and that did not come back with the connection as it was: refused for the moment, joined
   * on the old connection after the new one had asked, or without space in `connect`. It is restored from where it was left.
   * @param {Room} room @param {RoomAnswer | undefined} answer @param {string} leftAt
   */
  #owe(room, answer, leftAt) {
    if (!room.isPromised && !this.#leftOut.has(room.name)) return;
    if (room.since !== undefined) room.since = earlier(room.since, leftAt, this.#cursor.epoch);
    else if (!answer?.success || !room.isServedBy(this.#introduced.get(room.name))) room.since = leftAt;
  }

  /** The connection is gone; the rooms are still wanted. */
  lost() {
    this.#pace.reset();
    for (const room of this.#rooms.values()) {
      room.isHeld = false;
      room.messageId = 0;
      if (room.place !== "refused") room.place = "absent";
      if (room.subscriptions.size === 0) this.#rooms.delete(room.name);
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
   * the short one: then the room decides that the gateway found for it, and until it has answered, the pair.
   * @param {EventFrame} frame
   */
  deliver(frame) {
    for (const name of namesOf(frame)) {
      const room = this.#rooms.get(name);
      if (room?.isMeantBy(frame) && !this.#comesRestored(room, frame)) this.#hand(room, frame);
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
    if (left.reason === "lease_expired") this.#retryLater(room, this.#random() * capMs(room.refusals));
    else room.place = "refused";
    for (const { handlers } of this.#subscriptions(left.room)) guarded(handlers.onLeft, left);
  }

  /** @param {{rooms: string[], reason: ResyncReason, cursor: string}} resync */
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
    for (const room of this.#rooms.values()) if (room.place === "joined") announce(room);
    this.#leave([...this.#rooms.values()].filter((room) => room.subscriptions.size === 0 && room.place !== "leaving"));
    /** @type {Map<string, Room[]>} A message has one list of types and one cursor. */
    const unasked = new Map();
    for (const room of this.#rooms.values()) {
      if (room.subscriptions.size === 0 || room.place === "refused") continue;
      if (room.place !== "absent" && room.isAskedAsWanted) continue;
      const key = keyOf(room.types, room.since);
      const alike = unasked.get(key);
      if (alike) alike.push(room);
      else unasked.set(key, [room]);
    }
    for (const rooms of unasked.values()) this.#join(rooms);
  }

  /** @param {Room[]} rooms  that nobody wants any more */
  #leave(rooms) {
    // Of a subscribe that is still unanswered the answer comes first: messages are answered in order.
    const isKnown = (/** @type {Room} */ room) => room.isHeld || room.place === "joining";
    for (const room of rooms) if (!isKnown(room)) this.#rooms.delete(room.name);
    this.#askAll({ type: "unsubscribe" }, rooms.filter(isKnown), {
      onSent: (room) => {
        room.place = "leaving";
        room.isHeld = true; // until it is answered
        room.forgetPromises();
      },
      onAnswer: (room) => {
        room.isHeld = false;
        if (room.subscriptions.size === 0) this.#rooms.delete(room.name);
        this.#askForSpace();
      },
      onTooSoon: (room) => {
        if (room.place === "leaving") room.place = "joined"; // nobody wants it: the next flush leaves it
      },
    });
  }

  /** @param {Room[]} rooms  all wanted with the same types, from the same cursor */
  #join(rooms) {
    const types = rooms[0]?.types;
    const cursor = rooms[0]?.since;
    // Types that are too many for a message are left out: all events come then, and each subscription takes its own.
    const isNarrow = bytesOf({ types, cursor }) < this.#maxFrameBytes / 2;
    this.#askAll({ type: "subscribe", types: isNarrow ? types : undefined, cursor }, rooms, {
      onSent: (room) => {
        room.place = "joining";
        room.asked = keyOf(types, cursor);
      },
      onAnswer: (room, answer, wasCarriedOut) => {
        if (room.place !== "joining") return;
        if (cursor !== undefined && wasCarriedOut) this.#restored(room, answer, types);
        this.#answered(room, answer);
      },
      onTooSoon: (room, error) => {
        if (room.place !== "joining") return;
        room.place = "absent";
        for (const { handlers } of this.#subscriptions(room.name)) guarded(handlers.onError, error, { willRetry: true });
      },
    });
  }

  /**
   * Send a message for some rooms, in as many pieces as the gateway's limits need. What may not be sent yet waits for the
   * next flush. Each room hears the answer, unless another message was sent for it since.
   * @param {Frame} message @param {Room[]} rooms
   * @param {object} handlers
   * @param {(room: Room) => void} handlers.onSent
   * @param {(room: Room, answer: RoomAnswer, wasCarriedOut: boolean) => void} handlers.onAnswer
   * @param {(room: Room, error: Refusal) => void} handlers.onTooSoon  refused as a whole by a limit: it is to be repeated
   */
  #askAll(message, rooms, { onSent, onAnswer, onTooSoon }) {
    const envelope = bytesOf({ ...message, id: Number.MAX_SAFE_INTEGER, rooms: [] });
    for (const some of inLists(rooms, ({ name }) => bytesOf(name) + 1, this.#maxFrameBytes - envelope)) {
      const names = some.map(({ name }) => name);
      const bytes = envelope + bytesOf(names);
      if (!this.#pace.allows(bytes)) return;
      const id = this.#send({ ...message, rooms: names }, ({ error, rooms: answers }) => {
        const tooSoon = error && this.#isTooSoon(message, error) ? error : undefined;
        this.#pace.answered(id, tooSoon);
        this.#jitter = this.#random();
        for (const room of some) {
          if (this.#rooms.get(room.name) !== room || room.messageId !== id) continue;
          if (tooSoon) onTooSoon(room, tooSoon);
          else onAnswer(room, answers?.[room.name] ?? { success: false, ...(error && { error }) }, answers !== undefined);
        }
        this.#flushSoon(); // what was wanted differently while this was asked
      });
      if (id === 0) return;
      this.#pace.sent(id, bytes);
      for (const room of some) {
        room.messageId = id;
        onSent(room);
      }
    }
  }

  /**
   * Whether to repeat the same message. A room that could not be joined is refused by itself; one that could not be left
   * must be left sooner or later.
   * @param {Frame} message @param {Refusal} error
   */
  #isTooSoon({ type }, { code }) {
    return code === "too_many" || (type === "unsubscribe" && retryOfError(code) === "backoff");
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
      this.#forgetRefusal(room);
      room.meaning = answer.room;
      room.place = "joined";
      room.isHeld = true;
      announce(room);
    } else {
      this.#refused(room, answer.error ?? { code: "bad_request", message: "refused without a reason" });
    }
  }

  /** @param {Room} room @param {Refusal} error */
  #refused(room, error) {
    room.refusals += 1;
    room.lacksSpace = error.code === "too_many";
    // A service that is away comes back some day; a limit may well stay as it is.
    const willRetry = retryOfError(error.code) === "backoff" && (!room.lacksSpace || room.refusals < MAX_REFUSALS);
    if (willRetry) this.#retryLater(room, (error.retryAfterMs ?? 0) + this.#jitter * capMs(room.refusals));
    else room.place = "refused";
    if (!willRetry && !room.isHeld) room.forgetPromises();
    for (const { handlers } of this.#subscriptions(room.name)) guarded(handlers.onError, error, { willRetry });
  }

  /** @param {Room} room @param {number} pauseMs */
  #retryLater(room, pauseMs) {
    room.place = "refused";
    room.refusedAt = this.#clock.now();
    room.retryAt = Math.ceil((room.refusedAt + pauseMs) / RETRY_STEP_MS) * RETRY_STEP_MS;
    this.#awaitRetry(room.retryAt);
  }

  /**
   * One timer for all rooms: those whose time has come are asked for together.
   * @param {number} at
   */
  #awaitRetry(at) {
    if (at >= this.#nextRetryAt) return;
    this.#clock.clearTimeout(this.#retryTimer);
    this.#nextRetryAt = at;
    this.#retryTimer = this.#clock.setTimeout(() => {
      this.#nextRetryAt = Infinity;
      const now = this.#clock.now();
      for (const room of this.#rooms.values()) {
        const isDue = room.retryAt <= now;
        const wasSetBack = room.retryAt < Infinity && now < room.refusedAt; // the clock: nobody knows how long it has been
        if (isDue || wasSetBack) this.#askAgain(room);
        else this.#awaitRetry(room.retryAt);
      }
      this.#flush();
    }, Math.max(0, at - this.#clock.now()));
  }

  /** Another room was left. */
  #askForSpace() {
    for (const room of this.#rooms.values()) if (room.lacksSpace && room.place === "refused") this.#askAgain(room);
  }

  /** @param {Room} room */
  #askAgain(room) {
    room.place = "absent";
    room.retryAt = Infinity;
    room.lacksSpace = false;
  }

  /** @param {Room} room */
  #forgetRefusal(room) {
    this.#askAgain(room);
    room.refusals = 0;
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
