/** Several tabs with one connection. A MessageChannel stands for the ports of a SharedWorker. */

import assert from "node:assert/strict";
import { test } from "node:test";

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
 * Hold a lock until the end of the test, as a tab does while it lives. Older versions of Node have no locks.
 * @param {import("node:test").TestContext} context @param {string} name
 */
async function hold(context, name) {
  if (!globalThis.navigator?.locks) return;
  await new Promise((held) => {
    void navigator.locks.request(name, () => new Promise((release) => (context.after(release), held())));
  });
}

/** A hub, and what opens tabs on it. */
function setUpTabs(context) {
  FakeSocket.all = [];
  const clock = new FakeClock();
  const hub = new Hub({ WebSocket: FakeSocket, transport: "websocket", clock, random: () => 0 });
  const asked = [];
  const open = async (name, getToken = async () => `token of ${name}`) => {
    const { port1, port2 } = new MessageChannel();
    context.after(() => (port1.close(), port2.close()));
    const alive = `alive ${(tabs += 1)}`;
    await hold(context, alive);
    hub.attach(port2);
    const options = { url: "ws://gateway/ws", getToken: (why) => (asked.push([name, why.reason]), getToken(why)) };
    port1.postMessage({ kind: "hello", options: { url: options.url }, alive });
    const client = new TabClient(port1, options);
    await deliver();
    return client;
  };
  const flush = async () => {
    await deliver();
    await clock.pass(0);
    await deliver();
  };
  return { clock, open, asked, flush };
}

test("two tabs have one connection, one room on the wire, and each event once", async (context) => {
  const { open, asked, flush } = setUpTabs(context);
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

  assert.equal(FakeSocket.all.length, 1);
  assert.deepEqual(asked, [["one", "connect"]]);
  assert.deepEqual([one.state, two.state, one.sessionId, two.sessionId], ["connected", "connected", "s1", "s1"]);
  assert.deepEqual(socket().sent[0].rooms, [ROOM]);
  assert.deepEqual(heard, ["one id11", "two id11", "two id12"]);
});

test("the connection stays when a tab is closed, which leaves its rooms, and ends with the last one", async (context) => {
  const { open, flush } = setUpTabs(context);
  const [one, two] = [await open("one"), await open("two")];
  const room = one.subscribe("campaign:c2");
  two.subscribe(ROOM);
  await deliver();
  socket().accept();
  await flush();
  assert.equal(room.status.getSnapshot().state, "joined");
  one.close();
  await flush();
  assert.deepEqual([socket().last.type, socket().last.rooms], ["unsubscribe", ["campaign:c2"]]);
  assert.deepEqual([one.state, two.state, socket().readyState], ["disconnected", "connected", 1]);
  two.close();
  await flush();

  assert.equal(socket().readyState, 3);
});

test("a tab that answers with an error or not at all does not keep the others from connecting", async (context) => {
  const { clock, open, asked } = setUpTabs(context);
  let isAway = true;
  const token = async () => {
    if (isAway) throw new Error("the token endpoint is away");
    return "token";
  };
  const one = await open("one", token);
  await deliver();
  assert.equal(one.status.attempt, 2);
  assert.match(one.status.reason.message, /the token endpoint is away/);
  isAway = false;
  await clock.pass(1000);
  await deliver();
  socket().open();

  assert.equal(socket().last.token, "token");
  assert.deepEqual(asked, [["one", "connect"], ["one", "reconnect"]]);
});

test("a tab that comes later is told who is there and what is selected", async (context) => {
  const { open, flush } = setUpTabs(context);
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
  assert.deepEqual([present.users.getSnapshot(), other.items.getSnapshot()], [presence, ["a"]]);
  other.select(["b"]);
  await flush();

  assert.deepEqual(selection.items.getSnapshot(), ["b"]);
  assert.deepEqual(socket().of("select").map(({ items }) => items), [["a"], ["b"]]);
});

test("`seen` and client events reach the tab that asked", async (context) => {
  const { open, flush } = setUpTabs(context);
  const [one, two] = [await open("one"), await open("two")];
  const ids = [];
  one.on("event", ({ event: { id } }) => ids.push(id));
  one.subscribe(ROOM);
  await deliver();
  socket().accept({ rooms: granted });
  await flush();
  const seen = two.seen("id11");
  const never = assert.rejects(two.seen("e:99"), { name: "NotSeen", code: "closed" });
  await deliver();
  socket().receive(event(11));
  await seen;
  assert.deepEqual(ids, ["id11"]);
  two.close();
  await never;
});
