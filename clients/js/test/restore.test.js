/** No event is missed in a room: after a snapshot, and when a connection comes back without the room. */

import { expect, test } from "vitest";

import { setUpConnected, settle, socket } from "./fakes.js";

const C1 = "campaign:c1";
const S1 = "campaign:c1/settlement:s1";
const event = (offset, rooms = [C1]) => ({ type: "event", offset, rooms, event: { id: `id-${offset}`, type: "t" } });
const granted = (...rooms) => Object.fromEntries(rooms.map((room) => [room, { success: true, recovered: true }]));
const heardBy = () => {
  const heard = [];
  return { heard, handlers: { onEvent: ({ id }) => heard.push(id), onReady: () => heard.push("ready"), onResync: () => heard.push("resync") } };
};

test("a subscription with a snapshot's cursor gets restored events before `onReady`, and the connection's cursor stays", async () => {
  const { client, clock } = await setUpConnected();
  const { heard, handlers } = heardBy();
  client.subscribe(C1, handlers, { cursor: "e:5" });
  await clock.pass(0);
  expect([socket().last.rooms, socket().last.cursor]).toStrictEqual([[C1], "e:5"]);
  socket().restore(event(6), event(9));
  expect(client.cursor).toBe("e:10");
  socket().answer(granted(C1));
  socket().receive(event(11));

  expect(heard).toStrictEqual(["id-6", "id-9", "ready", "id-11"]);
});

test("a connection lost before the reply asks again from the same cursor, and each event arrives once", async () => {
  const { client, clock } = await setUpConnected();
  const { heard, handlers } = heardBy();
  client.subscribe(C1, handlers, { cursor: "e:5" });
  await clock.pass(0);
  socket().restore(event(6));
  socket().end(1006);
  await clock.pass(2000);
  socket().accept();
  expect(socket().sent[0].rooms).toStrictEqual([]);
  expect([socket().last.rooms, socket().last.cursor]).toStrictEqual([[C1], "e:5"]);
  socket().restore(event(6), event(7));
  socket().answer(granted(C1));
  await clock.pass(0);
  expect(socket().of("subscribe").length, "restored: nothing is left to ask for").toBe(1);
  socket().end(1006);
  await clock.pass(2000);
  socket().accept();

  expect(socket().sent[0].rooms, "from now on it comes with the connection").toStrictEqual([C1]);
  expect(heard).toStrictEqual(["id-6", "id-7", "ready"]);
});

test("live events do not overtake the missing events of a room that is being restored", async () => {
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

  expect(settlement.heard).toStrictEqual(["id-11", "id-12", "ready", "id-13"]);
  expect(campaign.heard).toStrictEqual(["ready", "id-12", "id-13"]);
});

test("a second subscription with a snapshot makes the first one neither miss nor repeat an event", async () => {
  const { client, clock } = await setUpConnected();
  const [first, second] = [heardBy(), heardBy()];
  client.subscribe(C1, first.handlers);
  await clock.pass(0);
  socket().answer(granted(C1));
  socket().receive(event(11));
  client.subscribe(C1, second.handlers, { cursor: "e:13" });
  await clock.pass(0);
  socket().receive(event(12));
  socket().receive(event(14)); // above the snapshot: the gateway restores it too
  socket().restore(event(14), event(15));
  socket().answer(granted(C1));
  socket().receive(event(16));

  expect(first.heard).toStrictEqual(["ready", "id-11", "id-12", "id-14", "id-15", "id-16"]);
  expect(second.heard).toStrictEqual(["id-14", "id-15", "ready", "id-16"]);
});

test("what is restored for a second subscription does not come to the first, which began later and heard nothing yet", async () => {
  const { client, clock } = await setUpConnected();
  const [first, second] = [heardBy(), heardBy()];
  client.subscribe(C1, first.handlers);
  await clock.pass(0);
  socket().answer(granted(C1));
  client.subscribe(C1, second.handlers, { cursor: "e:5" });
  await clock.pass(0);
  socket().restore(event(7));
  socket().answer(granted(C1));
  socket().receive(event(11));

  expect(first.heard).toStrictEqual(["ready", "id-11"]);
  expect(second.heard).toStrictEqual(["id-7", "ready", "id-11"]);
});

