/**
 * The one client that the tabs of a browser share. It runs in a SharedWorker (`tabs_worker.js`), or in one of the tabs
 * (`tabs_leader.js`). Each tab has a port, over which it asks for rooms and is told what their handlers get (`tabs.js`). A tab is
 * also told up to where it has every event, so that it can go on from there at another hub.
 */

import { Client } from "./client.js";
import { watchPresence } from "./people.js";

/** How long a tab may take to answer with a token, before another one is asked, too. */
const TOKEN_TURN_MS = 5000;
/** How often tabs are told up to where they have every event. Another hub repeats at most what came in this time. */
const SERVED_MS = 1000;

/** @typedef {import("./client.js").ClientEvents} ClientEvents */
/** @typedef {{postMessage: (message: any) => void, onmessage: ((event: any) => any) | null, close: () => void}} Port */
/** @typedef {{kind: string, [field: string]: any}} Message  between a tab and the hub */

/** Whose calls a tab gets. */
const ROOM_EVENTS = /** @type {const} */ (["onEvent", "onReady", "onLeft", "onError", "onResync", "onPeople"]);

export class Hub {
  /** @type {Client | null} */
  #client = null;
  /** @type {Tab[]} The tab that was active last is the first. */
  #tabs = [];
  /** @type {Parameters<import("./surroundings.js").Surroundings["watch"]>[0] | null} */
  #handlers = null;
  #isOffline = false;
  /** @type {Map<string, string[]>} What is selected in each room: the gateway tells it only once, and not to its sender. */
  #selections = new Map();
  /** @type {string | undefined} The cursor up to which every subscription of every tab has its events. */
  #served;
  #servedToldAt = 0;
  #more;

  /** @param {Partial<import("./client.js").ClientOptions>} [more]  further options of the client, for tests */
  constructor(more = {}) {
    this.#more = more;
  }

  /** @param {Port} port */
  attach(port) {
    /** @type {Tab | null} */
    let tab = null;
    port.onmessage = ({ data }) => {
      if (data.kind === "hello") {
        if (data.isOffline) this.#isOffline = true;
        tab = new Tab(this.#clientWith(data.options, data.cursor), port, {
          selected: (room) => this.#selections.get(room),
          onSelected: (room, items, from) => {
            this.#selections.set(room, items);
            for (const one of this.#tabs) if (one !== from) one.people(room, { type: "selection", items });
          },
        });
        this.#welcome(tab, data.alive);
      } else if (tab !== null) {
        this.#receive(tab, data);
      }
    };
    port.postMessage({ kind: "welcome" });
  }

  /** End the connection without a word to the tabs: another hub takes over. */
  close() {
    const tabs = this.#tabs;
    this.#tabs = [];
    for (const tab of tabs) tab.close();
    this.#client?.close();
  }

