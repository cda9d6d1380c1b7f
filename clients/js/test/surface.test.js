/** What an application sees of a connection and its rooms: stores, iteration, presence, typing, and reported errors. */

import { expect, test } from "vitest";

import { follow } from "../src/follow.js";
import { isEvent } from "../src/guard.js";
import { eventsOf, Missed } from "../src/loop.js";
import { keepStatus, shareSelection, watchPresence, watchTyping } from "../src/people.js";
import { setUp, setUpConnected, settle, socket } from "./fakes.js";

const ROOM = "campaign:c1";
const event = (offset, type = "t", rooms = [ROOM]) => ({ type: "event", offset, rooms, event: { id: `id${offset}`, type } });
const ann = { userId: "ann", status: "online", devices: 1 };
const bob = { userId: "bob", status: "away", devices: 2 };

test("the connection's snapshot is the same object until something changes, and each change calls the listeners", async () => {
  const { client, clock } = setUp();
  const seen = [];
  const stop = client.connection.subscribe(() => seen.push(client.connection.getSnapshot()));
  client.connect();
  await settle();
  socket().accept();
  const connected = client.connection.getSnapshot();
  socket().receive({ type: "position", cursor: "e:11" });
  expect(client.connection.getSnapshot()).toBe(connected);
  socket().receive({ type: "degraded", reason: "broker_unreachable" });
  socket().receive({ type: "live" });
  socket().end(1006, "gone");
  await clock.pass(0);
  stop();
  client.close();

  const words = ({ state, attempt, isLive, isDegraded, reason }) => [state, attempt, isLive, isDegraded, reason?.message];
  expect(seen.map(words)).toStrictEqual([
    ["connecting", 1, false, false, undefined],
    ["connected", 0, true, false, undefined],
    ["connected", 0, true, true, undefined],
    ["connected", 0, true, false, undefined],
    ["connecting", 2, false, false, "gone"],
  ]);
});

test("a room's status tells joining, joined, a refusal, and the way back", async () => {
  const { client, clock } = setUp();
  const room = client.subscribe(ROOM);
  const states = [room.status.getSnapshot().state];
  room.status.subscribe(() => states.push(room.status.getSnapshot().state));
  client.connect();
  await settle();
  socket().accept();
  const joined = room.status.getSnapshot();
  socket().receive(event(11));
  expect(room.status.getSnapshot()).toBe(joined);
  socket().receive({ type: "room.left", room: ROOM, reason: "membership_removed" });
  expect(room.status.getSnapshot().reason).toBe("membership_removed");
  const again = client.subscribe(ROOM);
  await clock.pass(0);
  socket().answer({ [ROOM]: { success: false, error: { code: "unavailable", message: "away" } } });
  expect(again.status.getSnapshot()).toBe(room.status.getSnapshot());
  expect(room.status.getSnapshot().error.code).toBe("unavailable");
  await clock.pass(5000);
  socket().answer({ [ROOM]: { success: false, error: { code: "forbidden", message: "no" } } });
  room.unsubscribe();

  expect(states).toStrictEqual(["joining", "joined", "left", "joining", "retrying", "joining", "refused", "idle"]);
});

test("a connection that moves to another gateway does not change a room's status", async () => {
  const { client, clock } = await setUpConnected();
  const room = client.subscribe(ROOM);
  await clock.pass(0);
  socket().answer({ [ROOM]: { success: true } });
  const states = [];
  room.status.subscribe(() => states.push(room.status.getSnapshot().state));
  socket().receive({ type: "goaway", afterMs: 0, withinMs: 8000 });
  await clock.pass(2000);
  socket().accept();

  expect(states).toStrictEqual([]);
});

