/** Rooms are shared, never doubled and kept over reconnects, and each event goes to the subscriptions that want it. */

import { expect, test, vi } from "vitest";

import { setUp, setUpConnected, settle, socket } from "./fakes.js";

const event = (offset, rooms, id = `id-${offset}`) => ({ type: "event", offset, rooms, event: { id, type: "t" } });

test("several subscriptions share one room on the wire, and each gets the event", async () => {
  const { client, clock } = await setUpConnected();
  const heard = [];
  const one = client.subscribe("campaign:c1", { onEvent: () => heard.push("one"), onReady: () => heard.push("ready") });
  const two = client.subscribe("campaign:c1", { onEvent: () => heard.push("two") });
  await clock.pass(0);
  expect(socket().of("subscribe").map(({ rooms }) => rooms)).toStrictEqual([["campaign:c1"]]);
  socket().answer({ "campaign:c1": { success: true } });
  socket().receive(event(11, ["campaign:c1", "campaign:c1/settlement:s1"]));
  one.unsubscribe();
  await clock.pass(0);
  expect(socket().of("unsubscribe").length).toBe(0);
  two.unsubscribe();
  await clock.pass(0);

  expect(heard).toStrictEqual(["ready", "one", "two"]);
  expect(socket().last.rooms).toStrictEqual(["campaign:c1"]);
  expect(socket().last.type).toBe("unsubscribe");
});

test("unsubscribing and subscribing in one turn sends nothing", async () => {
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

  expect(socket().sent.length).toBe(count);
  expect(ready).toBe(1);
});

test("replacing a handler sends nothing", async () => {
  const { client, clock } = await setUpConnected();
  const heard = [];
  const subscription = client.subscribe("campaign:c1", { onEvent: () => heard.push("old") });
  await clock.pass(0);
  socket().reply();
  subscription.setHandlers({ onEvent: () => heard.push("new") });
  socket().receive(event(11, ["campaign:c1"]));
  await clock.pass(0);

  expect(heard).toStrictEqual(["new"]);
  expect(socket().of("subscribe").length).toBe(1);
});

test("before its room is joined a subscription gets no events, also not those that are in another joined room", async () => {
  const { client, clock } = await setUpConnected();
  const heard = [];
  const handlers = { onEvent: ({ id }) => heard.push(id), onReady: () => heard.push("ready") };
  client.subscribe("campaign:c1");
  await clock.pass(0);
  socket().answer({ "campaign:c1": { success: true } });
  client.subscribe("campaign:c1/settlement:s1", handlers);
  await clock.pass(0);
  socket().receive(event(11, ["campaign:c1", "campaign:c1/settlement:s1"]));
  socket().answer({ "campaign:c1/settlement:s1": { success: true } });
  socket().receive(event(12, ["campaign:c1", "campaign:c1/settlement:s1"]));

  expect(heard).toStrictEqual(["ready", "id-12"]);
});

test("a short name gets the events of the room that the gateway found, and of no other root", async () => {
  const { client, clock } = await setUpConnected();
  const heard = [];
  client.subscribe("settlement:s1", { onEvent: (_, { rooms }) => heard.push(rooms[0]) });
  client.subscribe("campaign:stranger");
  await clock.pass(0);
  const room = "campaign:c1/settlement:s1";
  socket().answer({ "settlement:s1": { success: true, room }, "campaign:stranger": { success: true } });
  socket().receive(event(11, ["campaign:stranger", "campaign:stranger/settlement:s1"]));
  socket().receive(event(12, ["campaign:c1", room]));

  expect(heard).toStrictEqual(["campaign:c1"]);
});

test("a short name matches events with the long name, and a long name only those of its root", async () => {
  const { client, clock } = await setUpConnected();
  const heard = [];
  client.subscribe("settlement:s1", { onEvent: () => heard.push("short") });
  client.subscribe("campaign:c1/settlement:s1", { onEvent: () => heard.push("long") });
  client.subscribe("campaign:c2/settlement:s1", { onEvent: () => heard.push("other root") });
  client.on("event", () => heard.push("client"));
  await clock.pass(0);
  socket().reply();
  socket().receive(event(11, ["campaign:c1", "campaign:c1/settlement:s1"]));

  expect(heard.sort()).toStrictEqual(["client", "long", "short"]);
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

  expect(socket().sent[0].cursor).toBe("e:30");
});

