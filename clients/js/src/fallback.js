/**
 * A connection over plain HTTP, for networks that block WebSockets. It looks like a `Link`: the same messages in and out.
 *
 * It hears through a stream of server-sent events or, where streams do not get through, through long polls. Both start at
 * the client's cursor and name the rooms, so the gateway keeps nothing for this client in between. What the client sends
 * goes into a short poll of its own, and its answer has the replies (PROTOCOL.md §9).
 */

import { Cursor } from "./cursor.js";
import { EventStreamReader } from "./event_stream.js";
import { readFrame, retryOfError } from "./protocol.js";
import { BROKE_OFF } from "./link.js";

/** How long an answer may take beyond the time that the gateway waits. */
const SLACK_MS = 10_000;
/** A stream that is silent for this long is dead: the gateway writes something every 15 s. */
const SILENCE_MS = 40_000;
/** How often a message is sent again if an answer lacks its reply. */
const MAX_TRIES = 3;
/** A status of HTTP as a close code. */
const CLOSE_OF_STATUS = 4000;

/** @typedef {import("./protocol.js").Frame} Frame */
/** @typedef {import("./link.js").LinkHandlers} LinkHandlers */

/** The connection has ended with a close code. */
class Ended extends Error {
  /** @param {number} code @param {string} reason @param {Frame} [error] */
  constructor(code, reason, error) {
    super(reason);
    this.code = code;
    this.error = error;
  }
}

export class FallbackLink {
  #url;
  #fetch;
  #clock;
  #handlers;
  #token = "";
  #client = {};
  /** @type {string | undefined} The user's status, in each request. */
  #status;
  #cursor = new Cursor();
  #sessionId = "";
  /** @type {Map<string, {types?: string[] | undefined, presence?: boolean | undefined}>} The rooms it is in, and what it wants of each. */
  #rooms = new Map();
  /** @type {{message: Frame, tries: number}[]} What the client sent, until it is answered. */
  #outbox = [];
  #waitS = 25;
  #isDegraded = false;
  #isAcknowledged = false;
  #hasEnded = false;
  /** @type {AbortController | null} Ends the request that waits. */
  #waiting = null;
  /** @type {AbortController | null} Ends the request that sends. */
  #sending = null;

  /**
   * @param {"sse" | "poll"} way
   * @param {string} url  the gateway's WebSocket address
   * @param {{fetch: typeof fetch, clock: import("./surroundings.js").Clock}} means
   * @param {LinkHandlers} handlers
   */
  constructor(way, url, { fetch, clock }, handlers) {
    this.way = way;
    this.#url = url;
    // A browser's `fetch` works only if it is not called as a method of another object.
    this.#fetch = (/** @type {Parameters<typeof fetch>} */ ...request) => fetch(...request);
    this.#clock = clock;
    this.#handlers = handlers;
  }

  /** There is nothing to open before the first message. Throws TypeError if the address is invalid. */
  open() {
    this.#addressOf("poll");
    this.#handlers.onOpen();
  }

  /**
   * Send a message. Returns false if the connection has ended.
   * @param {Frame} message
   */
  send(message) {
    if (this.#hasEnded) return false;
    if (message.type === "connect") this.#start(message);
    else if (message.type === "refresh") this.#refresh(message);
    else if (message.type === "presence") this.#setStatus(message);
    else if (message.type === "unsubscribe" && this.#outbox.length === 0) this.#leave(message);
    else this.#outbox.push({ message, tries: 0 });
    if (message.type !== "connect") this.#waiting?.abort(); // what it waits for is not up to date any more
    return true;
  }

  /** End it without calling a handler. */
  abandon() {
    this.#hasEnded = true;
    this.#waiting?.abort();
    this.#sending?.abort();
  }

  // What the client sends.

  /** @param {Frame} connect */
  #start(connect) {
    this.#token = connect["token"];
    this.#client = { client: connect["client"], lastClose: connect["lastClose"], awayMs: connect["awayMs"] };
    this.#status = connect["status"];
    this.#sessionId = connect["replaces"] ?? "";
    if (connect["cursor"]) this.#cursor.reset(connect["cursor"]);
    for (const room of connect["rooms"]) this.#rooms.set(room, { types: connect["types"]?.[room], presence: connect["presence"] });
    void this.#run();
  }

  /** The next request has the new token. @param {Frame} message */
  #refresh({ id, token }) {
    this.#token = token;
    this.#reply({ id, success: true });
  }