test("a subscription that is not enabled sends nothing until it is, and leaves when it is disabled", async () => {
  const { client, clock } = await setUpConnected();
  const ready = [];
  const room = client.subscribe(ROOM, { onReady: () => ready.push("ready") }, { enabled: false });
  await clock.pass(0);
  expect(room.status.getSnapshot().state).toBe("idle");
  expect(socket().of("subscribe").length).toBe(0);
  for (let round = 1; round <= 2; round++) {
    room.setEnabled(true);
    room.setEnabled(true);
    await clock.pass(0);
    socket().answer({ [ROOM]: { success: true } });
    room.setEnabled(false);
    await clock.pass(0);
    socket().reply(socket().last);
    expect(socket().of("subscribe").length).toBe(round);
    expect(socket().of("unsubscribe").length).toBe(round);
  }

  expect(ready).toStrictEqual(["ready", "ready"]);
});

test("handlers of single types get only their events", async () => {
  const { client } = setUp();
  const heard = [];
  client.subscribe(ROOM, { onEvent: ({ id }) => heard.push(id), on: { b: ({ id }) => heard.push(`b ${id}`) } });
  client.connect();
  await settle();
  socket().accept();
  socket().receive(event(11, "a"));
  socket().receive(event(12, "b"));

  expect(heard).toStrictEqual(["id11", "id12", "b id12"]);
});

test("a loop over a room's events gets each in order, and unsubscribes when it is left", async () => {
  const { client, clock } = setUp();
  const events = eventsOf(client, ROOM);
  client.connect();
  await settle();
  socket().accept();
  const heard = [];
  const loop = (async () => {
    for await (const { id } of events) {
      heard.push(id);
      if (id === "id13") break;
    }
  })();
  socket().receive(event(11));
  await settle();
  socket().receive(event(12));
  socket().receive(event(13));
  await loop;
  await clock.pass(0);

  expect(heard).toStrictEqual(["id11", "id12", "id13"]);
  expect(socket().last.type).toStrictEqual("unsubscribe");
});

test("a loop throws if events were missed, if the room was refused, and if it is too slow", async () => {
  const { client } = setUp();
  const [missed, slow] = [eventsOf(client, ROOM), eventsOf(client, "campaign:c2")];
  const refused = eventsOf(client, "campaign:c3");
  client.connect();
  await settle();
  const rooms = { [ROOM]: { success: true }, "campaign:c2": { success: true } };
  socket().accept({ rooms: { ...rooms, "campaign:c3": { success: false, error: { code: "forbidden", message: "no" } } } });
  socket().receive({ type: "resync", rooms: [ROOM], reason: "too_old", cursor: "e:20" });
  for (let offset = 21; offset <= 1021; offset++) socket().receive(event(offset, "t", ["campaign:c2"]));

  for (const [events, reason] of [[missed, "resync"], [slow, "overflow"], [refused, "forbidden"]]) {
    await expect(events.next()).rejects.toSatisfy((error) => error instanceof Missed && error.reason === reason);
    expect(await events.next()).toStrictEqual({ done: true, value: undefined });
  }
});

test("a loop goes on after an expired lease, because the client joins again without a gap", async () => {
  const { client, clock } = setUp();
  const events = eventsOf(client, ROOM);
  client.connect();
  await settle();
  socket().accept();
  socket().receive({ type: "room.left", room: ROOM, reason: "lease_expired" });
  await clock.pass(1000);
  expect(socket().last.type).toBe("subscribe");
  socket().answer({ [ROOM]: { success: true } });
  socket().receive(event(12));

  expect((await events.next()).value.id).toBe("id12");
});

test("all watchers of a room see the same list of who is there, also one that comes later", async () => {
  const { client, clock } = setUp();
  const first = watchPresence(client, ROOM);
  client.connect();
  await settle();
  expect(first.users.getSnapshot()).toBeUndefined();
  socket().accept({ rooms: { [ROOM]: { success: true, presence: { count: 1, users: [ann] } } } });
  expect([socket().of("connect")[0].presence, socket().of("connect")[0].types]).toStrictEqual([true, { [ROOM]: ["user.typing"] }]);
  socket().receive({ type: "presence", room: ROOM, count: 2, joined: [bob], changed: [], left: [] });
  const second = watchPresence(client, ROOM);
  await clock.pass(0);
  expect(socket().of("subscribe").length).toBe(0);
  expect(second.users.getSnapshot()).toStrictEqual({ count: 2, users: [ann, bob] });
  const away = { ...bob, devices: 1 };
  socket().receive({ type: "presence", room: ROOM, count: 1, joined: [], changed: [away], left: ["ann"] });
  expect(first.users.getSnapshot()).toStrictEqual({ count: 1, users: [away] });
  first.close();
  first.close();
  await clock.pass(0);
  expect(socket().of("unsubscribe").length).toBe(0);
  second.close();
  await clock.pass(0);

  expect(socket().of("unsubscribe").length).toBe(1);
});