  /**
   * @param {Partial<import("./client.js").ClientOptions> & {url: string}} options  of the first tab
   * @param {string | undefined} cursor  where the first tab was at the hub before
   */
  #clientWith(options, cursor) {
    if (this.#client !== null) return this.#client;
    const client = new Client({
      ...options,
      getToken: (why) => this.#token(why),
      storage: /** @type {any} */ ({ read: () => cursor, write: (/** @type {string} */ now) => this.#move(now), connectedAs() {} }),
      onError: (problem) => this.#tabs[0]?.send({ kind: "problem", problem: cloneable(problem) }),
      // A worker knows nothing of these: the tabs tell it.
      surroundings: {
        isOffline: () => this.#isOffline,
        watch: (handlers) => {
          this.#handlers = handlers;
          return () => (this.#handlers = null);
        },
      },
      ...this.#more,
    });
    this.#client = client;
    client.connection.subscribe(() => this.#tell((tab) => tab.tellStatus(this.#served)));
    client.on("resync", ({ cursor }) => {
      this.#served = cursor;
      this.#tell((tab) => tab.send({ kind: "resync", cursor }));
    });
    return client;
  }

  /** @param {(tab: Tab) => void} tell */
  #tell(tell) {
    for (const tab of this.#tabs) tell(tab);
  }

  /** @param {string | undefined} cursor  everything up to it was passed on */
  #move(cursor) {
    this.#served = cursor;
    if (Date.now() - this.#servedToldAt < SERVED_MS) return;
    this.#servedToldAt = Date.now();
    this.#tell((tab) => tab.send({ kind: "served", cursor }));
  }

  /** @param {Tab} tab @param {string} alive  the lock that the tab holds as long as it lives */
  #welcome(tab, alive) {
    this.#tabs.unshift(tab);
    this.#client?.connect(); // it asks a tab for a token
    tab.tellStatus(this.#served);
    void globalThis.navigator?.locks?.request(alive, () => this.#drop(tab));
  }

  /** @param {Tab} tab */
  #drop(tab) {
    if (!this.#tabs.includes(tab)) return;
    this.#tabs = this.#tabs.filter((one) => one !== tab);
    tab.close();
    if (this.#tabs.length > 0) return;
    this.#client?.close();
    this.#client = null;
    this.#served = undefined;
    this.#selections.clear();
  }

  /** @param {Tab} tab @param {Message} message */
  #receive(tab, message) {
    switch (message.kind) {
      case "bye":
        return this.#drop(tab);
      case "retry":
        return this.#client?.retry();
      case "awake":
        this.#tabs = [tab, ...this.#tabs.filter((one) => one !== tab)];
        return this.#handlers?.onAwake();
      case "network":
        this.#isOffline = message["isOffline"];
        return this.#isOffline ? this.#handlers?.onOffline() : this.#handlers?.onOnline();
      default:
        return tab.receive(message);
    }
  }

  /**
   * Ask the tab that was active last for a token. While there is no answer, the next tab is asked, too, and the first answer counts.
   * @param {{reason: import("./client.js").TokenReason, signal: AbortSignal}} why
   * @returns {Promise<string>}
   */
  async #token({ reason, signal }) {
    const abort = new AbortController();
    signal.addEventListener("abort", () => abort.abort());
    try {
      const answer = await this.#firstAnswer(reason, abort.signal);
      if (answer === null) throw new Error("No tab has answered with a token");
      if (answer["token"] !== undefined) return answer["token"];
      throw Object.assign(new Error(answer["message"]), { retry: answer["retry"] });
    } finally {
      abort.abort(); // the other tabs need not go on
    }
  }

  /**
   * @param {import("./client.js").TokenReason} reason @param {AbortSignal} signal
   * @returns {Promise<Message | null>} null if every tab has left
   */
  async #firstAnswer(reason, signal) {
    /** @type {Promise<Message>[]} */
    const answers = [];
    for (const tab of [...this.#tabs]) {
      const left = tab.askForToken(reason, signal);
      answers.push(left.then((answer) => answer ?? Promise.reject(new Error("the tab has left"))));
      const turn = new Promise((resolve) => setTimeout(() => resolve(null), TOKEN_TURN_MS));
      const answer = await Promise.race([Promise.any(answers).catch(() => null), turn]);
      if (answer !== null) return /** @type {Message} */ (answer);
    }
    return Promise.any(answers).catch(() => null);
  }
}

/** A tab, with its subscriptions. */
class Tab {
  #client;
  #port;
  /** @type {Map<number, import("./room.js").Subscription<any>>} */
  #subscriptions = new Map();
  /** @type {Map<number, (answer: Message | null) => void>} */
  #questions = new Map();
  #lastQuestion = 0;
  #shared;
  /** @type {(() => void)[]} */
  #offs = [];
  /** @type {Map<number, () => void>} Ends what tells a subscription who is in its room. */
  #watches = new Map();
  #isClosed = false;

  /**
   * @param {Client} client
   * @param {Port} port
   * @param {{selected: (room: string) => string[] | undefined, onSelected: (room: string, items: string[], from?: Tab) => void}} shared
   */
  constructor(client, port, shared) {
    this.#client = client;
    this.#port = port;
    this.#shared = shared;
  }

  /** @param {Message} message */
  send(message) {
    if (!this.#isClosed) this.#port.postMessage(message);
  }

  /** @param {string | undefined} served */
  tellStatus(served) {
    const { status, userId, sessionId, cursor } = this.#client;
    this.send({ kind: "status", status, userId, sessionId, cursor, served });
  }

  close() {
    this.#isClosed = true;
    for (const off of this.#offs) off();
    for (const id of [...this.#subscriptions.keys()]) this.#unsubscribe(id);
    for (const answer of this.#questions.values()) answer(null);
    this.#port.close();
  }

  /** @param {Message} message */
  receive(message) {
    const { id } = message;
    switch (message.kind) {
      case "subscribe":
        return this.#subscribe(/** @type {any} */ (message));
      case "unsubscribe":
        return this.#unsubscribe(id);
      case "tell":
        return this.#tell(id, message["message"]);
      case "presenceStatus":
        this.#client.presenceStatus = message["status"];
        return;
      case "listen":
        return this.#listen(message["name"]);
      case "seen":
        return void this.#seen(id, message["mark"], message["options"]);
      case "token":
        this.#questions.get(id)?.(message);
        return void this.#questions.delete(id);
    }
  }

  /**
   * @param {import("./client.js").TokenReason} reason @param {AbortSignal} signal  no answer is needed any more
   * @returns {Promise<Message | null>} null if it has left
   */
  askForToken(reason, signal) {
    const id = (this.#lastQuestion += 1);
    signal.addEventListener("abort", () => this.#questions.delete(id) && this.send({ kind: "noToken", id }));
    return new Promise((resolve) => {
      this.#questions.set(id, resolve);
      this.send({ kind: "token", id, reason });
    });
  }

  /**
   * Tell the tab's subscriptions of a room about its people.
   * @param {string} room @param {object} frame
   */
  people(room, frame) {
    for (const [id, one] of this.#subscriptions) if (one.room === room) this.#call(id, "onPeople", [frame]);
  }

  /** @param {{id: number, room: string, options: {presence?: boolean}}} message */
  #subscribe({ id, room, options: { presence, ...options } }) {
    /** @type {Record<string, (...args: any[]) => void>} */
    const handlers = {};
    for (const name of ROOM_EVENTS) handlers[name] = (...args) => this.#call(id, name, args, subscription.heard.value);
    handlers["onPeople"] = (frame) => {
      if (frame.type === "typing") this.#call(id, "onPeople", [frame]);
      else if (frame.type === "selection") this.#shared.onSelected(room, frame.items);
    };
    const subscription = this.#client.subscribe(room, handlers, options);
    this.#subscriptions.set(id, subscription);
    const { status } = subscription;
    const tell = () => this.send({ kind: "room", id, status: status.getSnapshot() });
    status.subscribe(tell);
    tell();
    const items = this.#shared.selected(room);
    if (items) this.#call(id, "onPeople", [{ type: "selection", items }]);
    if (presence) this.#watch(id, room);
  }

  /** @param {number} id @param {string} room */
  #watch(id, room) {
    const { users, close } = watchPresence(this.#client, room);
    const tell = () => users.getSnapshot() && this.#call(id, "onPeople", [{ type: "presence", ...users.getSnapshot() }]);
    const stop = users.subscribe(tell);
    this.#watches.set(id, () => (stop(), close()));
    tell();
  }

  /** @param {number} id */
  #unsubscribe(id) {
    this.#subscriptions.get(id)?.unsubscribe();
    this.#subscriptions.delete(id);
    this.#watches.get(id)?.();
    this.#watches.delete(id);
  }

  /** @param {number | undefined} id  of a subscription, if the message is about its room @param {Message & {type: string}} message */
  #tell(id, message) {
    const subscription = id === undefined ? undefined : this.#subscriptions.get(id);
    if (id === undefined) this.#client.tell(message);
    else subscription?.tell(message);
    if (subscription && message.type === "select") this.#shared.onSelected(subscription.room, message["items"], this);
  }

  /** @param {number} id @param {string} name @param {any[]} args @param {string} [cursor]  where the subscription is */
  #call(id, name, args, cursor) {
    this.send({ kind: "call", id, name, args, cursor });
  }

  /** @param {keyof ClientEvents} name */
  #listen(name) {
    const tell = (/** @type {any} */ value) => this.send({ kind: "event", name, value, cursor: this.#client.cursor });
    this.#offs.push(this.#client.on(name, tell));
  }

  /** @param {number} id @param {any} mark @param {object} options */
  async #seen(id, mark, options) {
    try {
      await this.#client.seen(mark, options);
      this.send({ kind: "seen", id });
    } catch (error) {
      const { code, message } = /** @type {import("./seen.js").NotSeen} */ (error);
      this.send({ kind: "seen", id, code: code ?? "closed", message });
    }
  }
}

/**
 * A problem that can be sent to a tab.
 * @param {import("./client.js").Problem} problem
 */
function cloneable({ error, ...problem }) {
  return { ...problem, error: error instanceof Error ? { message: error.message } : error };
}