test("a new connection has the rooms and the cursor, and known events are dropped", async () => {
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
  expect(connect.rooms).toStrictEqual(["campaign:c1"]);
  expect(connect.cursor).toBe("e:20");
  expect(connect.lastClose).toBe(1006);
  expect(socket().of("subscribe").length, "never doubled").toBe(0);
  expect(heard).toStrictEqual(["id-11", "id-21"]);
  expect(ready).toBe(1);
});

test("an event without an offset is always applied and leaves the cursor alone", async () => {
  const { client } = await setUpConnected();
  let count = 0;
  client.on("event", () => count++);
  socket().receive({ type: "event", rooms: ["workspace:w1"], event: { id: "x" } });
  socket().receive({ type: "event", rooms: ["workspace:w1"], event: { id: "x" } });

  expect(count).toBe(2);
  expect(client.cursor).toBe("e:10");
});

test("an event that was held back is always applied, and moves the cursor forward alone", async () => {
  const { client } = await setUpConnected();
  let count = 0;
  client.on("event", () => count++);
  socket().receive({ type: "event", cursor: "e:12", rooms: ["depot:d1"], event: { id: "x" } });
  socket().receive({ type: "event", cursor: "e:11", rooms: ["depot:d1"], event: { id: "y" } });
  socket().receive({ type: "event", cursor: "other:99", rooms: ["depot:d1"], event: { id: "z" } });

  expect(count).toBe(3);
  expect(client.cursor).toBe("e:12");
});

test("only `resync` moves the cursor back, and its rooms are told", async () => {
  const { client, clock } = await setUpConnected();
  const told = [];
  client.subscribe("campaign:c1", { onResync: ({ reason }) => told.push(reason) });
  client.on("resync", ({ rooms }) => told.push(rooms));
  await clock.pass(0);
  socket().receive({ type: "resync", rooms: ["campaign:c1"], reason: "epoch_changed", cursor: "f:3" });
  let applied = 0;
  client.on("event", () => applied++);
  socket().receive(event(4, ["campaign:c1"]));
  socket().receive({ type: "position", cursor: "e:99" }); // of the old epoch

  expect(told).toStrictEqual([["campaign:c1"], "epoch_changed"]);
  expect(client.cursor).toBe("f:4");
  expect(applied).toBe(1);
});

test("room.left is told, and the room is asked for again only by a new subscription", async () => {
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
  expect(socket().sent[0].rooms).toStrictEqual([]);
  client.subscribe("campaign:c1");
  await clock.pass(0);

  expect(told).toStrictEqual(["campaign:c1", "membership_removed"]);
  expect(socket().of("subscribe").length).toBe(1);
});

test("a room with an expired lease is asked for again automatically", async () => {
  const { client, clock } = await setUpConnected();
  client.subscribe("campaign:c1");
  await clock.pass(0);
  socket().answer({ "campaign:c1": { success: true } });
  socket().receive({ type: "room.left", room: "campaign:c1", reason: "lease_expired" });
  await clock.pass(1000);

  expect(socket().of("subscribe").length).toBe(2);
});

test("a refusal is told, and tried again only if the error table says so", async () => {
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

  expect(told).toStrictEqual([["forbidden", false], ["unavailable", true]]);
  expect(socket().last.rooms).toStrictEqual(["campaign:later"]);
});

test("a refusal in the ack is told too", async () => {
  const { client, clock } = await setUpConnected();
  let code = "";
  client.subscribe("campaign:c1", { onError: (error) => (code = error.code) });
  await clock.pass(0);
  socket().end(1006);
  await clock.pass(2000);
  socket().accept({ rooms: { "campaign:c1": { success: false, error: { code: "forbidden", message: "" } } } });

  expect(code).toBe("forbidden");
});

test("a room that is unsubscribed while connecting is left after the ack", async () => {
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

  expect(socket().last.type).toBe("unsubscribe");
});

test("more than 100 rooms take several messages", async () => {
  const { client, clock } = await setUpConnected({ limits: { maxRooms: 150 } });
  for (let number = 0; number < 150; number++) client.subscribe(`campaign:c${number}`);
  await clock.pass(0);

  expect(socket().of("subscribe").map(({ rooms }) => rooms.length)).toStrictEqual([100, 50]);
});