test("presence is asked for only in the rooms that want it", async () => {
  const { client, clock } = setUp();
  const states = [];
  const present = watchPresence(client, "campaign:c2");
  const room = client.subscribe("campaign:c2", {}, { types: [] });
  client.subscribe(ROOM);
  room.status.subscribe(() => states.push(room.status.getSnapshot().state));
  client.connect();
  await settle();
  socket().accept();
  expect(socket().of("connect")[0].presence).toBeUndefined();
  await clock.pass(0);
  const [{ rooms, presence }] = socket().of("subscribe");
  socket().answer({ "campaign:c2": { success: true, presence: { count: 1, users: [ann] } } });

  expect([rooms, presence]).toStrictEqual([["campaign:c2"], true]);
  expect(present.users.getSnapshot()).toStrictEqual({ count: 1, users: [ann] });
  expect(states).toStrictEqual(["joined"]);
});

test("a status that was set is in the first message after a reconnect", async () => {
  const { client, clock } = await setUpConnected();
  expect(socket().sent[0].status).toBeUndefined();
  keepStatus(client, "away");
  expect(socket().last.status).toBe("away");
  socket().end(1006);
  await clock.pass(2000);
  socket().accept();

  expect(socket().sent.map(({ type, status }) => [type, status])).toStrictEqual([["connect", "away"]]);
});

test("a selection is told to the user's other views, and follows theirs", async () => {
  const { client, clock } = await setUpConnected();
  const selection = shareSelection(client, ROOM);
  const seen = [];
  selection.items.subscribe(() => seen.push(selection.items.getSnapshot()));
  await clock.pass(0);
  socket().answer({ [ROOM]: { success: true, selection: ["a"] } });
  selection.select(["b"]);
  expect([socket().last.type, socket().last.room, socket().last.items]).toStrictEqual(["select", ROOM, ["b"]]);
  socket().receive({ type: "selection", room: ROOM, items: ["b"] });
  socket().receive({ type: "selection", room: ROOM, items: [] });

  expect(seen).toStrictEqual([["a"], ["b"], []]);
});

test("users who type are shown until they stop or are not heard of for 7 s", async () => {
  const { client, clock } = await setUpConnected();
  const typing = watchTyping(client, ROOM, { clock });
  await clock.pass(0);
  expect(socket().last.types).toStrictEqual(["user.typing"]);
  socket().answer({ [ROOM]: { success: true } });
  const seen = [];
  typing.users.subscribe(() => seen.push(typing.users.getSnapshot()));
  socket().receive({ type: "typing", room: ROOM, userId: "ann", typing: true });
  await clock.pass(4000);
  socket().receive({ type: "typing", room: ROOM, userId: "ann", typing: true });
  socket().receive({ type: "typing", room: ROOM, userId: "bob", typing: true });
  socket().receive({ type: "typing", room: ROOM, userId: "bob", typing: false });
  await clock.pass(6999);
  expect(seen.length).toBe(3);
  await clock.pass(1);

  expect(seen).toStrictEqual([["ann"], ["ann", "bob"], ["ann"], []]);
});

test("typing is told every 3 s while the user types, and its end at once", async () => {
  const { client, clock } = await setUpConnected();
  const typing = watchTyping(client, ROOM, { clock });
  await clock.pass(0);
  socket().answer({ [ROOM]: { success: true } });
  for (let second = 0; second < 5; second++) {
    typing.type();
    await clock.pass(1000);
  }
  typing.stop();
  typing.stop();

  expect(socket().of("typing").map((message) => message.typing)).toStrictEqual([true, true, false]);
});

