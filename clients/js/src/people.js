/**
 * The people in a room: who is there, who types, and what the user has selected in other views.
 *
 *     const present = watchPresence(client, "campaign:c1");
 *     present.users.subscribe(() => show(present.users.getSnapshot()));
 *     present.close();
 */

import { Store } from "./store.js";
import { systemClock } from "./surroundings.js";

/** A user who was not heard of for this long has stopped (PROTOCOL.md §5, "typing"). */
const SHOWN_MS = 7000;
/** How often `typing` is repeated while the user types (PROTOCOL.md §4, "typing"). */
const REPEAT_MS = 3000;

/** @type {readonly string[]} */
const NONE = Object.freeze([]);

/** @typedef {import("./client.js").Client} Client */
/** @typedef {import("./messages.d.ts").PresenceStatus} PresenceStatus */
/** @typedef {import("./messages.d.ts").RoomPresence} RoomPresence */

/** @type {WeakMap<Client, Map<string, Presence>>} The rooms that are watched: the gateway tells a list only once. */
const watched = new WeakMap();

/**
 * Who is in a room. Several watchers of one room share what the gateway tells.
 * @param {Client} client
 * @param {string} room
 * @returns {{users: Store<RoomPresence | undefined>, close: () => void}}  `users` is undefined until it is known, and in rooms
 *   without presence
 */
export function watchPresence(client, room) {
  const rooms = watched.get(client) ?? new Map();
  watched.set(client, rooms);
  const presence = rooms.get(room) ?? new Presence(client, room, () => rooms.delete(room));
  rooms.set(room, presence);
  return presence.watch();
}

/**
 * Set the status that others see in the rooms of this client. It stays over reconnects, in which others do not see it change.
 * @param {Client} client
 * @param {PresenceStatus} status
 */
export function keepStatus(client, status) {
  client.presenceStatus = status;
  client.tell({ type: "presence", status });
}

/**
 * Who types in a room, and telling the others that this user does:
 *
 *     const typing = watchTyping(client, "workspace:w1/chat:h1");
 *     typing.users.subscribe(() => show(typing.users.getSnapshot()));
 *     input.addEventListener("input", () => typing.type());
 *     form.addEventListener("submit", () => typing.stop());
 * @param {Client} client
 * @param {string} room
 * @param {{clock?: import("./surroundings.js").Clock}} [options]
 */
export function watchTyping(client, room, { clock = systemClock } = {}) {
  return new Typing(client, room, clock);
}

/**
 * What the user has selected in a room, in this view or another one, such as the same page in another tab.
 * @param {Client} client
 * @param {string} room
 */
export function shareSelection(client, room) {
  return new Selection(client, room);
}

class Presence {
  #subscription;
  #watchers = 0;
  #onEnd;
  /** @type {Store<RoomPresence | undefined>} */
  #users = new Store(/** @type {RoomPresence | undefined} */ (undefined));

  /** @param {Client} client @param {string} room @param {() => void} onEnd */
  constructor(client, room, onEnd) {
    this.#onEnd = onEnd;
    /** @param {import("./protocol.js").Frame} frame */
    const onPeople = (frame) => frame.type === "presence" && this.#users.set(changed(this.#users.getSnapshot(), frame));
    const onLeft = () => this.#users.set(undefined);
    this.#subscription = client.subscribe(room, { onPeople, onLeft }, { types: [], presence: true });
  }

  watch() {
    this.#watchers += 1;
    let isOpen = true;
    const close = () => {
      if (isOpen) this.#watchers -= 1;
      isOpen = false;
      if (this.#watchers > 0) return;
      this.#subscription.unsubscribe();
      this.#onEnd();
    };
    return { users: this.#users, close };
  }
}

export class Typing {
  #clock;
  #subscription;
  /** @type {Map<string, unknown>} A timer for each user, in the order in which they began. */
  #timers = new Map();
  /** When the others were last told that this user types. */
  #toldAt = -Infinity;
  /** @type {Store<readonly string[]>} The ids of the users who type. */
  users = new Store(NONE);

  /**
   * @param {import("./client.js").Client} client
   * @param {string} room
   * @param {import("./surroundings.js").Clock} clock
   */
  constructor(client, room, clock) {
    this.#clock = clock;
    /** @param {import("./protocol.js").Frame} frame */
    const onPeople = ({ type, userId, typing }) => type === "typing" && this.#heard(userId, typing);
    this.#subscription = client.subscribe(room, { onPeople, onLeft: () => this.#clear() }, { types: ["user.typing"] });
  }

  /** The user has typed something. Call it for each input: it tells the others every 3 s. */
  type() {
    if (this.#clock.now() - this.#toldAt < REPEAT_MS) return;
    if (this.#tell(true)) this.#toldAt = this.#clock.now();
  }

  /** The user has sent the text, or deleted it. */
  stop() {
    if (this.#toldAt === -Infinity) return;
    this.#toldAt = -Infinity;
    this.#tell(false);
  }

  /** Leave the room, and watch no longer. */
  close() {
    this.stop();
    this.#subscription.unsubscribe();
    this.#clear();
  }

  /** @param {boolean} typing */
  #tell(typing) {
    return this.#subscription.tell({ type: "typing", typing });
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
    this.users.set(NONE);
  }
}

export class Selection {
  #subscription;
  /** @type {Store<readonly string[]>} */
  items = new Store(NONE);

  /** @param {Client} client @param {string} room */
  constructor(client, room) {
    /** @param {import("./protocol.js").Frame} frame */
    const onPeople = ({ type, items }) => type === "selection" && this.#set(items);
    this.#subscription = client.subscribe(room, { onPeople }, { types: [] });
  }

  /**
   * Select something here, and tell the user's other views.
   * @param {readonly string[]} items  at most 20, each of at most 128 characters; empty for nothing
   */
  select(items) {
    this.#set(items);
    return this.#subscription.tell({ type: "select", items });
  }

  /** Watch no longer. */
  close() {
    this.#subscription.unsubscribe();
  }

  /** @param {readonly string[]} items */
  #set(items) {
    if (JSON.stringify(items) !== JSON.stringify(this.items.getSnapshot())) this.items.set([...items]);
  }
}

/**
 * Who is in a room after a `presence` message.
 * @param {RoomPresence | undefined} before @param {import("./protocol.js").Frame} message
 * @returns {RoomPresence}
 */
function changed(before, { count, users, joined = [], changed = [], left = [] }) {
  if (users) return { count, users };
  const known = new Map((before?.users ?? []).map((user) => [user.userId, user]));
  for (const id of left) known.delete(id);
  for (const user of [...changed, ...joined]) known.set(user.userId, user);
  return { count, users: [...known.values()] };
}
