/** How a client finds a way where WebSockets are blocked, and what it sends and hears there. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { EventStreamReader } from "../src/event_stream.js";
import { FallbackLink } from "../src/fallback.js";
import { Ways } from "../src/ways.js";
import { FakeClock, FakeSocket, setUp, settle, socket } from "./fakes.js";

const BOTH = { WebSocket: FakeSocket, fetch };
const ACK = { type: "connection.ack", id: 0, sessionId: "s1", userId: "u1", cursor: "e:10", heartbeatS: 25, limits: {}, degraded: false, rooms: {} };

/** A gateway over HTTP. A test answers the requests in `asked`, oldest first. */
class FakeHttp {
  /** @type {{way: string, body: any, token: string, resolve: (response: Response) => void, signal: AbortSignal, isOver: boolean}[]} */
  asked = [];

  fetch = (address, { body, headers, signal }) =>
    new Promise((resolve, reject) => {
      const request = { way: new URL(address).pathname.slice(1), body: JSON.parse(body), token: headers.Authorization, resolve, signal, isOver: false };
      this.asked.push(request);
      signal.addEventListener("abort", () => {
        request.isOver = true;
        reject(signal.reason);
      });
    });

  get last() {
    return this.asked.at(-1);
  }

  async answer(messages, cursor = "e:10") {
    this.last.resolve(Response.json({ messages, cursor }));
    await settle();
  }

  async refuse(status, body) {
    this.last.resolve(typeof body === "string" ? new Response(body, { status }) : Response.json(body, { status }));
    await settle();
  }

  /** Begin a stream. Returns what writes to it. */
  async stream() {
    let controller;
    const stream = new ReadableStream({ start: (given) => (controller = given) });
    this.last.signal.addEventListener("abort", () => controller.error(new Error("aborted"))); // as a real one
    this.last.resolve(new Response(stream, { headers: { "Content-Type": "text/event-stream; charset=utf-8" } }));
    await settle();
    return async (text) => {
      controller.enqueue(new TextEncoder().encode(text));
      await new Promise((resolve) => setTimeout(resolve));
      await settle();
    };
  }
}

/** A link that has sent `connect`, and everything that it reported. */
function linked(way, connect = {}) {
  const http = new FakeHttp();
  const clock = new FakeClock();
  const frames = [];
  const ends = [];
  const link = new FallbackLink(way, "wss://live.example/app/ws", { fetch: http.fetch, clock }, {
    onOpen: () => link.send({ type: "connect", id: 1, token: "t1", rooms: ["campaign:c1"], ...connect }),
    onFrame: (frame) => frames.push(frame),
    onEnd: (code, reason) => ends.push([code, reason]),
  });
  link.open();
  return { link, http, clock, frames, ends };
}

const acknowledged = (rooms = { "campaign:c1": { success: true } }) => ({ ...ACK, rooms });
const event = (offset) => ({ type: "event", offset, rooms: ["campaign:c1"], event: { id: `i${offset}`, type: "t" } });

test("an event stream is read in pieces, with every kind of line end", () => {
  const reader = new EventStreamReader();
  const text = 'retry: 5\n\nid: e:1\ndata: {"a":\ndata: 1}\n\n: comment\r\nevent: position\r\nid: e:2\r\ndata: x\r\n\r\ndata:y\r\rdata\n\n';
  const events = [...text].flatMap((letter) => reader.read(letter));

  assert.deepEqual(events, [
    { name: "message", data: '{"a":\n1}', id: "e:1" },
    { name: "position", data: "x", id: "e:2" },
    { name: "message", data: "y", id: "e:2" },
    { name: "message", data: "", id: "e:2" },
  ]);
});

test("ways: what worked last comes first, and a WebSocket that worked before is given up later", () => {
  const ways = new Ways("auto", BOTH);
  assert.deepEqual([ways.first, ways.after("websocket"), ways.after("sse"), ways.after("poll")], ["websocket", "sse", "poll", null]);
  ways.worked("poll");
  assert.deepEqual([ways.first, ways.after("poll")], ["poll", "websocket"]);
  ways.worked("websocket");
  ways.failed("websocket");
  assert.equal(ways.after("websocket"), null);
  ways.failed("websocket");
  assert.equal(ways.after("websocket"), "sse");
});