test("an older snapshot during a restore starts it over, and no event comes twice or late", async () => {
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
  expect(socket().last.cursor).toBe("e:5");
  socket().receive({ type: "reply", id: first, success: true, rooms: granted(C1) });
  socket().restore(event(6), event(8), event(9));
  socket().answer(granted(C1));

  expect(young.heard).toStrictEqual(["id-8", "id-9", "ready"]);
  expect(old.heard).toStrictEqual(["id-6", "id-8", "id-9", "ready"]);
});

test("a room that the new connection refuses for the moment is restored from its last cursor", async () => {
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
  expect([socket().last.rooms, socket().last.cursor]).toStrictEqual([[C1], "e:11"]);
  socket().restore(event(12), event(19));
  socket().answer(granted(C1));
  socket().receive(event(21));

  expect(heard).toStrictEqual(["ready", "id-11", "id-12", "id-19", "id-21"]);
});

test("after a loss during a restore, old and new subscriptions continue from their own cursors", async () => {
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
    expect(socket().last.cursor).toBe(asked);
    socket().restore(event(14));
    socket().answer(granted(C1));

    expect(first.heard).toStrictEqual(["ready", "id-14"]);
    expect(second.heard).toStrictEqual(["id-14", "ready"]);
  }
});

test("after a final refusal a new subscription is ready only when the room is joined again", async () => {
  const { client, clock } = await setUpConnected();
  const { heard, handlers } = heardBy();
  const forbidden = { [C1]: { success: false, error: { code: "forbidden", message: "" } } };
  client.subscribe(C1, handlers);
  await clock.pass(0);
  socket().answer(granted(C1));
  client.subscribe(C1, {}, { cursor: "e:5" });
  await clock.pass(0);
  socket().answer(forbidden); // no longer a member, and out of the room because it was restored
  client.subscribe(C1);
  await clock.pass(0);
  expect(socket().last.cursor).toBeUndefined();
  socket().answer(granted(C1));
  socket().end(1006);
  await clock.pass(2000);
  socket().accept({ rooms: forbidden });
  client.subscribe(C1);
  await clock.pass(0);
  expect(socket().last.cursor).toBeUndefined();
  socket().answer(granted(C1));

  expect(heard).toStrictEqual(["ready", "ready", "ready"]);
});

test("a room that was joined on the old connection during a handover is restored on the new one", async () => {
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
  expect([next.last.rooms, next.last.cursor]).toStrictEqual([[C1], "e:11"]);
  next.restore(event(12));
  next.answer(granted(C1));
  next.receive(event(13));

  expect(heard).toStrictEqual(["ready", "id-11", "id-12", "id-13"]);
});

test("a room that cannot be restored gets `resync`, and continues live", async () => {
  const { client, clock } = await setUpConnected();
  const { heard, handlers } = heardBy();
  client.subscribe(C1, handlers, { cursor: "d:500" });
  await clock.pass(0);
  socket().answer({ [C1]: { success: true, recovered: false } });
  socket().receive({ type: "resync", rooms: [C1], reason: "epoch_changed", cursor: "e:12" });
  socket().receive(event(13));

  expect(heard).toStrictEqual(["ready", "resync", "id-13"]);
});

test("after a `resync` to a lower cursor, lower offsets are new events", async () => {
  const { client, clock } = await setUpConnected();
  const { heard, handlers } = heardBy();
  client.subscribe(C1, handlers);
  await clock.pass(0);
  socket().answer(granted(C1));
  socket().receive(event(50));
  socket().receive({ type: "resync", rooms: [C1], reason: "ahead", cursor: "e:40" });
  socket().receive(event(41));

  expect(heard).toStrictEqual(["ready", "id-50", "resync", "id-41"]);
});

test("an invalid cursor throws at the call, and a missing one is ignored", async () => {
  const { client, clock } = await setUpConnected();
  expect(() => client.subscribe(C1, {}, { cursor: "12" })).toThrow(TypeError);
  client.subscribe(C1, {}, { cursor: null });
  await clock.pass(0);
  expect(socket().last.cursor).toBeUndefined();
});
