/**
 * The JavaScript client meets the fixtures, through its public interface: options for the socket, the clock and chance.
 * docs/howto/write_a_client.md explains the fixtures.
 */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { Client } from "../../clients/js/src/index.js";
import { ERRORS } from "../../clients/js/src/errors.js";

const FOLDER = new URL("./fixtures/", import.meta.url);
const read = (name) => JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), "utf8"));
const NAMES = readdirSync(new URL("scripts/", FOLDER)).map((file) => file.replace(/\.json$/, "")).sort();
const SCRIPTS = NAMES.filter((name) => read(`scripts/${name}`).sides.includes("client"));
const LIMITS = { maxFrameBytes: 16_384, maxRooms: 100, messagesPerMinute: 100, roomsPerMinute: 600 };
const OUTCOMES = { no: "error", backoff: "connecting", token: "connecting" };

/** Let promises run that are ready, and modules load. */
async function settle() {
  for (let turn = 0; turn < 8; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** A clock that moves only when a script says so. */
class Clock {
  #now = 0;
  #lastId = 0;
  #timers = new Map();

  now = () => this.#now;
  clearTimeout = (id) => this.#timers.delete(id);
  setTimeout = (callback, ms) => {
    this.#timers.set((this.#lastId += 1), { at: this.#now + ms, callback });
    return this.#lastId;
  };

  async pass(ms) {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const [id, timer] = [...this.#timers].sort((one, other) => one[1].at - other[1].at)[0] ?? [];
      if (timer === undefined || timer.at > end) break;
      this.#timers.delete(id);
      this.#now = Math.max(this.#now, timer.at);
      timer.callback();
      await settle();
    }
    this.#now = end;
  }

  /** When the next timer ends, from now. */
  get next() {
    return Math.min(...[...this.#timers.values()].map(({ at }) => at)) - this.#now;
  }
}

/** Plays the gateway and the application of a script. */
class Stage {
  clock = new Clock();
  /** @type {any[]} All sockets, oldest first. */
  sockets = [];
  sent = [];
  read = 0;
  heard = [];
  told = [];
  refused = [];
  subscriptions = new Map();
  tokens = [];
  #link = -1;
  #id = 0;

  constructor(random = 0.5) {
    const stage = this;
    class Socket {
      static OPEN = 1;
      readyState = 0;
      constructor() {
        this.number = stage.sockets.push(this) - 1;
      }
      send(text) {
        stage.sent.push({ link: this.number, bytes: Buffer.byteLength(text), message: JSON.parse(text) });
      }
      close() {
        this.readyState = 3;
      }
    }
    this.client = new Client({
      url: "ws://gateway.example/ws",
      transport: "websocket",
      getToken: async ({ reason }) => `token-${this.tokens.push(reason)}`,
      WebSocket: Socket,
      clock: this.clock,
      surroundings: { isOffline: () => false, watch: () => () => {} },
      random: () => random,
      onError: () => {},
    });
  }

  async step(step) {
    await this.clock.pass(0);
    const [[kind, value]] = Object.entries(step);
    await this.#steps[kind](value, step);
    await this.clock.pass(0);
  }

  /** What each word of the scripts does. */
  #steps = {
    app: (what, { room, types, cursor }) => {
      if (what === "connect") return this.client.connect();
      if (what === "unsubscribe") return this.subscriptions.get(room).unsubscribe();
      const handlers = {
        onEvent: (event, frame) => this.heard.push(frame.offset ?? null),
        onResync: ({ rooms, reason }) => this.told.push({ rooms, reason }),
        onError: (error, { willRetry }) => this.refused.push({ room, code: error.code, willRetry }),
      };
      this.subscriptions.set(room, this.client.subscribe(room, handlers, { types, cursor }));
    },

    opens: () => {
      const link = this.sockets.length - 1;
      assert.notEqual(link, this.#link, "no connection is being opened");
      this.#link = link;
      this.sockets[link].readyState = 1;
      this.sockets[link].onopen();
    },

    client: (wanted, { absent = [] }) => {
      const { link, message } = this.sent[this.read++] ?? assert.fail(`nothing was sent instead of ${JSON.stringify(wanted)}`);
      this.#id = message.id;
      assert.equal(link, this.#link);
      for (const [key, value] of Object.entries(wanted)) assert.deepEqual(message[key], value, key);
      for (const key of absent) assert.equal(message[key] ?? null, null, key);
    },

    gateway: (frame, { on }) => {
      const isAnswer = ["connection.ack", "reply", "restored", "error"].includes(frame.type);
      this.sockets[on === "old" ? this.#link - 1 : this.#link].onmessage({ data: JSON.stringify(isAnswer ? { ...frame, id: this.#id } : frame) });
    },

    breaks: (code) => {
      const socket = this.sockets[this.#link];
      socket.readyState = 3;
      socket.onclose({ code, reason: "" });
    },

    publish: () => {}, // the gateway alone does this

    passMs: (ms) => {
      return this.clock.pass(ms);
    },

    hears: (offsets) => {
      assert.deepEqual(this.heard, offsets);
    },

    told: (wanted) => {
      assert.deepEqual(this.told.at(-1), wanted);
    },

    refused: (room, { code }) => {
      assert.deepEqual(this.refused, [{ room, code, willRetry: false }]);
    },

    silent: (types) => {
      assert.deepEqual(this.sent.slice(this.read).map(({ message }) => message.type).filter((type) => types.includes(type)), []);
    },

    state: (state, { code }) => {
      assert.equal(this.client.state, state);
      if (code) assert.equal(this.client.status.error.code, code);
    },
  };
}

/** A stage whose client is connected, and has no rooms yet. */
async function connected(limits = LIMITS, random = 0.5) {
  const stage = new Stage(random);
  await stage.step({ app: "connect" });
  await stage.step({ opens: true });
  await stage.step({ client: { type: "connect", rooms: [] } });
  const ack = { type: "connection.ack", sessionId: "session-1", userId: "u1", cursor: "e1:1", heartbeatS: 25, limits, degraded: false, rooms: {} };
  await stage.step({ gateway: ack });
  return stage;
}

for (const name of SCRIPTS) {
  test(`script ${name}`, async () => {
    const stage = new Stage();
    for (const step of read(`scripts/${name}`).steps) await stage.step(step);
  });
}

for (const { close, code, retry } of read("closes")) {
  test(`close ${close}`, async () => {
    const stage = await connected();
    await stage.step({ breaks: close });
    assert.equal(stage.client.state, OUTCOMES[retry]);
    assert.deepEqual(stage.tokens, retry === "token" ? ["connect", "refused"] : ["connect"]);
    if (retry === "no" && code) assert.equal(stage.client.status.error.code, code);
  });
}

test("errors", () => {
  for (const { code, ...row } of read("errors")) {
    const { status, close, retry } = ERRORS[code];
    assert.deepEqual({ status, close, retry }, row);
  }
});

test("backoff", async () => {
  const { attempts, longestPausesMs } = read("backoff");
  const stage = new Stage(0.999_999);
  await stage.step({ app: "connect" });
  const pauses = [];
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const socket = stage.sockets.at(-1);
    socket.readyState = 3;
    socket.onclose({ code: 1006, reason: "" });
    await settle();
    if (stage.client.state === "error") break;
    pauses.push(Math.round(stage.clock.next / 10) * 10);
    await stage.clock.pass(stage.clock.next);
  }
  assert.deepEqual(pauses, longestPausesMs);
  assert.equal(stage.client.state, "error");
});

/** What a limit per minute leaves: all of it at once, and then as much as time has passed. */
class Allowance {
  #left;
  constructor(perMinute) {
    this.perMinute = this.#left = perMinute;
  }
  pass(ms) {
    this.#left = Math.min(this.perMinute, this.#left + (ms * this.perMinute) / 60_000);
  }
  /** It may have been sent up to 100 ms before it is counted. */
  take(count) {
    this.#left -= count;
    assert.ok(this.#left > -this.perMinute / 600 - 0.001, "more than the limit allows");
  }
}

for (const { why, limits, rooms, joined: most = rooms, withinMs } of read("limits")) {
  test(`limits: ${why}`, async () => {
    const stage = await connected(limits);
    const names = Array.from({ length: rooms }, (_, number) => `campaign:c1/settlement:a-rather-long-name-${String(number).padStart(3, "0")}`);
    for (const name of names) stage.client.subscribe(name);
    const joined = new Set();
    const allowed = { messages: new Allowance(limits.messagesPerMinute), rooms: new Allowance(limits.roomsPerMinute) };
    let answered = stage.sent.length;
    for (let ms = 0; ms < withinMs && joined.size < rooms; ms += 100) {
      await stage.clock.pass(100);
      for (const one of Object.values(allowed)) one.pass(100);
      const waiting = stage.sent.slice(answered);
      answered = stage.sent.length;
      assert.ok(waiting.length <= 100);
      for (const { bytes, message } of waiting) {
        assert.ok(bytes <= limits.maxFrameBytes);
        assert.ok((message.rooms ?? []).length <= 100);
        allowed.messages.take(1);
        allowed.rooms.take((message.rooms ?? []).length);
        for (const room of message.rooms ?? []) joined.add(room);
        const answers = Object.fromEntries((message.rooms ?? []).map((room) => [room, { success: true }]));
        stage.sockets.at(-1).onmessage({ data: JSON.stringify({ type: "reply", id: message.id, success: true, rooms: answers }) });
      }
    }
    assert.deepEqual([...joined].sort(), names.slice(0, most));
  });
}

test("messages", async () => {
  for (const frame of read("messages").gateway) {
    const stage = await connected();
    await stage.step({ app: "subscribe", room: "campaign:c1" });
    await stage.step({ gateway: frame });
    assert.equal(stage.client.state, "connected", JSON.stringify(frame));
  }
});