test("ways: an unknown transport throws, and what this environment lacks is not tried", () => {
  assert.throws(() => new Ways("carrier pigeon", BOTH), /expected "auto", "websocket", "sse" or "poll"/);
  assert.equal(new Ways("auto", { WebSocket: undefined, fetch }).first, "sse");
  assert.equal(new Ways("auto", { WebSocket: FakeSocket, fetch: undefined }).after("websocket"), null);
});

test("a poll names rooms, types and the cursor, and the next one starts where the answer ends", async () => {
  const { http, frames } = linked("poll", { types: { "campaign:c1": ["t"] }, cursor: "e:7" });
  const [first] = http.asked;
  await http.answer([acknowledged(), event(11)], "e:12");

  assert.equal(first.way, "app/poll");
  assert.equal(first.token, "Bearer t1");
  assert.deepEqual(first.body, { rooms: ["campaign:c1"], types: { "campaign:c1": ["t"] }, cursor: "e:7", waitS: 0 });
  assert.deepEqual(frames.map(({ type }) => type), ["connection.ack", "event", "position"]);
  assert.deepEqual([http.last.body.cursor, http.last.body.replaces], ["e:12", "s1"]);
});

test("what the client sends interrupts the wait, and a joined room is named from then on", async () => {
  const { link, http, frames } = linked("poll");
  await http.answer([acknowledged()]);
  const waits = http.last;
  link.send({ type: "subscribe", id: 2, rooms: ["user:u1"], types: ["t"], cursor: "e:5" });
  await settle();
  const [sent] = http.last.body.messages;
  await http.answer([acknowledged(), { type: "restored", id: 2, rooms: ["user:u1"], events: [] }, { type: "reply", id: 2, success: true, rooms: { "user:u1": { success: true } } }]);

  assert.ok(waits.isOver);
  assert.deepEqual(sent, { type: "subscribe", id: 2, rooms: ["user:u1"], types: ["t"], cursor: "e:5" });
  assert.deepEqual(frames.slice(-3).map(({ type }) => type), ["restored", "reply", "position"]);
  assert.deepEqual(http.last.body.rooms, ["campaign:c1", "user:u1"]);
  assert.deepEqual(http.last.body.types, { "user:u1": ["t"] });
  assert.equal(http.last.body.messages, undefined);
});

test("a room that is left before its join was answered is not asked for again", async () => {
  const { link, http } = linked("poll");
  await http.answer([acknowledged()]);
  link.send({ type: "subscribe", id: 2, rooms: ["user:u1"] });
  link.send({ type: "unsubscribe", id: 3, rooms: ["user:u1"] });
  await settle();
  assert.deepEqual(http.last.body.messages.map(({ id }) => id), [2, 3]);
  const rooms = { "user:u1": { success: true } };
  await http.answer([acknowledged(), { type: "reply", id: 2, success: true, rooms }, { type: "reply", id: 3, success: true, rooms }]);

  assert.deepEqual(http.last.body.rooms, ["campaign:c1"]);
});

test("a message without a reply is sent again, and the link ends after three tries", async () => {
  const { link, http, ends } = linked("poll");
  await http.answer([acknowledged()]);
  link.send({ type: "ping", id: 2 });
  await settle();
  for (let round = 0; round < 3; round++) {
    assert.deepEqual(http.last.body.messages, [{ type: "ping", id: 2 }]);
    await http.answer([acknowledged()]);
  }

  assert.deepEqual(ends, [[1006, "No reply to a message"]]);
});

test("a room that a later ack refuses is left, for good or to be asked for again", async () => {
  const { http, frames } = linked("poll", { rooms: ["campaign:c1", "campaign:c2"] });
  await http.answer([acknowledged({ "campaign:c1": { success: true }, "campaign:c2": { success: true } })]);
  await http.answer([
    acknowledged({
      "campaign:c1": { success: false, error: { code: "forbidden", message: "" } },
      "campaign:c2": { success: false, error: { code: "unavailable", message: "" } },
    }),
  ]);

  assert.deepEqual(frames.filter(({ type }) => type === "room.left"), [
    { type: "room.left", room: "campaign:c1", reason: "membership_removed" },
    { type: "room.left", room: "campaign:c2", reason: "lease_expired" },
  ]);
  assert.deepEqual(http.last.body.rooms, []);
});

