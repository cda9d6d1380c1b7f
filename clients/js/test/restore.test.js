/** Nothing is missed in a room: from a snapshot on, and where a connection comes back without it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { setUpConnected, settle, socket } from "./fakes.js";

const C1 = "campaign:c1";
const S1 = "campaign:c1/settlement:s1";
const event = (offset, rooms = [C1]) => ({ type: "event", offset, rooms, event: { id: `id-${offset}`, type: "t" } });
const granted = (...rooms) => Object.fromEntries(rooms.map((room) => [room, { success: true, recovered: true }]));
const heardBy = () => {
  const heard = [];
  return { heard, handlers: { onEvent: ({ id }) => heard.push(id), onReady: () => heard.push("ready"), onResync: () => heard.push("resync") } };
};

test("a snapshot's cursor is asked with, and what is restored is heard before `onReady`, without moving the cursor", async () => {
  const { client, clock } = await setUpConnected();
  const { heard, handlers } = heardBy();
  client.subscribe(C1, handlers, { cursor: "e:5" });
  await clock.pass(0);
  assert.deepEqual([socket().last.rooms, socket().last.cursor], [[C1], "e:5"]);
  socket().restore(event(6), event(9));
  assert.equal(client.cursor, "e:10");
  socket().answer(granted(C1));
  socket().receive(event(11));

  assert.deepEqual(heard, ["id-6", "id-9", "ready", "id-11"]);
});

test("lost before the reply it is asked again from the same cursor, not in `connect`, and heard once", async () => {
  const { client, clock } = await setUpConnected();
  const { heard, handlers } = heardBy();
  client.subscribe(C1, handlers, { cursor: "e:5" });
  await clock.pass(0);
  socket().restore(event(6));
  socket().end(1006);
  await clock.pass(2000);
  socket().accept();
  assert.deepEqual(socket().sent[0].rooms, []);
  assert.deepEqual([socket().last.rooms, socket().last.cursor], [[C1], "e:5"]);
  socket().restore(event(6), event(7));
  socket().answer(granted(C1));
  await clock.pass(0);
  assert.equal(socket().of("subscribe").length, 1, "restored: nothing is left to ask for");
  socket().end(1006);
  await clock.pass(2000);
  socket().accept();

  assert.deepEqual(socket().sent[0].rooms, [C1], "from now on it comes with the connection");
  assert.deepEqual(heard, ["id-6", "id-7", "ready"]);
});

test("while a room is restored, live events of other rooms do not overtake what is missing in it", async () => {
  const { client, clock } = await setUpConnected();
  const settlement = heardBy();
  const campaign = heardBy();
  client.subscribe(C1, campaign.handlers);
  await clock.pass(0);
  socket().answer(granted(C1));
  client.subscribe(S1, settlement.handlers, { cursor: "e:10" });
  await clock.pass(0);
  socket().receive(event(12, [C1, S1]));
  socket().restore(event(11, [C1, S1]), event(12, [C1, S1]));
  socket().answer(granted(S1));
  socket().receive(event(13, [C1, S1]));

  assert.deepEqual(settlement.heard, ["id-11", "id-12", "ready", "id-13"]);
  assert.deepEqual(campaign.heard, ["ready", "id-12", "id-13"]);
});

test("who is in a room already misses and repeats nothing when another comes to it with a snapshot", async () => {
  const { client, clock } = await setUpConnected();
  const [first, second] = [heardBy(), heardBy()];
  client.subscribe(C1, first.handlers);
  await clock.pass(0);
  socket().answer(granted(C1));
  socket().receive(event(11));
  client.subscribe(C1, second.handlers, { cursor: "e:13" });
  await clock.pass(0);
  socket().receive(event(12));
  socket().receive(event(14)); // above the snapshot: the gateway restores it as well
  socket().restore(event(14), event(15));
  socket().answer(granted(C1));
  socket().receive(event(16));

  assert.deepEqual(first.heard, ["ready", "id-11", "id-12", "id-14", "id-15", "id-16"]);
  assert.deepEqual(second.heard, ["id-14", "id-15", "ready", "id-16"]);
});

test("an older snapshot that comes while one is restored: all is asked for anew, nobody hears twice or late", async () => {
  const { client, clock } = await setUpConnected();
  const [young, old] = [heardBy(), heardBy()];
  client.subscribe(C1, young.handlers, { cursor: "e:7" });
  await clock.pass(0);
  const first = socket().last.id;
  socket().receive({ type: "restored", id: first, rooms: [C1], events: [event(8)] });
  client.subscribe(C1, old.handlers, { cursor: "e:5" });
  client.subscribe(C1, {}, { cursor: "e:6" });
  socket().receive({ type: "restored", id: first, rooms: [C1], events: [event(9)] });
  await clock.pass(0);
  assert.equal(socket().last.cursor, "e:5");
  socket().receive({ type: "reply", id: first, success: true, rooms: granted(C1) });
  socket().restore(event(6), event(8), event(9));
  socket().answer(granted(C1));

  assert.deepEqual(young.heard, ["id-8", "id-9", "ready"]);
  assert.deepEqual(old.heard, ["id-6", "id-8", "id-9", "ready"]);
});

test("a room that the new connection refuses for the moment is restored from where it was left", async () => {
  const { client, clock } = await setUpConnected();
  const { heard, handlers } = heardBy();
  client.subscribe(C1, handlers);
  await clock.pass(0);
  socket().answer(granted(C1));
  socket().receive(event(11));
  socket().end(1006);
  await clock.pass(2000);
  const unavailable = { success: false, error: { code: "unavailable", message: "auth does not answer" } };
  socket().accept({ cursor: "e:11", rooms: { [C1]: unavailable } });
  socket().receive({ type: "position", cursor: "e:20" });
  await clock.pass(3000);
  assert.deepEqual([socket().last.rooms, socket().last.cursor], [[C1], "e:11"]);
  socket().restore(event(12), event(19));
  socket().answer(granted(C1));
  socket().receive(event(21));

  assert.deepEqual(heard, ["ready", "id-11", "id-12", "id-19", "id-21"]);
});

test("lost while a snapshot was asked for in a room that another was in before: both are served from where they were", async () => {
  for (const [snapshot, asked] of [["e:13", "e:10"], ["e:7", "e:7"]]) {
    const { client, clock } = await setUpConnected();
    const [first, second] = [heardBy(), heardBy()];
    client.subscribe(C1, first.handlers);
    await clock.pass(0);
    socket().answer(granted(C1));
    client.subscribe(C1, second.handlers, { cursor: snapshot });
    await clock.pass(0);
    socket().end(1006);
    await clock.pass(2000);
    socket().accept();
    assert.equal(socket().last.cursor, asked);
    socket().restore(event(14));
    socket().answer(granted(C1));

    assert.deepEqual(first.heard, ["ready", "id-14"]);
    assert.deepEqual(second.heard, ["id-14", "ready"]);
  }
});

test("after a refusal for good nobody is promised anything: who asks anew is told when it is joined, from then on", async () => {
  const { client, clock } = await setUpConnected();
  const { heard, handlers } = heardBy();
  const forbidden = { [C1]: { success: false, error: { code: "forbidden", message: "" } } };
  client.subscribe(C1, handlers);
  await clock.pass(0);
  socket().answer(granted(C1));
  client.subscribe(C1, {}, { cursor: "e:5" });
  await clock.pass(0);
  socket().answer(forbidden); // a member no more, and out of the room for being restored
  client.subscribe(C1);
  await clock.pass(0);
  assert.equal(socket().last.cursor, undefined);
  socket().answer(granted(C1));
  socket().end(1006);
  await clock.pass(2000);
  socket().accept({ rooms: forbidden });
  client.subscribe(C1);
  await clock.pass(0);
  assert.equal(socket().last.cursor, undefined);
  socket().answer(granted(C1));

  assert.deepEqual(heard, ["ready", "ready", "ready"]);
});

test("a room that was joined on the old connection after the next had asked is restored on the new one", async () => {
  const { client, clock } = await setUpConnected();
  const { heard, handlers } = heardBy();
  const old = socket();
  old.receive({ type: "goaway", afterMs: 0, withinMs: 0 });
  await clock.pass(0);
  const next = socket();
  next.open();
  const { id } = next.last;
  client.subscribe(C1, handlers);
  await clock.pass(0);
  old.answer(granted(C1));
  old.receive(event(11));
  next.receive({ type: "connection.ack", id, sessionId: "s2", userId: "u1", cursor: "e:10", heartbeatS: 25, rooms: {} });
  await settle();
  assert.deepEqual([next.last.rooms, next.last.cursor], [[C1], "e:11"]);
  next.restore(event(12));
  next.answer(granted(C1));
  next.receive(event(13));

  assert.deepEqual(heard, ["ready", "id-11", "id-12", "id-13"]);
});

test("what cannot be restored is told; then it goes on live", async () => {
  const { client, clock } = await setUpConnected();
  const { heard, handlers } = heardBy();
  client.subscribe(C1, handlers, { cursor: "d:500" });
  await clock.pass(0);
  socket().answer({ [C1]: { success: true, recovered: false } });
  socket().receive({ type: "resync", rooms: [C1], reason: "epoch_changed", cursor: "e:12" });
  socket().receive(event(13));

  assert.deepEqual(heard, ["ready", "resync", "id-13"]);
});

test("a stream that went back within its epoch: after `resync` lower offsets are new", async () => {
  const { client, clock } = await setUpConnected();
  const { heard, handlers } = heardBy();
  client.subscribe(C1, handlers);
  await clock.pass(0);
  socket().answer(granted(C1));
  socket().receive(event(50));
  socket().receive({ type: "resync", rooms: [C1], reason: "ahead", cursor: "e:40" });
  socket().receive(event(41));

  assert.deepEqual(heard, ["ready", "id-50", "resync", "id-41"]);
});

test("what is no cursor is refused where it is written; a missing one is none", async () => {
  const { client, clock } = await setUpConnected();
  assert.throws(() => client.subscribe(C1, {}, { cursor: "12" }), TypeError);
  client.subscribe(C1, {}, { cursor: null });
  await clock.pass(0);
  assert.equal(socket().last.cursor, undefined);
});