const sizes = (messages) => messages.map((message) => new TextEncoder().encode(JSON.stringify(message)).length);
const roomsOf = (messages) => messages.flatMap(({ rooms }) => rooms);
/** Let time pass on a live connection. */
const passAlive = async (clock, ms) => {
  for (let passed = 0; passed < ms; passed += 1000) {
    socket().receive({ type: "position", cursor: "e:10" });
    await clock.pass(1000);
  }
};
/** Answer every message until no more come. */
const answerAll = async (clock) => {
  await clock.pass(0);
  for (let at = 1; at < socket().sent.length; at++) {
    socket().reply(socket().sent[at]);
    await clock.pass(0);
  }
};

for (const [kind, count, maxFrameBytes, length, types, token] of [
  ["three types each", 100, 16_384, 20, true, 400],
  ["long names", 100, 16_384, 64, true, 400],
  ["a long token", 100, 16_384, 30, true, 8000],
  ["small frames", 100, 2048, 64, true, 400],
  ["limits raised", 250, 65_536, 64, true, 400],
  ["no types", 100, 4096, 64, false, 400],
]) {
  test(`${count} rooms come back with a connection, in messages that the gateway accepts: ${kind}`, async () => {
    const { client, clock } = await setUpConnected({ getToken: async () => "x".repeat(token) });
    socket().end(1006);
    await clock.pass(2000);
    socket().accept({ limits: { maxFrameBytes, maxRooms: count } });
    const ready = new Set();
    for (let number = 0; number < count; number++) {
      const room = `campaign:${"c".repeat(length)}/settlement:${String(number).padStart(length, "s")}`;
      const wanted = types ? { types: ["settlement_updated", "structure_updated", "world_time_changed"] } : {};
      client.subscribe(room, { onReady: () => ready.add(room) }, wanted);
    }
    await clock.pass(0);
    await answerAll(clock);
    expect(ready.size).toBe(count);
    socket().receive(event(11, ["campaign:c1"]));
    socket().end(1006);
    await clock.pass(2000);
    socket().accept({ cursor: "e:11", limits: { maxFrameBytes, maxRooms: count } });
    await answerAll(clock);

    const asked = socket().sent;
    expect(sizes(asked).filter((size) => size > maxFrameBytes)).toStrictEqual([]);
    expect(roomsOf(asked).sort(), "each once").toStrictEqual([...ready].sort());
    expect(asked.map(({ rooms }) => rooms.length).filter((names) => names > 100)).toStrictEqual([]);
    expect([...new Set(asked.map(({ cursor }) => cursor))], "what had no space is restored from where it was left").toStrictEqual(["e:11"]);
  });
}

test("before the first ack `connect` fits every gateway, and the other rooms follow", async () => {
  const { client, clock } = setUp({ getToken: async () => "x".repeat(500) });
  for (let number = 0; number < 100; number++) client.subscribe(`campaign:c1/settlement:s${number}`, {}, { types: ["a", "b"] });
  client.connect();
  await settle();
  socket().accept();
  await clock.pass(0);
  await answerAll(clock);

  expect(sizes(socket().sent)[0]).toBeLessThanOrEqual(1024);
  expect(new Set(roomsOf(socket().sent)).size).toBe(100);
  expect(socket().sent.length).toBe(2);
});

test("a gateway with a smaller frame limit gets a smaller `connect`", async () => {
  const { client, clock } = await setUpConnected();
  for (let number = 0; number < 100; number++) client.subscribe(`campaign:c1/settlement:s${number}`);
  await clock.pass(0);
  await answerAll(clock);
  socket().end(1006);
  await clock.pass(2000);
  socket().open();
  expect(sizes(socket().sent)[0]).toBeGreaterThan(2048);
  socket().end(4413);
  await clock.pass(4000);
  socket().accept({ limits: { maxFrameBytes: 2048, maxRooms: 100 } });
  await answerAll(clock);
  expect(sizes(socket().sent).filter((size) => size > 2048)).toStrictEqual([]);
  expect(new Set(roomsOf(socket().sent)).size).toBe(100);
  socket().end(1006);
  await clock.pass(8000);
  socket().end(4413);
  await clock.pass(8000);
  expect(client.state).toBe("connecting");
  socket().end(4413);

  expect(client.state, "less than the least is not possible").toBe("error");
});

