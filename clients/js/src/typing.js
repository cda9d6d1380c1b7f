/**
 * Who types in a room, and telling the others that this user does:
 *
 *     const typing = watchTyping(client, "workspace:w1/chat:h1");
 *     typing.users.subscribe(() => show(typing.users.getSnapshot()));
 *     input.addEventListener("input", () => typing.type());
 *     form.addEventListener("submit", () => typing.stop());
 */

import { Store } from "./store.js";
import { systemClock } from "./surroundings.js";

/** A user who was not heard of for this long has stopped (PROTOCOL.md §5, "typing"). */
const SHOWN_MS = 7000;
/** How often `typing` is repeated while the user types (PROTOCOL.md §4, "typing"). */
const REPEAT_MS = 3000;

/** @type {readonly string[]} */
const NOBODY = Object.freeze([]);

/**
 * @param {import("./client.js").Client} client
 * @param {string} room
 * @param {{clock?: import("./surroundings.js").Clock}} [options]
 */
export function watchTyping(client, room, { clock = systemClock } = {}) {
  return new Typing(client, room, clock);
}

export class Typing {
  #clock;
  #subscription;
  /** @type {Map<string, unknown>} A timer for each user, in the order in which they began. */
  #timers = new Map();
  /** When the others were last told that this user types. */
  #toldAt = -Infinity;
  /** @type {Store<readonly string[]>} The ids of the users who type. */
  users = new Store(NOBODY);

  /**
   * @param {import("./client.js").Client} client
   * @param {string} room
   * @param {import("./surroundings.js").Clock} clock
   */
  constructor(client, room, clock) {
    this.#clock = clock;
    const onTyping = (/** @type {{userId: string, typing: boolean}} */ { userId, typing }) => this.#heard(userId, typing);
    this.#subscription = client.subscribe(room, { onTyping, onLeft: () => this.#clear() }, { types: ["user.typing"] });
  }

  /** The user has typed something. Call it for each input: it tells the others every 3 s. */
  type() {
    if (this.#clock.now() - this.#toldAt < REPEAT_MS) return;
    if (this.#subscription.setTyping()) this.#toldAt = this.#clock.now();
  }

  /** The user has sent the text, or deleted it. */
  stop() {
    if (this.#toldAt === -Infinity) return;
    this.#toldAt = -Infinity;
    this.#subscription.setTyping(false);
  }

  /** Leave the room, and watch no longer. */
  close() {
    this.stop();
    this.#subscription.unsubscribe();
    this.#clear();
  }

  /** @param {string} userId @param {boolean} isTyping */
  #heard(userId, isTyping) {
    const wasTyping = this.#timers.has(userId);
    this.#clock.clearTimeout(this.#timers.get(userId));
    if (isTyping) this.#timers.set(userId, this.#clock.setTimeout(() => this.#heard(userId, false), SHOWN_MS));
    else this.#timers.delete(userId);
    if (wasTyping !== isTyping) this.users.set([...this.#timers.keys()]);
  }

  #clear() {
    for (const timer of this.#timers.values()) this.#clock.clearTimeout(timer);
    this.#timers.clear();
    this.users.set(NOBODY);
  }
}
