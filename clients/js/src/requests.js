/**
 * Asking for rooms on a connection: which messages join and leave what the application wants, within the gateway's limits.
 *
 * `room.js` loads it with the first subscription. The rooms of `connect` do not need it.
 */

import { Pace } from "./pace.js";
import { retryOfError } from "./protocol.js";
import { keyOf, namesOf } from "./room.js";
import { bytesOf } from "./size.js";

/** @typedef {import("./protocol.js").EventFrame} EventFrame */
/** @typedef {import("./protocol.js").Frame} Frame */
/** @typedef {import("./protocol.js").Refusal} Refusal */
/** @typedef {import("./protocol.js").RoomAnswer} RoomAnswer */
/** @typedef {import("./room.js").Room} Room */
/** @typedef {import("./room.js").Wanted} Wanted */
/** @typedef {{id: number, rooms: string[], events: EventFrame[]}} Restored  what happened in rooms since a cursor; `id` asked for it */

export class Requests {
  #table;
  #random;
  #send;

  /**
   * @param {import("./room.js").RoomTable} table
   * @param {import("./surroundings.js").Clock} clock
   * @param {() => number} random
   * @param {import("./room.js").Send} send
   * @param {() => void} onGo  called when a message may be sent that had to wait
   */
  constructor(table, clock, random, send, onGo) {
    this.#table = table;
    this.#random = random;
    this.#send = send;
    this.pace = new Pace(clock, random, onGo);
    this.pace.begin(table.limits);
  }