test("`connect` names no more rooms than the last gateway allows, and the others are refused", async () => {
  const { client, clock } = await setUpConnected({ limits: { maxRooms: 2 } });
  for (const name of ["campaign:c1", "campaign:c2"]) client.subscribe(name);
  await clock.pass(0);
  socket().reply();
  socket().end(1006);
  const room = client.subscribe("campaign:c3");
  await clock.pass(2000);
  socket().accept({ limits: { maxRooms: 2 } });

  expect(socket().last.rooms).toStrictEqual(["campaign:c1", "campaign:c2"]);
  expect(room.status.getSnapshot().error.code).toBe("too_many");
});

test("types that do not fit into a message are left out, and each subscription filters its own", async () => {
  const { client, clock } = setUp();
  const heard = [];
  const many = Array.from({ length: 101 }, (_, number) => `type_${number}`);
  const long = Array.from({ length: 20 }, (_, number) => `${number}`.padStart(64, "t"));
  client.subscribe("campaign:c1", { onEvent: ({ type }) => heard.push(type) }, { types: many });
  client.subscribe("campaign:c2", { onEvent: ({ type }) => heard.push(type) }, { types: long });
  client.connect();
  await settle();
  socket().accept({ limits: { maxFrameBytes: 1024, maxRooms: 100 } });
  await answerAll(clock);
  for (const [offset, type] of [[11, "type_7"], [12, "another"]]) {
    socket().receive({ ...event(offset, ["campaign:c1", "campaign:c2"]), event: { id: type, type } });
  }

  expect(heard).toStrictEqual(["type_7"]);
  expect(roomsOf(socket().sent).sort()).toStrictEqual(["campaign:c1", "campaign:c2"]);
  expect(sizes(socket().sent).filter((size) => size > 1024)).toStrictEqual([]);
});

test("only a part of what a gateway allows is unanswered at any time", async () => {
  const { client, clock } = await setUpConnected({ limits: { maxRooms: 1000, roomsPerMinute: 1000 } });
  const names = Array.from({ length: 900 }, (_, number) => `campaign:${"c".repeat(64)}/settlement:${String(number).padStart(64, "s")}`);
  for (const name of names) client.subscribe(name);
  await clock.pass(0);
  expect(sizes(socket().of("subscribe")).reduce((sum, size) => sum + size)).toBeLessThan(65_536);
  await answerAll(clock);
  expect(roomsOf(socket().of("subscribe"))).toStrictEqual(names);

  for (let number = 0; number < 50; number++) {
    client.subscribe(`campaign:x${number}`);
    await clock.pass(0);
  }
  expect(socket().of("subscribe").length, "one by one, they are collected while many are unanswered").toBeLessThan(30);
  await answerAll(clock);
  expect(new Set(roomsOf(socket().of("subscribe"))).size).toBe(950);
});

test("a refused `unsubscribe` is repeated until the room is left or wanted again", async () => {
  const { client, clock } = await setUpConnected();
  const error = { code: "too_many", message: "", retryAfterMs: 600 };
  const subscriptions = ["campaign:c1", "campaign:c2", "campaign:c3"].map((room) => client.subscribe(room));
  await clock.pass(0);
  socket().reply();
  for (const one of subscriptions) one.unsubscribe();
  await clock.pass(0);
  socket().reply(socket().last, error);
  const ready = [];
  client.subscribe("campaign:c2", { onReady: () => ready.push("c2") });
  const third = client.subscribe("campaign:c3");
  third.unsubscribe();
  await clock.pass(599);
  expect(socket().of("unsubscribe").length, "not before it may").toBe(1);
  await clock.pass(1001);
  expect([socket().last.type, socket().last.rooms]).toStrictEqual(["unsubscribe", ["campaign:c1", "campaign:c3"]]);
  socket().receive({ type: "error", id: socket().last.id, ...error }); // the other kind of refusal
  await clock.pass(2600);
  expect([socket().last.type, socket().last.rooms]).toStrictEqual(["unsubscribe", ["campaign:c1", "campaign:c3"]]);
  socket().reply();
  await passAlive(clock, 60_000);

  expect(socket().of("unsubscribe").length).toBe(3);
  expect(ready, "it was never left").toStrictEqual(["c2"]);
});