test("a newer token and a left room count from the next request on", async () => {
  const { link, http, clock, frames } = linked("poll");
  await http.answer([acknowledged()]);
  link.send({ type: "refresh", id: 2, token: "t2" });
  link.send({ type: "unsubscribe", id: 3, rooms: ["campaign:c1"] });
  await settle();
  await clock.pass(1);

  assert.equal(http.last.token, "Bearer t2");
  assert.deepEqual(http.last.body.rooms, []);
  assert.deepEqual(frames.filter(({ type }) => type === "reply").map(({ id, success }) => [id, success]), [[2, true], [3, true]]);
});

test("an error of the gateway ends the link with its close code, and one of a proxy as a broken connection", async () => {
  const cases = [
    [401, { error: { code: "token_invalid", message: "expired" } }, 4401],
    [429, { error: { code: "too_many", message: "slower", retryAfterMs: 7 } }, 4429],
    [404, { error: { code: "not_found", message: "Not Found" } }, 1006],
    [502, "<html>Bad Gateway</html>", 1006],
    [200, "<html>Sign in to the guest network</html>", 1006],
  ];
  for (const [status, body, code] of cases) {
    const { http, ends, frames } = linked("poll");
    await http.refuse(status, body);
    await settle();
    assert.equal(ends[0][0], code);
    if (status === 429) assert.equal(frames[0].retryAfterMs, 7);
  }
});

test("an answer that does not come ends the link", async () => {
  const { http, clock, ends } = linked("poll");
  await http.answer([acknowledged()]);
  await clock.pass(34_000);
  assert.deepEqual(ends, []);
  await clock.pass(1000);

  assert.deepEqual(ends, [[1006, "No answer in time"]]);
  assert.ok(http.last.isOver);
});

test("a stream gives the same messages, and its ids are the cursor of the request after it", async () => {
  const { link, http, frames } = linked("sse");
  const write = await http.stream();
  await write(`event: connection.ack\nid: e:10\ndata: ${JSON.stringify(acknowledged())}\n\n`);
  await write(`id: e:11\ndata: ${JSON.stringify(event(11))}\n\n: still here\n\nevent: position\nid: e:14\ndata: {"type":"position","cursor":"e:14"}\n\n`);
  link.send({ type: "subscribe", id: 2, rooms: ["user:u1"] });
  await settle();

  assert.equal(http.asked[0].way, "app/sse");
  assert.deepEqual(frames.map(({ type }) => type), ["connection.ack", "event", "position"]);
  assert.deepEqual([http.last.way, http.last.body.cursor, http.last.body.waitS], ["app/poll", "e:14", 0]);
  await http.answer([acknowledged(), { type: "reply", id: 2, success: true, rooms: { "user:u1": { success: true } } }], "e:15");
  assert.deepEqual([http.last.way, http.last.body.cursor, http.last.body.rooms], ["app/sse", "e:15", ["campaign:c1", "user:u1"]]);
});

test("a stream ends with the code of its last event, or as broken", async () => {
  const closed = linked("sse");
  const write = await closed.http.stream();
  await write('event: close\ndata: {"code": 4401, "reason": "the token ran out"}\n\n');
  const silent = linked("sse");
  await silent.http.stream();
  await silent.clock.pass(40_000);

  assert.deepEqual(closed.ends, [[4401, "the token ran out"]]);
  assert.deepEqual(silent.ends, [[1006, "No answer in time"]]);
});

test("an abandoned link reports nothing more and asks for nothing more", async () => {
  const { link, http, frames, ends } = linked("poll");
  await http.answer([acknowledged()]);
  link.abandon();
  await settle();

  assert.equal(link.send({ type: "ping", id: 2 }), false);
  assert.ok(http.last.isOver);
  assert.equal(http.asked.length, 2);
  assert.deepEqual([frames.length, ends.length], [2, 0]);
});

// The client.

/** A client that may take every way, with a gateway over HTTP. */
function setUpAuto() {
  const http = new FakeHttp();
  const world = setUp({ transport: "auto", fetch: http.fetch });
  world.client.subscribe("campaign:c1");
  world.client.connect();
  return { ...world, http };
}

test("a WebSocket that does not open within 5 s gives way to a stream, and that to polls, in one attempt", async () => {
  const { client, clock, http, asked, states } = setUpAuto();
  await settle();
  await clock.pass(5000);
  assert.equal(http.last.way, "sse");
  await clock.pass(5000);
  assert.equal(http.last.way, "poll");
  await http.answer([acknowledged()]);

  assert.deepEqual([client.state, client.status.transport, client.isLive], ["connected", "poll", false]);
  assert.deepEqual(states.map(({ state, attempt }) => [state, attempt]), [["connecting", 1], ["connected", 0]]);
  assert.deepEqual(asked, ["connect"], "one token serves all ways");
});

