/** How a client finds a way where WebSockets are blocked, and what it sends and hears there. */

import { expect, test } from "vitest";

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

  expect(events).toStrictEqual([
    { name: "message", data: '{"a":\n1}', id: "e:1" },
    { name: "position", data: "x", id: "e:2" },
    { name: "message", data: "y", id: "e:2" },
    { name: "message", data: "", id: "e:2" },
  ]);
});

test("ways: what worked last comes first, and a WebSocket that worked before is given up later", () => {
  const ways = new Ways("auto", BOTH);
  expect([ways.first, ways.after("websocket"), ways.after("sse"), ways.after("poll")]).toStrictEqual(["websocket", "sse", "poll", null]);
  ways.worked("poll");
  expect([ways.first, ways.after("poll")]).toStrictEqual(["poll", "websocket"]);
  ways.worked("websocket");
  ways.failed("websocket");
  expect(ways.after("websocket")).toBeNull();
  ways.failed("websocket");
  expect(ways.after("websocket")).toBe("sse");
});

test("ways: an unknown transport throws, and what this environment lacks is not tried", () => {
  expect(() => new Ways("carrier pigeon", BOTH)).toThrow(/expected "auto", "websocket", "sse" or "poll"/);
  expect(new Ways("auto", { WebSocket: undefined, fetch }).first).toBe("sse");
  expect(new Ways("auto", { WebSocket: FakeSocket, fetch: undefined }).after("websocket")).toBeNull();
});

test("a poll names rooms, types and the cursor, and the next one starts where the answer ends", async () => {
  const { http, frames } = linked("poll", { types: { "campaign:c1": ["t"] }, cursor: "e:7" });
  const [first] = http.asked;
  await http.answer([acknowledged(), event(11)], "e:12");

  expect(first.way).toBe("app/poll");
  expect(first.token).toBe("Bearer t1");
  expect(first.body).toStrictEqual({ rooms: ["campaign:c1"], types: { "campaign:c1": ["t"] }, cursor: "e:7", waitS: 0 });
  expect(frames.map(({ type }) => type)).toStrictEqual(["connection.ack", "event", "position"]);
  expect([http.last.body.cursor, http.last.body.replaces]).toStrictEqual(["e:12", "s1"]);
});

test("what the client sends interrupts the wait, and a joined room is named from then on", async () => {
  const { link, http, frames } = linked("poll");
  await http.answer([acknowledged()]);
  const waits = http.last;
  link.send({ type: "subscribe", id: 2, rooms: ["user:u1"], types: ["t"], cursor: "e:5" });
  await settle();
  const [sent] = http.last.body.messages;
  await http.answer([acknowledged(), { type: "restored", id: 2, rooms: ["user:u1"], events: [] }, { type: "reply", id: 2, success: true, rooms: { "user:u1": { success: true } } }]);

  expect(waits.isOver).toBe(true);
  expect(sent).toStrictEqual({ type: "subscribe", id: 2, rooms: ["user:u1"], types: ["t"], cursor: "e:5" });
  expect(frames.slice(-3).map(({ type }) => type)).toStrictEqual(["restored", "reply", "position"]);
  expect(http.last.body.rooms).toStrictEqual(["campaign:c1", "user:u1"]);
  expect(http.last.body.types).toStrictEqual({ "user:u1": ["t"] });
  expect(http.last.body.messages).toBeUndefined();
});

test("a room that is left before its join was answered is not asked for again", async () => {
  const { link, http } = linked("poll");
  await http.answer([acknowledged()]);
  link.send({ type: "subscribe", id: 2, rooms: ["user:u1"] });
  link.send({ type: "unsubscribe", id: 3, rooms: ["user:u1"] });
  await settle();
  expect(http.last.body.messages.map(({ id }) => id)).toStrictEqual([2, 3]);
  const rooms = { "user:u1": { success: true } };
  await http.answer([acknowledged(), { type: "reply", id: 2, success: true, rooms }, { type: "reply", id: 3, success: true, rooms }]);

  expect(http.last.body.rooms).toStrictEqual(["campaign:c1"]);
});

test("a message without a reply is sent again, and the link ends after three tries", async () => {
  const { link, http, ends } = linked("poll");
  await http.answer([acknowledged()]);
  link.send({ type: "ping", id: 2 });
  await settle();
  for (let round = 0; round < 3; round++) {
    expect(http.last.body.messages).toStrictEqual([{ type: "ping", id: 2 }]);
    await http.answer([acknowledged()]);
  }

  expect(ends).toStrictEqual([[1006, "No reply to a message"]]);
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

  expect(frames.filter(({ type }) => type === "room.left")).toStrictEqual([
    { type: "room.left", room: "campaign:c1", reason: "membership_removed" },
    { type: "room.left", room: "campaign:c2", reason: "lease_expired" },
  ]);
  expect(http.last.body.rooms).toStrictEqual([]);
});

test("a newer token and a left room count from the next request on", async () => {
  const { link, http, clock, frames } = linked("poll");
  await http.answer([acknowledged()]);
  link.send({ type: "refresh", id: 2, token: "t2" });
  link.send({ type: "unsubscribe", id: 3, rooms: ["campaign:c1"] });
  await settle();
  await clock.pass(1);

  expect(http.last.token).toBe("Bearer t2");
  expect(http.last.body.rooms).toStrictEqual([]);
  expect(frames.filter(({ type }) => type === "reply").map(({ id, success }) => [id, success])).toStrictEqual([[2, true], [3, true]]);
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
    expect(ends[0][0]).toBe(code);
    if (status === 429) expect(frames[0].retryAfterMs).toBe(7);
  }
});