test("a room that is wanted again while leaving is joined again, whether or not leaving succeeds", async () => {
  for (const error of [undefined, { code: "too_many", message: "" }]) {
    const { client, clock } = await setUpConnected();
    const first = client.subscribe("campaign:c1");
    await clock.pass(0);
    socket().reply();
    first.unsubscribe();
    await clock.pass(0);
    const unsubscribe = socket().last;
    let ready = 0;
    const second = client.subscribe("campaign:c1", { onReady: () => ready++ });
    socket().reply(unsubscribe, error);
    await clock.pass(1000);
    socket().reply();
    expect(socket().last.type).toBe("subscribe");
    expect(ready).toBe(1);
    second.unsubscribe();
    await clock.pass(0);
    expect(socket().last.type, "and left again").toBe("unsubscribe");
  }
});

test("joining and leaving faster than the gateway allows strands no room", async () => {
  const { client, clock } = await setUpConnected();
  const held = new Set();
  let allowed = 100;
  let answered = socket().sent.length;
  /** A gateway with 100 messages a minute. */
  const gateway = () => {
    for (; answered < socket().sent.length; answered++) {
      const message = socket().sent[answered];
      if (allowed < 1) {
        socket().receive({ type: "error", id: message.id, code: "too_many", message: "", retryAfterMs: 600 });
        continue;
      }
      allowed -= 1;
      for (const room of message.rooms) message.type === "subscribe" ? held.add(room) : held.delete(room);
      socket().reply(message);
    }
  };
  const joined = [];
  for (let number = 0; number < 60; number++) {
    joined.push(client.subscribe(`campaign:c${number}`));
    await clock.pass(0);
    gateway();
  }
  for (const one of joined) {
    one.unsubscribe();
    await clock.pass(0);
    gateway();
  }
  let refused = 0;
  for (let second = 0; second < 30; second++) {
    allowed += 100 / 60;
    await clock.pass(1000);
    socket().receive({ type: "position", cursor: `e:${second}` });
    refused = Math.max(refused, socket().sent.length - answered);
    gateway();
  }

  expect([...held]).toStrictEqual([]);
  expect(refused, "and it does not go on as fast as before").toBeLessThan(20);
});

test("rooms beyond what a connection may have are refused without asking, until another is left", async () => {
  const { client, clock } = await setUpConnected({ limits: { maxRooms: 1 } });
  const told = [];
  const first = client.subscribe("campaign:c1");
  client.subscribe("campaign:c2", { onError: ({ code }, { willRetry }) => told.push([code, willRetry]), onReady: () => told.push("ready") });
  await clock.pass(0);
  socket().reply();
  await passAlive(clock, 300_000);
  expect(told).toStrictEqual([...Array(9).fill(["too_many", true]), ["too_many", false]]);
  expect(roomsOf(socket().of("subscribe"))).toStrictEqual(["campaign:c1"]);
  first.unsubscribe();
  await clock.pass(0);
  socket().reply();
  await clock.pass(0);
  socket().reply();

  expect(told.at(-1)).toBe("ready");
});

test("messages about rooms wait until the limits of the ack allow them, and leave some to others", async () => {
  const { client, clock } = await setUpConnected({ limits: { messagesPerMinute: 20 } });
  const ask = async (number) => {
    client.subscribe(`campaign:c${number}`);
    await clock.pass(0);
    const asked = socket().of("subscribe").at(-1);
    if (asked.rooms.includes(`campaign:c${number}`)) socket().reply(asked);
  };
  for (let number = 0; number < 10; number++) await ask(number);
  for (let number = 0; number < 8; number++) client.tell({ type: "typing", room: "campaign:c1", typing: true });
  await ask(10);
  expect(socket().of("subscribe").length, "two messages are left, for a ping or a new token").toBe(10);
  await clock.pass(3000);
  expect(socket().last.rooms, "20 a minute are one in 3 s").toStrictEqual(["campaign:c10"]);
});