test("a client on a fallback tries a WebSocket after 5, 10, 20 s and so on, and moves to it without a loss", async () => {
  const { client, clock, http, asked, states } = setUpAuto();
  await settle();
  socket().end(1006);
  await settle();
  const write = await http.stream();
  await write(`event: connection.ack\nid: e:10\ndata: ${JSON.stringify(acknowledged())}\n\n`);
  const before = FakeSocket.all.length;
  await clock.pass(5000);
  socket().end(1006);
  await clock.pass(10_000);
  assert.deepEqual([FakeSocket.all.length - before, client.status.transport], [2, "sse"]);
  assert.deepEqual(asked, ["connect"], "a socket that does not open needs no token");
  socket().open();
  await clock.pass(0);
  socket().accept();

  assert.deepEqual([client.status.transport, client.isLive], ["websocket", true]);
  assert.equal(socket().sent[0].cursor, "e:10");
  assert.ok(http.last.isOver, "the stream has ended");
  assert.equal(FakeSocket.all.length - before, 3, "the one that opened was only to see whether it does");
  assert.deepEqual(states.map(({ state, transport }) => [state, transport]), [["connecting", undefined], ["connected", "sse"], ["connected", "websocket"]]);
});

test("when the network is another one, a WebSocket is tried at once", async () => {
  const { network, client, http } = setUpAuto();
  await settle();
  socket().end(1006);
  await settle();
  const write = await http.stream();
  await write(`event: connection.ack\nid: e:10\ndata: ${JSON.stringify(acknowledged())}\n\n`);
  const before = FakeSocket.all.length;
  network.handlers.onOnline();

  assert.equal(FakeSocket.all.length, before + 1);
  client.close();
});

test("an attempt in which every way fails counts once, and a refusal by the gateway is not tried elsewhere", async () => {
  const { clock, http, states } = setUpAuto();
  await settle();
  socket().end(1006);
  await settle();
  await http.refuse(502, "bad gateway");
  await http.refuse(502, "bad gateway");
  await clock.pass(1000);
  assert.equal(states.at(-1).attempt, 2);
  const asked = http.asked.length;
  socket().open();
  socket().end(4429, "slower");
  await settle();

  assert.equal(http.asked.length, asked);
  assert.equal(states.at(-1).attempt, 3);
});

test("a fallback that is lost while a WebSocket is tried is replaced as any lost connection", async () => {
  const { client, clock, http, states } = setUpAuto();
  await settle();
  socket().end(1006);
  await settle();
  const write = await http.stream();
  await write(`event: connection.ack\nid: e:10\ndata: ${JSON.stringify(acknowledged())}\n\n`);
  await clock.pass(5000); // a WebSocket is being opened
  await write('event: close\ndata: {"code": 4503, "reason": "going away"}\n\n');
  assert.equal(client.state, "connecting");
  await clock.pass(1000);
  const again = await http.stream();
  await again(`event: connection.ack\nid: e:12\ndata: ${JSON.stringify(acknowledged())}\n\n`);

  assert.equal(http.last.body.cursor, "e:10");
  assert.deepEqual([client.state, client.status.transport], ["connected", "sse"]);
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "connected", "connecting", "connected"]);
});

test("a gateway that stops does not drive its clients from a WebSocket to a fallback", async () => {
  const { client, clock, http } = setUpAuto();
  await settle();
  socket().accept();
  await settle();
  socket().receive({ type: "goaway", afterMs: 0, withinMs: 5000 });
  await clock.pass(1000);
  for (let attempt = 0; attempt < 3; attempt++) {
    socket().end(1006);
    await clock.pass(8000);
  }

  assert.equal(http.asked.length, 0);
  assert.equal(client.status.transport, "websocket");
});

test("the user's status and the wish for presence are in each request", async () => {
  const { link, http } = linked("poll", { status: "away", presence: true });
  assert.deepEqual([http.last.body.status, http.last.body.presence], ["away", true]);
  await http.answer([acknowledged()]);
  link.send({ type: "presence", id: 2, status: "busy" });
  await settle();

  assert.equal(http.last.body.status, "busy");
  assert.equal(http.last.body.messages, undefined, "it needs no request of its own");
});
