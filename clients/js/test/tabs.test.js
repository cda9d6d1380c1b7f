/** Several tabs with one connection. A MessageChannel stands for the ports of a SharedWorker. */

import { expect, onTestFinished, test } from "vitest";

import { shareSelection, watchPresence } from "../src/people.js";
import { TabClient } from "../src/tabs.js";
import { Hub } from "../src/tabs_hub.js";
import { FakeClock, FakeSocket, settle, socket } from "./fakes.js";

const ROOM = "campaign:c1";
const event = (offset, rooms = [ROOM]) => ({ type: "event", offset, rooms, event: { id: `id${offset}`, type: "t" } });
const granted = { [ROOM]: { success: true } };

/** Let messages between ports and promises run that are ready. */
async function deliver() {
  for (let turn = 0; turn < 5; turn++) await settle();
}

let tabs = 0;

/**
 * Hold a lock until it is released or the test ends, as a tab does while it lives. Older versions of Node have no locks.
 * @param {string} name
 * @returns {Promise<() => void>}
 */
async function hold(name) {
  if (!globalThis.navigator?.locks) return () => {};
  return new Promise((held) => {
    void navigator.locks.request(name, () => new Promise((release) => (onTestFinished(release), held(release))));
  });
}

/** The way of a tab to a hub, which `moveTo` leads to another one. */
class FakeLine {
  constructor(hub) {
    this.hub = hub;
  }

  async open(onPort) {
    this.alive = `alive ${(tabs += 1)}`;
    this.release = await hold(this.alive);
    this.onPort = onPort;
    this.moveTo(this.hub);
    return true;
  }

  moveTo(hub) {
    const { port1, port2 } = new MessageChannel();
    onTestFinished(() => (port1.close(), port2.close()));
    hub.attach(port2);
    this.onPort(port1, this.alive);
  }

  close() {
    this.release();
  }
}

/** A hub, and what opens tabs on it. */
function setUpTabs() {
  FakeSocket.all = [];
  const clock = new FakeClock();
  const makeHub = () => new Hub({ WebSocket: FakeSocket, transport: "websocket", clock, random: () => 0 });
  const hub = makeHub();
  const asked = [];
  const open = async (name, getToken = async () => `token of ${name}`, more = {}) => {
    const line = new FakeLine(hub);
    const options = { url: "ws://gateway/ws", getToken: (why) => (asked.push([name, why.reason]), getToken(why)), ...more };
    const client = Object.assign(new TabClient(line, options), { line });
    await client.open();
    await deliver();
    return client;
  };
  const flush = async () => {
    await deliver();
    await clock.pass(0);
    await deliver();
  };
  return { clock, open, asked, flush, hub, makeHub };
}

test("two tabs have one connection, one room on the wire, and each event once", async () => {
  const { open, asked, flush } = setUpTabs();
  const [one, two] = [await open("one"), await open("two")];
  const heard = [];
  const first = one.subscribe(ROOM, { onEvent: ({ id }) => heard.push(`one ${id}`) });
  two.subscribe(ROOM, { on: { t: ({ id }) => heard.push(`two ${id}`) } });
  await deliver();
  socket().accept();
  await flush();
  socket().receive(event(11));
  await deliver();
  first.unsubscribe();
  socket().receive(event(12));
  await deliver();

  expect(FakeSocket.all.length).toBe(1);
  expect(asked).toStrictEqual([["one", "connect"]]);
  expect([one.state, two.state, one.sessionId, two.sessionId]).toStrictEqual(["connected", "connected", "s1", "s1"]);
  expect(socket().sent[0].rooms).toStrictEqual([ROOM]);
  expect(heard).toStrictEqual(["one id11", "two id11", "two id12"]);
});

test("the connection stays when a tab is closed, which leaves its rooms, and ends with the last one", async () => {
  const { open, flush } = setUpTabs();
  const [one, two] = [await open("one"), await open("two")];
  const room = one.subscribe("campaign:c2");
  two.subscribe(ROOM);
  await deliver();
  socket().accept();
  await flush();
  expect(room.status.getSnapshot().state).toBe("joined");
  one.close();
  await flush();
  expect([socket().last.type, socket().last.rooms]).toStrictEqual(["unsubscribe", ["campaign:c2"]]);
  expect([one.state, two.state, socket().readyState]).toStrictEqual(["disconnected", "connected", 1]);
  two.close();
  await flush();

  expect(socket().readyState).toBe(3);
});

test("a tab that answers with an error or not at all does not keep the others from connecting", async () => {
  const { clock, open, asked } = setUpTabs();
  let isAway = true;
  const token = async () => {
    if (isAway) throw new Error("the token endpoint is away");
    return "token";
  };
  const one = await open("one", token);
  await deliver();
  expect(one.status.attempt).toBe(2);
  expect(one.status.reason.message).toMatch(/the token endpoint is away/);
  isAway = false;
  await clock.pass(1000);
  await deliver();
  socket().open();

  expect(socket().last.token).toBe("token");
  expect(asked).toStrictEqual([["one", "connect"], ["one", "reconnect"]]);
});

test("a tab that comes later is told who is there and what is selected", async () => {
  const { open, flush } = setUpTabs();
  const [one, two] = [await open("one"), await open("two")];
  watchPresence(one, ROOM);
  const selection = shareSelection(one, ROOM);
  await deliver();
  const presence = { count: 1, users: [{ userId: "ann", status: "online", devices: 1 }] };
  socket().accept({ rooms: { [ROOM]: { success: true, presence } } });
  await flush();
  selection.select(["a"]);
  await deliver();
  const present = watchPresence(two, ROOM);
  const other = shareSelection(two, ROOM);
  await flush();
  expect([present.users.getSnapshot(), other.items.getSnapshot()]).toStrictEqual([presence, ["a"]]);
  other.select(["b"]);
  await flush();

  expect(selection.items.getSnapshot()).toStrictEqual(["b"]);
  expect(socket().of("select").map(({ items }) => items)).toStrictEqual([["a"], ["b"]]);
});