test("a room is left at once although another one waits for the limit of rooms", async () => {
  const { client, clock } = await setUpConnected({ limits: { roomsPerMinute: 1 } });
  const first = client.subscribe("campaign:c1");
  await clock.pass(0);
  socket().reply();
  client.subscribe("campaign:c2");
  await clock.pass(0);
  first.unsubscribe();
  await clock.pass(0);
  expect([socket().last.type, socket().last.rooms]).toStrictEqual(["unsubscribe", ["campaign:c1"]]);
  socket().reply();
  await passAlive(clock, 60_000);

  expect(roomsOf(socket().of("subscribe"))).toStrictEqual(["campaign:c1", "campaign:c2"]);
});

test("a subscription over a rate limit is told, and repeated when the limit resets", async () => {
  const { client, clock } = await setUpConnected();
  const told = [];
  client.subscribe("campaign:c1", { onError: ({ code }, { willRetry }) => told.push([code, willRetry]), onReady: () => told.push("ready") });
  await clock.pass(0);
  for (let round = 0; round < 15; round++) {
    socket().reply(socket().last, { code: "too_many", message: "", retryAfterMs: 600 });
    await passAlive(clock, 40_000);
  }
  socket().reply();

  expect(told).toStrictEqual([...Array(15).fill(["too_many", true]), "ready"]);
});

test("a long outage of a service strands no room, and rooms are asked for again together", async () => {
  let draw = 0;
  const { client, clock } = await setUpConnected({ random: () => (draw = (draw + 0.37) % 1) });
  for (let number = 0; number < 50; number++) client.subscribe(`campaign:c${number}`, {}, { cursor: "e:5" });
  await clock.pass(0);
  for (let round = 0; round < 15; round++) {
    const refused = Object.fromEntries(socket().last.rooms.map((room) => [room, { success: false, error: { code: "unavailable", message: "" } }]));
    socket().receive({ type: "reply", id: socket().last.id, success: true, rooms: refused });
    await passAlive(clock, 33_000);
  }

  expect(socket().of("subscribe").map(({ rooms }) => rooms.length)).toStrictEqual(Array(16).fill(50));
});

test("a refused room is asked for again in time even if the clock was set back", async () => {
  const { client, clock } = await setUpConnected();
  const refuse = (room) =>
    socket().receive({ type: "reply", id: socket().last.id, success: true, rooms: { [room]: { success: false, error: { code: "unavailable", message: "" } } } });
  client.subscribe("campaign:c1");
  await clock.pass(0);
  refuse("campaign:c1");
  clock.setBack(3_600_000);
  client.subscribe("campaign:c2");
  await clock.pass(0);
  refuse("campaign:c2");
  await passAlive(clock, 10_000);

  expect(new Set(socket().of("subscribe").slice(2).flatMap(({ rooms }) => rooms))).toStrictEqual(new Set(["campaign:c1", "campaign:c2"]));
});

test("a room that had no space is joined as soon as another is left", async () => {
  const { client, clock } = await setUpConnected();
  const full = { success: false, error: { code: "too_many", message: "a connection may be in 1 rooms" } };
  const first = client.subscribe("campaign:c1");
  await clock.pass(0);
  socket().reply();
  client.subscribe("campaign:c2");
  await clock.pass(0);
  for (let round = 0; round < 12; round++) {
    if (socket().last.type === "subscribe") socket().answer({ "campaign:c2": full });
    await passAlive(clock, 33_000);
  }
  const count = socket().of("subscribe").length;
  expect(count, "after ten refusals it is not asked for any more").toBe(11);
  first.unsubscribe();
  await clock.pass(0);
  socket().reply();
  await clock.pass(0);

  expect([socket().of("subscribe").length, socket().last.rooms]).toStrictEqual([count + 1, ["campaign:c2"]]);
});

