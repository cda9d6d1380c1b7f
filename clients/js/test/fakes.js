/** A clock and sockets that tests control, for the timing logic only. */

import { Client } from "../src/client.js";
// What the client loads when it is needed, so that it is there at once.
import "../src/detour.js";
import "../src/renewal.js";
import "../src/requests.js";
import "../src/seen.js";

export class FakeClock {
  #now = 0;
  #nextId = 1;
  /** @type {Map<number, {at: number, callback: () => void}>} */
  #timers = new Map();

  now = () => this.#now;

  setTimeout = (callback, ms) => {
    const id = this.#nextId++;
    this.#timers.set(id, { at: this.#now + ms, callback });
    return id;
  };

  clearTimeout = (id) => this.#timers.delete(id);

  /** Let the machine sleep for `ms`: time passes, but timers do not run. */
  sleep(ms) {
    this.#now += ms;
    for (const timer of this.#timers.values()) timer.at += ms;
  }

  /** Set the clock back by `ms`. Timers are not affected. */
  setBack(ms) {
    this.sleep(-ms);
  }

  /** Let `ms` pass: timers run in order, and promises between them. */
  async pass(ms) {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const [id, timer] = [...this.#timers].sort((a, b) => a[1].at - b[1].at)[0] ?? [];
      if (timer === undefined || timer.at > end) break;
      this.#timers.delete(id);
      this.#now = timer.at;
      timer.callback();
      await settle();
    }
    this.#now = end;
  }
}

/** Let promises run that are ready, and modules load. */
export async function settle() {
  for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** The limits that a gateway announces by default. */
const LIMITS = { maxFrameBytes: 16_384, maxRooms: 100 };

export class FakeSocket {
  static OPEN = 1;
  /** @type {FakeSocket[]} All sockets, oldest first. */
  static all = [];

  readyState = 0;
  sent = [];

  constructor(url, subprotocol) {
    Object.assign(this, { url, subprotocol });
    FakeSocket.all.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.readyState = 3;
  }

  get last() {
    return this.sent.at(-1);
  }

  /** The messages of one type that were sent. */
  of(type) {
    return this.sent.filter((message) => message.type === type);
  }

  open() {
    this.readyState = 1;
    this.onopen();
  }

  receive(frame) {
    this.onmessage({ data: JSON.stringify(frame) });
  }

  end(code, reason = "") {
    this.readyState = 3;
    this.onclose({ code, reason });
  }

  /** Open the socket and acknowledge. Every room of `connect` is granted unless `rooms` says otherwise. */
  accept({ cursor = "e:10", rooms, limits = LIMITS, ...more } = {}) {
    this.open();
    const granted = Object.fromEntries(this.last.rooms.map((room) => [room, { success: true }]));
    const answers = rooms ?? granted;
    this.receive({ type: "connection.ack", id: this.last.id, sessionId: "s1", userId: "u1", cursor, heartbeatS: 25, limits, rooms: answers, ...more });
  }

  /** Answer the last `subscribe`. */
  answer(rooms) {
    this.receive({ type: "reply", id: this.of("subscribe").at(-1).id, success: true, rooms });
  }

  /** Answer a message, by default the last one, with success or a refusal. */
  reply(message = this.last, error) {
    const rooms = Object.fromEntries(message.rooms.map((room) => [room, { success: true }]));
    this.receive({ type: "reply", id: message.id, success: !error, ...(error ? { error } : { rooms }) });
  }

  /** Send missed events in the rooms of the last `subscribe`. */
  restore(...events) {
    const { id, rooms } = this.of("subscribe").at(-1);
    this.receive({ type: "restored", id, rooms, events });
  }
}

/** A client with everything under the test's control. `random: 1` makes every pause as long as possible. */
export function setUp({ getToken = async () => "token", random = () => 1, ...more } = {}) {
  FakeSocket.all = [];
  const clock = new FakeClock();
  const network = { isOffline: false, handlers: {} };
  const surroundings = {
    isOffline: () => network.isOffline,
    watch: (handlers) => ((network.handlers = handlers), () => (network.handlers = {})),
  };
  const asked = [];
  const client = new Client({
    url: "ws://gateway/ws",
    getToken: (why) => (asked.push(why.reason), getToken(why)),
    WebSocket: FakeSocket,
    transport: "websocket",
    clock,
    surroundings,
    random,
    ...more,
  });
  const states = [];
  client.on("state", (status) => states.push(status));
  return { client, clock, network, asked, states };
}

/** The newest socket. */
export const socket = () => FakeSocket.all.at(-1);

/** A client that is connected. The gateway announces the given limits, too. */
export async function setUpConnected({ limits = {}, ...options } = {}) {
  const world = setUp(options);
  world.client.connect();
  await settle();
  socket().accept({ limits: { ...LIMITS, ...limits } });
  await world.clock.pass(0);
  return world;
}