test("`seen` and client events reach the tab that asked", async () => {
  const { open, flush } = setUpTabs();
  const [one, two] = [await open("one"), await open("two")];
  const ids = [];
  one.on("event", ({ event: { id } }) => ids.push(id));
  one.subscribe(ROOM);
  await deliver();
  socket().accept({ rooms: granted });
  await flush();
  const seen = two.seen("id11");
  const never = expect(two.seen("e:99")).rejects.toMatchObject({ name: "NotSeen", code: "closed" });
  await deliver();
  socket().receive(event(11));
  await seen;
  expect(ids).toStrictEqual(["id11"]);
  two.close();
  await never;
});

test("tabs that move to another hub resume there, and hear nothing twice", async () => {
  const { open, flush, hub, makeHub } = setUpTabs();
  const [one, two] = [await open("one"), await open("two")];
  const heard = [];
  for (const [name, tab] of Object.entries({ one, two })) {
    const note = (what) => heard.push(`${name} ${what}`);
    tab.subscribe(ROOM, { onEvent: ({ id }) => note(id), onReady: () => note("ready") });
    tab.on("event", ({ event: { id } }) => note(`client ${id}`));
  }
  await deliver();
  socket().accept();
  await flush();
  for (const offset of [11, 12]) socket().receive(event(offset));
  await deliver();
  heard.length = 0;
  hub.close();
  const next = makeHub();
  for (const { line } of [one, two]) line.moveTo(next);
  await flush();
  socket().accept();
  await flush();
  socket().receive(event(12, ["user:u1"]));
  socket().restore(event(11), event(12), event(13));
  socket().receive({ ...event(13), rooms: ["user:u1"] });
  socket().answer({ [ROOM]: { success: true } });
  await flush();
  socket().receive(event(14));
  await deliver();

  expect(FakeSocket.all.length).toBe(2);
  const { cursor } = socket().of("connect")[0];
  expect(cursor).toMatch(/^e:1[012]$/);
  expect(socket().of("subscribe").map((message) => [message.rooms, message.cursor])).toStrictEqual([[[ROOM], cursor]]);
  const wanted = ["id13", "client id13", "id14", "client id14"];
  expect(heard.sort()).toStrictEqual([...wanted.map((what) => `one ${what}`), ...wanted.map((what) => `two ${what}`)].sort());
  expect([one.state, one.status.isReconnect]).toStrictEqual(["connected", true]);
});

test("a subscription from a snapshot that was not joined yet is asked for again from the snapshot", async () => {
  const { open, flush, hub, makeHub } = setUpTabs();
  const tab = await open("one");
  const heard = [];
  await deliver();
  socket().accept();
  tab.subscribe(ROOM, { onEvent: ({ id }) => heard.push(id), onReady: () => heard.push("ready") }, { cursor: "e:5" });
  await flush();
  socket().restore(event(6));
  await deliver();
  hub.close();
  tab.line.moveTo(makeHub());
  await flush();
  socket().accept();
  await flush();
  expect(socket().last.cursor).toBe("e:5");
  socket().restore(event(6), event(7));
  socket().answer({ [ROOM]: { success: true } });
  await flush();

  expect(heard).toStrictEqual(["id6", "id7", "ready"]);
});

test("a closed tab connects again, with its subscriptions and from where it was", async () => {
  const { open, flush } = setUpTabs();
  const tab = await open("one");
  const heard = [];
  const room = tab.subscribe(ROOM, { onEvent: ({ id }) => heard.push(id) });
  await deliver();
  socket().accept();
  await flush();
  socket().receive(event(11));
  await deliver();
  tab.close();
  await flush();
  expect([tab.state, tab.sessionId, room.status.getSnapshot().state]).toStrictEqual(["disconnected", "", "joining"]);
  await expect(tab.seen("e:1")).rejects.toMatchObject({ code: "closed" });
  tab.connect();
  await flush();
  socket().accept();
  await flush();
  socket().restore(event(11), event(12));
  socket().answer(granted);
  await flush();

  expect([tab.state, room.status.getSnapshot().state, heard]).toStrictEqual(["connected", "joined", ["id11", "id12"]]);
});

test("a tab that cannot connect again says so", async () => {
  const { open } = setUpTabs();
  const problems = [];
  const tab = await open("one", async () => "token", { onError: ({ kind }) => problems.push(kind) });
  tab.close();
  tab.line.open = async () => false;
  tab.connect();
  await deliver();

  expect([tab.state, tab.status.error.code, problems]).toStrictEqual(["error", "unreachable", ["connection"]]);
});

test("the signal of `getToken` is aborted when the token is no longer needed", async () => {
  const { clock, open } = setUpTabs();
  const signals = [];
  const hangs = ({ signal }) => (signals.push(signal), new Promise(() => {}));
  const tab = await open("one", hangs);
  expect(signals[0].aborted).toBe(false);
  await clock.pass(15_000); // `tokenTimeoutMs`
  await deliver();
  expect(signals[0].aborted).toBe(true);
  await clock.pass(1000);
  await deliver();
  expect(signals[1].aborted).toBe(false);
  tab.close();

  expect(signals[1].aborted).toBe(true);
});