test("a room is asked for with the types of all its subscriptions, and each gets its own", async () => {
  const { client, clock } = await setUpConnected();
  const heard = [];
  const typed = (type, offset) => ({ ...event(offset, ["campaign:c1"]), event: { id: "x", type } });
  const want = (name, types) =>
    client.subscribe("campaign:c1", { onEvent: ({ type }) => heard.push([name, type]), onReady: () => heard.push(name) }, { types });
  const one = want("one", ["b", "a"]);
  const two = want("two", ["b", "c"]);
  client.subscribe("campaign:c2");
  await clock.pass(0);
  expect(socket().of("subscribe").map(({ rooms, types }) => [rooms, types])).toStrictEqual([[["campaign:c1"], ["a", "b", "c"]], [["campaign:c2"], undefined]]);
  socket().receive({ type: "reply", id: socket().of("subscribe")[0].id, success: true, rooms: { "campaign:c1": { success: true } } });
  socket().receive(typed("a", 11));
  socket().receive(typed("b", 12));
  one.unsubscribe();
  await clock.pass(0);
  expect(socket().last.types).toStrictEqual(["b", "c"]);
  socket().answer({ "campaign:c1": { success: true } });
  const all = want("all", undefined);
  await clock.pass(0);
  expect("types" in socket().last).toBe(false);
  expect(heard).toStrictEqual(["one", "two", ["one", "a"], ["one", "b"], ["two", "b"]]);
  socket().answer({ "campaign:c1": { success: true } });
  expect(heard.at(-1)).toBe("all");
  all.unsubscribe();
  two.unsubscribe();
  await clock.pass(0);

  expect([socket().last.type, socket().last.rooms]).toStrictEqual(["unsubscribe", ["campaign:c1"]]);
});

test("types come back with the connection, and a type added in the meantime is asked for", async () => {
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
  expect([rooms, types]).toStrictEqual([["campaign:c1", "campaign:c2"], { "campaign:c1": ["a"] }]);
  expect([socket().last.rooms, socket().last.types, ready]).toStrictEqual([["campaign:c1"], ["a", "b"], 0]);
  socket().answer({ "campaign:c1": { success: true } });

  expect(ready).toBe(1);
});

test("refused types are told, and the room is left when no subscription wants it", async () => {
  const { client, clock } = await setUpConnected();
  const told = [];
  const good = client.subscribe("campaign:c1", { onEvent: ({ id }) => told.push(id) }, { types: ["a"] });
  await clock.pass(0);
  socket().answer({ "campaign:c1": { success: true } });
  const bad = client.subscribe("campaign:c1", { onError: ({ code }, { willRetry }) => told.push([code, willRetry]) }, { types: ["no"] });
  await clock.pass(0);
  const error = { code: "unknown_type", message: "'no' is not an event type" };
  socket().receive({ type: "reply", id: socket().last.id, success: false, error });
  socket().receive({ ...event(11, ["campaign:c1"]), event: { id: "still heard", type: "a" } });
  bad.unsubscribe();
  await clock.pass(0);
  expect([socket().last.rooms, socket().last.types]).toStrictEqual([["campaign:c1"], ["a"]]);
  good.unsubscribe();
  await clock.pass(0);

  expect(told).toStrictEqual([["unknown_type", false], "still heard"]);
  expect([socket().last.type, socket().last.rooms]).toStrictEqual(["unsubscribe", ["campaign:c1"]]);
});

test("an invalid room throws at the call", async () => {
  const { client } = await setUpConnected();
  for (const room of ["", "campaign", "campaign:", "a:b/c", "a:b/c:d/e:f", "campaign:c 1"]) {
    expect(() => client.subscribe(room)).toThrow(TypeError);
  }
});

test("a handler that throws does not affect the others", async () => {
  vi.spyOn(console, "error").mockImplementation(() => {});
  const { client, clock } = await setUpConnected();
  let heard = 0;
  client.on("event", () => {
    throw new Error("broken");
  });
  client.subscribe("campaign:c1", { onEvent: () => heard++ });
  await clock.pass(0);
  socket().reply();
  socket().receive(event(11, ["campaign:c1"]));

  expect(heard).toBe(1);
});

test("degraded, live, role and error messages are emitted", async () => {
  const { client } = await setUpConnected();
  const told = [];
  for (const name of ["degraded", "live", "role", "error"]) client.on(name, () => told.push(name));
  socket().receive({ type: "degraded", reason: "broker_unreachable" });
  expect(client.isDegraded).toBe(true);
  socket().receive({ type: "live" });
  socket().receive({ type: "role.changed", root: "campaign:c1", role: "viewer" });
  socket().receive({ type: "error", code: "bad_request", message: "" });
  socket().receive({ type: "something.newer" });

  expect(told).toStrictEqual(["degraded", "live", "role", "error"]);
  expect(client.isDegraded).toBe(false);
});
