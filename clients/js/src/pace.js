/**
 * How fast a connection may ask for rooms. A gateway closes a connection with more than 100 unanswered messages, or 64 KiB of
 * them. It refuses messages that come faster than its limits (PROTOCOL.md §4). So the client counts what it sends against the
 * limits of the ack, and has only a few unanswered messages at a time. After a refusal it waits as long as the gateway says, and
 * collects its requests into fewer messages.
 */

import { capMs } from "./backoff.js";
import { bytesOf, MAX_ROOMS_IN_MESSAGE, USUAL_LIMITS } from "./size.js";
import { Timer } from "./timer.js";

/** Well below the gateway's 100 messages and 64 KiB: pings and token refreshes are messages, too. */
const MAX_UNANSWERED = 16;
const MAX_UNANSWERED_BYTES = 48 * 1024;
const MINUTE_MS = 60_000;
/** What is left of the messages per minute to everything else: pings, refreshes, presence, typing. A tenth. */
const RESERVE_MS = MINUTE_MS / 10;

/** A limit per minute: all of it at once, and then as much as time has passed. */
class Allowance {
  #clock;
  #reserveMs;
  /** How long it takes until one more is there. */
  #eachMs = 0;
  /** When all of it is there again. */
  #fullAt = 0;

  /** @param {import("./surroundings.js").Clock} clock @param {number} [reserveMs]  the part that `waitMs` leaves */
  constructor(clock, reserveMs = 0) {
    this.#clock = clock;
    this.#reserveMs = reserveMs;
  }

  /** @param {number} perMinute */
  begin(perMinute) {
    this.#eachMs = MINUTE_MS / perMinute;
    this.#fullAt = 0;
  }

  /** @param {number} count */
  take(count) {
    this.#fullAt = this.#clock.now() + Math.min(MINUTE_MS, this.#usedMs + count * this.#eachMs);
  }

  /**
   * How long to wait until so much is there. More than the limit is there when all of it is.
   * @param {number} count
   */
  waitMs(count) {
    return this.#usedMs + Math.min(MINUTE_MS, count * this.#eachMs + this.#reserveMs) - MINUTE_MS;
  }

  /** The used part, of a minute. More than a minute means that the clock was set back. */
  get #usedMs() {
    const usedMs = this.#fullAt - this.#clock.now();
    return usedMs > MINUTE_MS ? 0 : Math.max(0, usedMs);
  }
}

/** @typedef {import("./protocol.js").Frame} Frame */

export class Pace {
  #random;
  #onGo;
  #messages;
  #rooms;
  /** @type {Map<number, number>} The bytes of each unanswered message, by id. */
  #unanswered = new Map();
  #refusals = 0;
  #limits = USUAL_LIMITS;
  /** Set during a pause after a refusal. */
  #hold;
  /** Set while a limit per minute is used up. Rooms can be left in that time. */
  #wait;

  /**
   * @param {import("./surroundings.js").Clock} clock
   * @param {() => number} random
   * @param {() => void} onGo  called after a pause
   */
  constructor(clock, random, onGo) {
    this.#messages = new Allowance(clock, RESERVE_MS);
    this.#rooms = new Allowance(clock);
    this.#hold = new Timer(clock);
    this.#wait = new Timer(clock);
    this.#random = random;
    this.#onGo = onGo;
  }

  /**
   * A connection begins, with these limits.
   * @param {import("./size.js").Limits} limits
   */
  begin(limits) {
    this.#limits = limits;
    this.#messages.begin(limits.messagesPerMinute);
    this.#rooms.begin(limits.roomsPerMinute);
  }

  /**
   * Split rooms into as few lists as possible, in order, each for a message of its own.
   * @template {{name: string}} Named
   * @param {Named[]} rooms @param {number} spareBytes  what the names may take in a message
   */
  parts(rooms, spareBytes) {
    const most = Math.min(MAX_ROOMS_IN_MESSAGE, this.#limits.roomsPerMinute);
    return inLists(rooms, ({ name }) => bytesOf(name) + 1, spareBytes, most);
  }

  /**
   * Whether a message about rooms may be sent now. If not, try again after the next answer or `onGo`.
   * @param {Frame} message @param {number} bytes
   */
  allows({ type, rooms }, bytes) {
    if (this.#hold.isSet) return false;
    if (type !== "unsubscribe") {
      const waitMs = Math.max(this.#messages.waitMs(1), this.#rooms.waitMs(rooms.length));
      if (waitMs > 0) {
        this.#wait.set(waitMs, this.#onGo);
        return false;
      }
    }
    const waiting = [...this.#unanswered.values()].reduce((sum, each) => sum + each, 0);
    return this.#unanswered.size === 0 || (this.#unanswered.size < MAX_UNANSWERED && waiting + bytes <= MAX_UNANSWERED_BYTES);
  }

  /**
   * Count a message of any type. The limits do not count an `unsubscribe`.
   * @param {Frame} message
   */
  count({ type, rooms = [] }) {
    if (type === "unsubscribe") return;
    this.#messages.take(1);
    this.#rooms.take(rooms.length);
  }

  /** @param {number} id @param {number} bytes */
  sent(id, bytes) {
    this.#unanswered.set(id, bytes);
  }

  /**
   * @param {number} id
   * @param {import("./protocol.js").Refusal} [refusal]  the message was refused as a whole, and is worth repeating
   */
  answered(id, refusal) {
    this.#unanswered.delete(id);
    if (refusal === undefined) this.#refusals = 0;
    else this.#pause(refusal.retryAfterMs ?? 0);
  }

  /** The connection is gone: forget the unanswered messages. */
  reset() {
    this.#unanswered.clear();
    this.#refusals = 0;
    this.#hold.stop();
    this.#wait.stop();
  }

  /** @param {number} leastMs */
  #pause(leastMs) {
    if (this.#hold.isSet) return; // messages that were already on their way are refused too
    this.#hold.set(leastMs + this.#random() * capMs(this.#refusals), this.#onGo);
    this.#refusals += 1;
  }
}

/**
 * Split things into as few lists as possible, in order. A thing that is too large gets a list of its own.
 * @template Thing
 * @param {Thing[]} things @param {(thing: Thing) => number} costOf @param {number} spare  bytes for each list
 * @param {number} most  the largest number of things in a list
 * @returns {Thing[][]}
 */
function inLists(things, costOf, spare, most) {
  /** @type {Thing[][]} */
  const lists = [];
  let left = 0;
  for (const thing of things) {
    const cost = costOf(thing);
    const list = lists.at(-1);
    if (list && cost <= left && list.length < most) {
      list.push(thing);
      left -= cost;
    } else {
      lists.push([thing]);
      left = spare - cost;
    }
  }
  return lists;
}
