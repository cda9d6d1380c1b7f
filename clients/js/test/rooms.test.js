/** Rooms: shared, never doubled, kept over reconnects, and each event to those who want it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { setUpConnected, settle, socket } from "./fakes.js";

const event = (offset, rooms, id = `id-${offset}`) => ({ type: "event", offset, rooms, event: { id, type: "t" } });

test("several subscriptions share one room on the wire, and each hears the event", async () => {
  const { client, clock } = await setUpConnected();
  const heard = [];
  const one = client.subscribe("campaign:c1", { onEvent: () => heard.push("one"), onReady: () => heard.push("ready") });
  const two = client.subscribe("campaign:c1", { onEvent: () => heard.push("two") });
  await clock.pass(0);
  assert.deepEqual(socket().of("subscribe").map(({ rooms }) => rooms), [["campaign:c1"]]);
  socket().answer({ "campaign:c1": { success: true } });
  socket().receive(event(11, ["campaign:c1", "campaign:c1/settlement:s1"]));
  one.unsubscribe();
  await clock.pass(0);
  assert.equal(socket().of("unsubscribe").length, 0);
  two.unsubscribe();
  await clock.pass(0);

  assert.deepEqual(heard, ["ready", "one", "two"]);
  assert.deepEqual(socket().last.rooms, ["campaign:c1"]);
  assert.equal(socket().last.type, "unsubscribe");
});

test("unsubscribe and subscribe in one turn send nothing", async () => {
  const { client, clock } = await setUpConnected();
  const before = client.subscribe("campaign:c1");
  await clock.pass(0);
  socket().answer({ "campaign:c1": { success: true } });
  const count = socket().sent.length;
  let ready = 0;
  before.unsubscribe();
  client.subscribe("campaign:c1", { onReady: () => ready++ });
  await clock.pass(0);
  client.subscribe("campaign:c2").unsubscribe();
  await clock.pass(0);

  assert.equal(socket().sent.length, count);
  assert.equal(ready, 1);
});

test("a subscription takes a new handler without resubscribing", async () => {
  const { client, clock } = await setUpConnected();
  const heard = [];
  const subscription = client.subscribe("campaign:c1", { onEvent: () => heard.push("old") });
  await clock.pass(0);
  subscription.setHandlers({ onEvent: () => heard.push("new") });
  socket().receive(event(11, ["campaign:c1"]));
  await clock.pass(0);

  assert.deepEqual(heard, ["new"]);
  assert.equal(socket().of("subscribe").length, 1);
});

test("the short form hears what comes in the long form; the long form only its own root", async () => {
  const { client } = await setUpConnected();
  const heard = [];
  client.subscribe("settlement:s1", { onEvent: () => heard.push("short") });
  client.subscribe("campaign:c1/settlement:s1", { onEvent: () => heard.push("long") });
  client.subscribe("campaign:c2/settlement:s1", { onEvent: () => heard.push("other root") });
  client.on("event", () => heard.push("client"));
  socket().receive(event(11, ["campaign:c1", "campaign:c1/settlement:s1"]));

  assert.deepEqual(heard.sort(), ["client", "long", "short"]);
});

test("the reply to a subscribe moves the cursor", async () => {
  const { client, clock } = await setUpConnected();
  client.subscribe("campaign:c1", {});
  await clock.pass(0);
  const { id } = socket().sent.at(-1);
  socket().receive({ type: "reply", id, success: true, rooms: { "campaign:c1": { success: true } }, cursor: "e:30" });
  socket().end(1006);
  await clock.pass(2000);
  socket().accept({ cursor: "e:30" });

  assert.equal(socket().sent[0].cursor, "e:30");
});

test("rooms and cursor come back with the connection; what was seen is dropped", async () => {
  const { client, clock } = await setUpConnected();
  const heard = [];
  let ready = 0;
  client.subscribe("campaign:c1", { onEvent: ({ id }) => heard.push(id), onReady: () => ready++ });
  await clock.pass(0);
  socket().answer({ "campaign:c1": { success: true } });
  socket().receive(event(11, ["campaign:c1"]));
  socket().receive({ type: "position", cursor: "e:20" });
  socket().receive({ type: "position", cursor: "e:15" });
  socket().end(1006);
  await clock.pass(2000);
  socket().accept({ cursor: "e:20" });
  socket().receive(event(20, ["campaign:c1"]));
  socket().receive(event(21, ["campaign:c1"]));
  socket().receive(event(21, ["campaign:c1"]));

  const [connect] = socket().sent;
  assert.deepEqual(connect.rooms, ["campaign:c1"]);
  assert.equal(connect.cursor, "e:20");
  assert.equal(connect.lastClose, 1006);
  assert.equal(socket().of("subscribe").length, 0, "never doubled");
  assert.deepEqual(heard, ["id-11", "id-21"]);
  assert.equal(ready, 1);
});

test("an event without an offset is always applied and leaves the cursor alone", async () => {
  const { client } = await setUpConnected();
  let count = 0;
  client.on("event", () => count++);
  socket().receive({ type: "event", rooms: ["workspace:w1"], event: { id: "x" } });
  socket().receive({ type: "event", rooms: ["workspace:w1"], event: { id: "x" } });

  assert.equal(count, 2);
  assert.equal(client.cursor, "e:10");
});

test("resync is the only thing that moves the cursor back, and tells its rooms", async () => {
  const { client, clock } = await setUpConnected();
  const told = [];
  client.subscribe("campaign:c1", { onResync: ({ reason }) => told.push(reason) });
  client.on("resync", ({ rooms }) => told.push(rooms));
  await clock.pass(0);
  socket().receive({ type: "resync", rooms: ["campaign:c1"], reason: "epoch_changed", cursor: "f:3" });
  let applied = 0;
  client.on("event", () => applied++);
  socket().receive(event(4, ["campaign:c1"]));
  socket().receive({ type: "position", cursor: "e:99" }); // of the epoch that is over

  assert.deepEqual(told, [["campaign:c1"], "epoch_changed"]);
  assert.equal(client.cursor, "f:4");
  assert.equal(applied, 1);
});

test("room.left is told, and the room is not asked for again until somebody subscribes", async () => {
  const { client, clock } = await setUpConnected();
  const told = [];
  client.on("left", ({ reason }) => told.push(reason));
  client.subscribe("campaign:c1", { onLeft: ({ room }) => told.push(room) });
  await clock.pass(0);
  socket().answer({ "campaign:c1": { success: true } });
  socket().receive({ type: "room.left", room: "campaign:c1", reason: "membership_removed" });
  socket().end(1006);
  await clock.pass(2000);
  socket().accept();
  assert.deepEqual(socket().sent[0].rooms, []);
  client.subscribe("campaign:c1");
  await clock.pass(0);

  assert.deepEqual(told, ["campaign:c1", "membership_removed"]);
  assert.equal(socket().of("subscribe").length, 1);
});

test("a lease that ran out is asked for again by itself", async () => {
  const { client, clock } = await setUpConnected();
  client.subscribe("campaign:c1");
  await clock.pass(0);
  socket().answer({ "campaign:c1": { success: true } });
  socket().receive({ type: "room.left", room: "campaign:c1", reason: "lease_expired" });
  await clock.pass(1000);

  assert.equal(socket().of("subscribe").length, 2);
});

test("a refusal is told; only one that is worth it is tried again", async () => {
  const { client, clock } = await setUpConnected();
  const told = [];
  const onError = ({ code }, { willRetry }) => told.push([code, willRetry]);
  client.subscribe("campaign:no", { onError });
  client.subscribe("campaign:later", { onError });
  await clock.pass(0);
  socket().answer({
    "campaign:no": { success: false, error: { code: "forbidden", message: "" } },
    "campaign:later": { success: false, error: { code: "unavailable", message: "" } },
  });
  await clock.pass(2000);

  assert.deepEqual(told, [["forbidden", false], ["unavailable", true]]);
  assert.deepEqual(socket().last.rooms, ["campaign:later"]);
});

test("a refusal in the ack is told as well", async () => {
  const { client, clock } = await setUpConnected();
  let code = "";
  client.subscribe("campaign:c1", { onError: (error) => (code = error.code) });
  await clock.pass(0);
  socket().end(1006);
  await clock.pass(2000);
  socket().accept({ rooms: { "campaign:c1": { success: false, error: { code: "forbidden", message: "" } } } });

  assert.equal(code, "forbidden");
});

test("what is unsubscribed while connecting is left after the ack", async () => {
  const { client, clock } = await setUpConnected();
  const subscription = client.subscribe("campaign:c1");
  await clock.pass(0);
  socket().end(1006);
  await clock.pass(1000);
  socket().open();
  subscription.unsubscribe();
  await clock.pass(0);
  const { id } = socket().last;
  const rooms = { "campaign:c1": { success: true } };
  socket().receive({ type: "connection.ack", id, sessionId: "s", cursor: "e:10", heartbeatS: 25, rooms });
  await settle();

  assert.equal(socket().last.type, "unsubscribe");
});

test("more than 100 rooms go in several messages", async () => {
  const { client, clock } = await setUpConnected();
  for (let number = 0; number < 150; number++) client.subscribe(`campaign:c${number}`);
  await clock.pass(0);

  assert.deepEqual(socket().of("subscribe").map(({ rooms }) => rooms.length), [100, 50]);
});

test("a room is asked for with the types its subscriptions want together, and each hears its own", async () => {
  const { client, clock } = await setUpConnected();
  const heard = [];
  const typed = (type, offset) => ({ ...event(offset, ["campaign:c1"]), event: { id: "x", type } });
  const want = (name, types) =>
    client.subscribe("campaign:c1", { onEvent: ({ type }) => heard.push([name, type]), onReady: () => heard.push(name) }, { types });
  const one = want("one", ["b", "a"]);
  const two = want("two", ["b", "c"]);
  client.subscribe("campaign:c2");
  await clock.pass(0);
  assert.deepEqual(socket().of("subscribe").map(({ rooms, types }) => [rooms, types]), [[["campaign:c1"], ["a", "b", "c"]], [["campaign:c2"], undefined]]);
  socket().receive({ type: "reply", id: socket().of("subscribe")[0].id, success: true, rooms: { "campaign:c1": { success: true } } });
  socket().receive(typed("a", 11));
  socket().receive(typed("b", 12));
  one.unsubscribe();
  await clock.pass(0);
  assert.deepEqual(socket().last.types, ["b", "c"]);
  socket().answer({ "campaign:c1": { success: true } });
  const all = want("all", undefined);
  await clock.pass(0);
  assert.equal("types" in socket().last, false);
  assert.deepEqual(heard, ["one", "two", ["one", "a"], ["one", "b"], ["two", "b"]]);
  socket().answer({ "campaign:c1": { success: true } });
  assert.equal(heard.at(-1), "all");
  all.unsubscribe();
  two.unsubscribe();
  await clock.pass(0);

  assert.deepEqual([socket().last.type, socket().last.rooms], ["unsubscribe", ["campaign:c1"]]);
});

test("types come back with the connection; what was added meanwhile is asked for and then ready", async () => {
  const { client, clock } = await setUpConnected();
  let ready = 0;
  client.subscribe("campaign:c1", {}, { types: ["a"] });
  client.subscribe("campaign:c2");
  await clock.pass(0);
  socket().end(1006);
  await clock.pass(1000);
  socket().open();
  const { id, rooms, types } = socket().last;
  client.subscribe("campaign:c1", { onReady: () => ready++ }, { types: ["b"] });
  await clock.pass(0);
  const granted = { "campaign:c1": { success: true }, "campaign:c2": { success: true } };
  socket().receive({ type: "connection.ack", id, sessionId: "s", cursor: "e:10", heartbeatS: 25, rooms: granted });
  assert.deepEqual([rooms, types], [["campaign:c1", "campaign:c2"], { "campaign:c1": ["a"] }]);
  assert.deepEqual([socket().last.rooms, socket().last.types, ready], [["campaign:c1"], ["a", "b"], 0]);
  socket().answer({ "campaign:c1": { success: true } });

  assert.equal(ready, 1);
});

test("types that are refused are told; the room is left when nobody wants it any more", async () => {
  const { client, clock } = await setUpConnected();
  const told = [];
  const good = client.subscribe("campaign:c1", { onEvent: ({ id }) => told.push(id) }, { types: ["a"] });
  await clock.pass(0);
  socket().answer({ "campaign:c1": { success: true } });
  const bad = client.subscribe("campaign:c1", { onError: ({ code }, { willRetry }) => told.push([code, willRetry]) }, { types: ["no"] });
  await clock.pass(0);
  const error = { code: "unknown_type", message: "'no' is no event type" };
  socket().receive({ type: "reply", id: socket().last.id, success: false, error });
  socket().receive({ ...event(11, ["campaign:c1"]), event: { id: "still heard", type: "a" } });
  bad.unsubscribe();
  await clock.pass(0);
  assert.deepEqual([socket().last.rooms, socket().last.types], [["campaign:c1"], ["a"]]);
  good.unsubscribe();
  await clock.pass(0);

  assert.deepEqual(told, [["unknown_type", false], "still heard"]);
  assert.deepEqual([socket().last.type, socket().last.rooms], ["unsubscribe", ["campaign:c1"]]);
});

test("what is no room is refused where it is written", async () => {
  const { client } = await setUpConnected();
  for (const room of ["", "campaign", "campaign:", "a:b/c", "a:b/c:d/e:f", "campaign:c 1"]) {
    assert.throws(() => client.subscribe(room), TypeError);
  }
});

test("a handler that throws harms no other", async (context) => {
  context.mock.method(console, "error", () => {});
  const { client } = await setUpConnected();
  let heard = 0;
  client.on("event", () => {
    throw new Error("broken");
  });
  client.subscribe("campaign:c1", { onEvent: () => heard++ });
  socket().receive(event(11, ["campaign:c1"]));

  assert.equal(heard, 1);
});

test("degraded, live, role and error frames surface", async () => {
  const { client } = await setUpConnected();
  const told = [];
  for (const name of ["degraded", "live", "role", "error"]) client.on(name, () => told.push(name));
  socket().receive({ type: "degraded", reason: "broker_unreachable" });
  assert.equal(client.isDegraded, true);
  socket().receive({ type: "live" });
  socket().receive({ type: "role.changed", root: "campaign:c1", role: "viewer" });
  socket().receive({ type: "error", code: "bad_request", message: "" });
  socket().receive({ type: "something.newer" });

  assert.deepEqual(told, ["degraded", "live", "role", "error"]);
  assert.equal(client.isDegraded, false);
});