test("an answer that does not come ends the link", async () => {
  const { http, clock, ends } = linked("poll");
  await http.answer([acknowledged()]);
  await clock.pass(34_000);
  expect(ends).toStrictEqual([]);
  await clock.pass(1000);

  expect(ends).toStrictEqual([[1006, "No answer in time"]]);
  expect(http.last.isOver).toBe(true);
});

test("a stream gives the same messages, and its ids are the cursor of the request after it", async () => {
  const { link, http, frames } = linked("sse");
  const write = await http.stream();
  await write(`event: connection.ack\nid: e:10\ndata: ${JSON.stringify(acknowledged())}\n\n`);
  await write(`id: e:11\ndata: ${JSON.stringify(event(11))}\n\n: still here\n\nevent: position\nid: e:14\ndata: {"type":"position","cursor":"e:14"}\n\n`);
  link.send({ type: "subscribe", id: 2, rooms: ["user:u1"] });
  await settle();

  expect(http.asked[0].way).toBe("app/sse");
  expect(frames.map(({ type }) => type)).toStrictEqual(["connection.ack", "event", "position"]);
  expect([http.last.way, http.last.body.cursor, http.last.body.waitS]).toStrictEqual(["app/poll", "e:14", 0]);
  await http.answer([acknowledged(), { type: "reply", id: 2, success: true, rooms: { "user:u1": { success: true } } }], "e:15");
  expect([http.last.way, http.last.body.cursor, http.last.body.rooms]).toStrictEqual(["app/sse", "e:15", ["campaign:c1", "user:u1"]]);
});

test("a stream ends with the code of its last event, or as broken", async () => {
  const closed = linked("sse");
  const write = await closed.http.stream();
  await write('event: close\ndata: {"code": 4401, "reason": "the token ran out"}\n\n');
  const silent = linked("sse");
  await silent.http.stream();
  await silent.clock.pass(40_000);

  expect(closed.ends).toStrictEqual([[4401, "the token ran out"]]);
  expect(silent.ends).toStrictEqual([[1006, "No answer in time"]]);
});

test("an abandoned link reports nothing more and asks for nothing more", async () => {
  const { link, http, frames, ends } = linked("poll");
  await http.answer([acknowledged()]);
  link.abandon();
  await settle();

  expect(link.send({ type: "ping", id: 2 })).toBe(false);
  expect(http.last.isOver).toBe(true);
  expect(http.asked.length).toBe(2);
  expect([frames.length, ends.length]).toStrictEqual([2, 0]);
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
  expect(http.last.way).toBe("sse");
  await clock.pass(5000);
  expect(http.last.way).toBe("poll");
  await http.answer([acknowledged()]);

  expect([client.state, client.status.transport, client.isLive]).toStrictEqual(["connected", "poll", false]);
  expect(states.map(({ state, attempt }) => [state, attempt])).toStrictEqual([["connecting", 1], ["connected", 0]]);
  expect(asked, "one token serves all ways").toStrictEqual(["connect"]);
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
  expect([FakeSocket.all.length - before, client.status.transport]).toStrictEqual([2, "sse"]);
  expect(asked, "a socket that does not open needs no token").toStrictEqual(["connect"]);
  socket().open();
  await clock.pass(0);
  socket().accept();

  expect([client.status.transport, client.isLive]).toStrictEqual(["websocket", true]);
  expect(socket().sent[0].cursor).toBe("e:10");
  expect(http.last.isOver, "the stream has ended").toBe(true);
  expect(FakeSocket.all.length - before, "the one that opened was only to see whether it does").toBe(3);
  expect(states.map(({ state, transport }) => [state, transport])).toStrictEqual([["connecting", undefined], ["connected", "sse"], ["connected", "websocket"]]);
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

  expect(FakeSocket.all.length).toBe(before + 1);
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
  expect(states.at(-1).attempt).toBe(2);
  const asked = http.asked.length;
  socket().open();
  socket().end(4429, "slower");
  await settle();

  expect(http.asked.length).toBe(asked);
  expect(states.at(-1).attempt).toBe(3);
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
  expect(client.state).toBe("connecting");
  await clock.pass(1000);
  const again = await http.stream();
  await again(`event: connection.ack\nid: e:12\ndata: ${JSON.stringify(acknowledged())}\n\n`);

  expect(http.last.body.cursor).toBe("e:10");
  expect([client.state, client.status.transport]).toStrictEqual(["connected", "sse"]);
  expect(states.map(({ state }) => state)).toStrictEqual(["connecting", "connected", "connecting", "connected"]);
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

  expect(http.asked.length).toBe(0);
  expect(client.status.transport).toBe("websocket");
});

test("the user's status and the wish for presence are in each request", async () => {
  const { link, http } = linked("poll", { status: "away", presence: true });
  expect([http.last.body.status, http.last.body.presence]).toStrictEqual(["away", true]);
  await http.answer([acknowledged()]);
  link.send({ type: "presence", id: 2, status: "busy" });
  await settle();

  expect(http.last.body.status).toBe("busy");
  expect(http.last.body.messages, "it needs no request of its own").toBe(undefined);
});