  /** The next request has the new status. @param {Frame} message */
  #setStatus({ id, status }) {
    this.#status = status;
    this.#reply({ id, success: true });
  }

  /** The next request does not name these rooms. Behind other messages it is sent as they are. @param {Frame} message */
  #leave({ id, rooms }) {
    for (const room of rooms) this.#rooms.delete(room);
    this.#reply({ id, success: true, rooms: Object.fromEntries(rooms.map((/** @type {string} */ room) => [room, { success: true }])) });
  }

  /** Later, as an answer over a network comes. @param {object} reply */
  #reply(reply) {
    this.#clock.setTimeout(() => this.#give({ type: "reply", ...reply }), 0);
  }

  // The requests.

  async #run() {
    try {
      while (!this.#hasEnded) await this.#next();
    } catch (error) {
      if (error instanceof Ended) this.#end(error);
      else this.#end(new Ended(BROKE_OFF, String(error)));
    }
  }

  async #next() {
    if (this.#outbox.length > 0) return this.#exchange();
    const waiting = (this.#waiting = new AbortController());
    try {
      if (this.way === "sse") await this.#listen(waiting);
      else await this.#poll(waiting, { waitS: this.#isAcknowledged ? this.#waitS : 0 }); // the ack must not wait for an event
    } catch (error) {
      if (!waiting.signal.aborted) throw error; // else something is to be sent, or it has ended
    } finally {
      this.#waiting = null;
    }
  }

  /** Send what the client has sent, and give it the replies. */
  async #exchange() {
    const sent = [...this.#outbox];
    this.#sending = new AbortController();
    try {
      await this.#poll(this.#sending, { waitS: 0, messages: sent.map(({ message }) => message) });
    } finally {
      this.#sending = null;
    }
    for (const one of sent) one.tries += 1;
    if (this.#outbox.some(({ tries }) => tries >= MAX_TRIES)) throw new Ended(BROKE_OFF, "No reply to a message");
  }

  /** @param {AbortController} abort @param {{waitS: number, messages?: Frame[]}} fields */
  async #poll(abort, fields) {
    const done = this.#deadline(abort, fields.waitS * 1000 + SLACK_MS);
    try {
      const response = await this.#post("poll", abort, { ...this.#client, ...fields });
      const answer = await response.json();
      if (this.#hasEnded) return;
      for (const frame of answer.messages) this.#receive(frame);
      if (answer.error) throw new Ended(CLOSE_OF_STATUS + 500, answer.error.message, answer.error);
      this.#cursor.reset(answer.cursor);
      this.#give({ type: "position", cursor: answer.cursor });
    } finally {
      done();
    }
  }

  /** @param {AbortController} abort */
  async #listen(abort) {
    let done = this.#deadline(abort, SILENCE_MS);
    try {
      const response = await this.#post("sse", abort, this.#client);
      if (!response.body || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
        throw new Ended(BROKE_OFF, "The answer is no event stream");
      }
      const reader = response.body.getReader();
      const decoder = new TextDecoder();
      const events = new EventStreamReader();
      for (;;) {
        const { done: isOver, value } = await reader.read();
        if (abort.signal.aborted) return;
        if (isOver) throw new Ended(BROKE_OFF, "The stream has ended");
        done();
        done = this.#deadline(abort, SILENCE_MS);
        for (const event of events.read(decoder.decode(value, { stream: true }))) this.#hear(event);
      }
    } finally {
      done();
    }
  }

  /** @param {import("./event_stream.js").StreamEvent} event */
  #hear({ name, data, id }) {
    if (name === "close") {
      const { code, reason } = JSON.parse(data);
      throw new Ended(code, reason ?? "");
    }
    const frame = readFrame(data);
    if (frame !== null) this.#receive(frame);
    if (id) this.#cursor.reset(id);
  }

  /**
   * Abort after a while. Returns what calls that off.
   * @param {AbortController} abort @param {number} ms
   */
  #deadline(abort, ms) {
    const timer = this.#clock.setTimeout(() => {
      this.#end(new Ended(BROKE_OFF, "No answer in time"));
      abort.abort();
    }, ms);
    return () => this.#clock.clearTimeout(timer);
  }

  /** @param {"sse" | "poll"} way @param {AbortController} abort @param {object} fields */
  async #post(way, abort, fields) {
    const narrowed = [...this.#rooms].flatMap(([room, { types }]) => (types === undefined ? [] : [[room, types]]));
    const body = {
      rooms: [...this.#rooms.keys()],
      ...(narrowed.length > 0 && { types: Object.fromEntries(narrowed) }),
      ...([...this.#rooms.values()].some(({ presence }) => presence) && { presence: true }), // it is for all rooms
      cursor: this.#cursor.value,
      status: this.#status,
      replaces: this.#sessionId || undefined,
      ...fields,
    };
    const response = await this.#fetch(this.#addressOf(way), {
      method: "POST",
      headers: { Authorization: `Bearer ${this.#token}`, "Content-Type": "application/json" },
      body: JSON.stringify(body),
      cache: "no-store",
      signal: abort.signal,
    });
    if (response.ok) return response;
    const error = await response.json().then(({ error }) => error, () => null);
    // What a proxy says, or a gateway without this way, is only about this way.
    const isOurs = typeof error?.code === "string" && response.status !== 404 && response.status !== 405;
    throw new Ended(isOurs ? CLOSE_OF_STATUS + response.status : BROKE_OFF, error?.message ?? `HTTP ${response.status}`, error);
  }

  /** @param {"sse" | "poll"} way */
  #addressOf(way) {
    return new URL(way, this.#url.replace(/^ws/, "http")).href;
  }

  // What the gateway sends.

  /** @param {Frame} frame */
  #receive(frame) {
    if (frame.type === "connection.ack") return this.#acknowledged(frame);
    if (frame.type === "room.left") this.#rooms.delete(frame["room"]);
    if (frame.type === "degraded" || frame.type === "live") this.#isDegraded = frame.type === "degraded";
    if (frame.type === "reply" || frame.type === "error") this.#answered(frame);
    if (frame.type === "resync") this.#cursor.reset(frame["cursor"]);
    this.#give(frame);
  }

  /** The client gets the first ack. From a later one it gets what has changed. @param {Frame} ack */
  #acknowledged(ack) {
    this.#sessionId = ack["sessionId"];
    this.#client = {};
    this.#waitS = Math.min(60, ack["heartbeatS"]);
    if (this.#cursor.value === undefined) this.#cursor.reset(ack["cursor"]);
    const refused = Object.entries(/** @type {Record<string, import("./protocol.js").RoomAnswer>} */ (ack["rooms"])).filter(([, { success }]) => !success);
    for (const [room] of refused) this.#rooms.delete(room);
    if (!this.#isAcknowledged) {
      this.#isAcknowledged = true;
      this.#isDegraded = ack["degraded"];
      return this.#give(ack);
    }
    for (const [room, { error }] of refused) {
      const reason = error && retryOfError(error.code) === "backoff" ? "lease_expired" : "membership_removed";
      this.#give({ type: "room.left", room, reason });
    }
    if (ack["degraded"] === this.#isDegraded) return;
    this.#isDegraded = ack["degraded"];
    this.#give(this.#isDegraded ? { type: "degraded", reason: "broker_unreachable" } : { type: "live" });
  }

  /** @param {Frame} answer */
  #answered(answer) {
    const sent = this.#outbox.find(({ message }) => message["id"] === answer["id"])?.message;
    if (sent === undefined) return;
    this.#outbox = this.#outbox.filter(({ message }) => message !== sent);
    for (const [room, { success }] of Object.entries(/** @type {Record<string, {success: boolean}>} */ (answer["rooms"] ?? {}))) {
      if (success && sent.type === "subscribe") this.#rooms.set(room, { types: sent["types"], presence: sent["presence"] });
      else this.#rooms.delete(room);
    }
  }

  /** @param {Frame} frame */
  #give(frame) {
    if (!this.#hasEnded) this.#handlers.onFrame(frame);
  }

  /** @param {Ended} ended */
  #end({ code, message, error }) {
    if (this.#hasEnded) return;
    if (error && !this.#isAcknowledged) this.#give({ ...error, type: "error" }); // it says when to try again
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#waiting?.abort();
    this.#handlers.onEnd(code, message);
  }
}