test("errors of handlers, the token, rooms and the connection are reported", async () => {
  const problems = [];
  const onError = ({ kind, error, room }) => problems.push([kind, error.message, room]);
  let token = "token";
  const { client, clock } = setUp({ onError, getToken: async () => token });
  client.on("state", () => {
    throw new Error("my handler");
  });
  const room = client.subscribe(ROOM, {
    onEvent: () => {
      throw new Error("my event handler");
    },
  });
  client.connect();
  await settle();
  socket().accept();
  client.subscribe("campaign:c2");
  await clock.pass(0);
  socket().answer({ "campaign:c2": { success: false, error: { code: "forbidden", message: "not yours" } } });
  socket().receive(event(11));
  room.unsubscribe();
  token = undefined;
  socket().end(4401, "token expired");
  await settle();

  expect(problems.slice(0, 6)).toStrictEqual([
    ["handler", "my handler", undefined],
    ["handler", "my handler", undefined],
    ["room", "not yours", "campaign:c2"],
    ["handler", "my event handler", undefined],
    ["handler", "my handler", undefined],
    ["token", "getToken: expected a token, got undefined", undefined],
  ]);
});

test("the type guard accepts events of the named types, and nothing that is no event", () => {
  const one = { id: "1", type: "a", version: 1, payload: {}, metadata: {} };

  expect(isEvent(one)).toBe(true);
  expect(isEvent(one, "b", "a")).toBe(true);
  expect(isEvent(one, "b")).toBe(false);
  for (const other of [null, undefined, "a", 1, [], {}, { ...one, payload: null }, { ...one, version: "1" }]) {
    expect(isEvent(other)).toBe(false);
  }
});

test("followed state is loaded, brought up to date from its cursor, and loaded again after missed events", async () => {
  const { client, clock } = await setUpConnected();
  const loads = [];
  const load = () => new Promise((resolve) => loads.push(resolve));
  const live = follow(client, ROOM, { initial: [], load, change: (state, { id }) => [...state, id], types: ["t"] });
  await settle();
  expect(live.store.getSnapshot()).toStrictEqual({ state: [], isLoading: true, error: undefined });
  loads[0]({ data: ["loaded"], cursor: "e:10" });
  await settle();
  await clock.pass(0);
  expect([socket().last.cursor, socket().last.types]).toStrictEqual(["e:10", ["t"]]);
  socket().restore(event(11));
  socket().answer({ [ROOM]: { success: true, recovered: true } });
  socket().receive(event(12));
  expect(live.store.getSnapshot().state).toStrictEqual(["loaded", "id11", "id12"]);
  socket().receive({ type: "resync", rooms: [ROOM], reason: "too_old", cursor: "e:20" });
  socket().receive(event(21));
  await settle();
  loads[1]({ data: ["again"], cursor: "e:20" });
  await settle();
  live.stop();
  await clock.pass(0);

  expect(live.store.getSnapshot().state).toStrictEqual(["again", "id21"]);
  expect(socket().last.type).toBe("unsubscribe");
});

test("a client knows its gateway's name, and the answer to a ping says that all missed events have come", async () => {
  const { client, clock } = setUp();
  client.connect();
  await settle();
  socket().accept({ gateway: "gateway-1" });
  expect(client.gateway).toBe("gateway-1");
  socket().end(1006);
  await clock.pass(1000);
  await settle();
  socket().accept({ gateway: "gateway-2" });
  const heard = [];
  client.on("event", ({ offset }) => heard.push(offset));
  expect(client.tell({ type: "ping" }, ({ success }) => heard.push(success))).toBe(true);
  const { id } = socket().last;
  socket().receive(event(11));
  socket().receive({ type: "reply", id, success: true });
  client.close();

  expect(client.gateway).toBe("gateway-2");
  expect(heard).toStrictEqual([11, true]);
  expect(client.tell({ type: "ping" })).toBe(false);
});