  /** Send what is needed to be in the rooms that are wanted, and in no others. */
  flush() {
    this.#leave([...this.#table.rooms.values()].filter((room) => room.subscriptions.size === 0 && room.place !== "leaving"));
    /** @type {Map<string, Room[]>} A message has one list of types and one cursor. */
    const unasked = new Map();
    let held = [...this.#table.rooms.values()].filter(({ isKnown }) => isKnown).length;
    for (const room of this.#table.rooms.values()) {
      if (room.subscriptions.size === 0 || room.place === "refused") continue;
      if (room.place !== "absent" && room.isAskedAsWanted) continue;
      if (!room.isKnown && (held += 1) > this.#table.limits.maxRooms) {
        this.#table.refused(room, { code: "too_many", message: `A connection may be in ${this.#table.limits.maxRooms} rooms` });
        continue;
      }
      const key = keyOf(room);
      const alike = unasked.get(key);
      if (alike) alike.push(room);
      else unasked.set(key, [room]);
    }
    for (const rooms of unasked.values()) this.#join(rooms);
  }

  /** @param {Room[]} rooms  that are no longer wanted */
  #leave(rooms) {
    for (const room of rooms) if (!room.isKnown) this.#table.rooms.delete(room.name);
    this.#askAll({ type: "unsubscribe" }, rooms.filter(({ isKnown }) => isKnown), {
      onSent: (room) => {
        room.place = "leaving";
        room.isHeld = true; // until it is answered
        room.forgetPromises();
      },
      onAnswer: (room) => {
        room.isHeld = false;
        if (room.subscriptions.size === 0) this.#table.rooms.delete(room.name);
        this.#askForSpace();
      },
      onTooSoon: (room) => {
        if (room.place === "leaving") room.place = "joined"; // the next flush leaves it
      },
    });
  }

  /** @param {Room[]} rooms  all wanted with the same types, from the same cursor */
  #join(rooms) {
    const types = rooms[0]?.types;
    const cursor = rooms[0]?.since;
    const wantsPresence = rooms[0]?.wantsPresence;
    // If the types do not fit into a message, they are left out: all events come, and each subscription filters its own.
    const isNarrow = bytesOf({ types, cursor }) < this.#table.limits.maxFrameBytes / 2;
    this.#askAll({ type: "subscribe", types: isNarrow ? types : undefined, cursor, presence: wantsPresence || undefined }, rooms, {
      onSent: (room) => {
        room.place = "joining";
        room.asked = keyOf({ types, wantsPresence, since: cursor });
      },
      onAnswer: (room, answer, wasCarriedOut) => {
        if (room.place !== "joining") return;
        if (cursor !== undefined && wasCarriedOut) this.#restored(room, answer, { types, wantsPresence });
        this.#table.answered(room, answer);
      },
      onTooSoon: (room, error) => {
        if (room.place !== "joining") return;
        room.place = "absent";
        this.#table.sayRefused(room, error, true);
      },
    });
  }

  /**
   * Send a message for some rooms, in as many parts as the gateway's limits need. Parts that may not be sent yet wait for the
   * next flush. `onAnswer` is called for each room, unless another message was sent for it since.
   * @param {Frame} message @param {Room[]} rooms
   * @param {object} handlers
   * @param {(room: Room) => void} handlers.onSent
   * @param {(room: Room, answer: RoomAnswer, wasCarriedOut: boolean) => void} handlers.onAnswer
   * @param {(room: Room, error: Refusal) => void} handlers.onTooSoon  a limit refused the whole message: it must be repeated
   */
  #askAll(message, rooms, { onSent, onAnswer, onTooSoon }) {
    if (rooms.length === 0) return;
    const envelope = bytesOf({ ...message, id: Number.MAX_SAFE_INTEGER, rooms: [] });
    for (const some of this.pace.parts(rooms, this.#table.limits.maxFrameBytes - envelope)) {
      const whole = { ...message, rooms: some.map(({ name }) => name) };
      const bytes = envelope + bytesOf(whole.rooms);
      if (!this.pace.allows(whole, bytes)) return;
      const id = this.#send(whole, ({ error, rooms: answers }) => {
        const tooSoon = error && this.#isTooSoon(message, error) ? error : undefined;
        this.pace.answered(id, tooSoon);
        this.#table.jitter = this.#random();
        for (const room of some) {
          if (this.#table.rooms.get(room.name) !== room || room.messageId !== id) continue;
          if (tooSoon) onTooSoon(room, tooSoon);
          else onAnswer(room, answers?.[room.name] ?? { success: false, ...(error && { error }) }, answers !== undefined);
        }
        this.#table.flushSoon(); // send what has changed in the meantime
      });
      if (id === 0) return;
      this.pace.sent(id, bytes);
      for (const room of some) {
        room.messageId = id;
        onSent(room);
      }
    }
  }

  /**
   * Whether to repeat the same message. A room that could not be joined has a retry of its own. A room that could not be left
   * must still be left.
   * @param {Frame} message @param {Refusal} error
   */
  #isTooSoon({ type }, { code }) {
    return code === "too_many" || (type === "unsubscribe" && retryOfError(code) === "backoff");
  }

  /** @param {Room} room @param {RoomAnswer} answer @param {Wanted} wanted */
  #restored(room, answer, wanted) {
    if (!answer.success) {
      room.isHeld = false; // the gateway removed it before restoring it
    } else if (room.isAskedAsWanted) {
      room.since = undefined;
      room.asked = keyOf(wanted);
    }
  }

  /** A room was left: ask again for the rooms that were refused because there were too many. */
  #askForSpace() {
    for (const room of this.#table.rooms.values()) {
      if (room.place === "refused" && room.trouble?.error?.code === "too_many") this.#table.askAgain(room);
    }
  }

  /**
   * Pass missed events to the subscriptions of the rooms that were asked for.
   * @param {Restored} restored
   */
  restore({ id, rooms, events }) {
    for (const frame of events) {
      const names = namesOf(frame);
      for (const name of rooms) {
        const room = this.#table.rooms.get(name);
        // If the room was asked for with other types or another cursor since, all of it comes again.
        if (room && names.has(name) && room.messageId === id && room.isAskedAsWanted) this.#table.hand([...room.subscriptions], frame);
      }
    }
  }
}
