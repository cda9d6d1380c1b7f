/** How a client connects, loses its connection, and comes back. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeSocket, setUp, setUpConnected, settle, socket } from "./fakes.js";

test("connect sends the token, the rooms and the client's name in its first message", async () => {
  const { client, states } = setUp();
  client.subscribe("campaign:c1");
  client.connect();
  await settle();
  socket().accept();

  const [first] = socket().sent;
  assert.equal(socket().subprotocol, "beaconfire.v1");
  assert.equal(first.type, "connect");
  assert.equal(first.token, "token");
  assert.deepEqual(first.rooms, ["campaign:c1"]);
  assert.equal(first.cursor, undefined);
  assert.equal(first.client.name, "beaconfire-js");
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "connected"]);
});

test("with the option batch, the events of one message reach their handlers one by one", async () => {
  const { client } = setUp({ batch: true });
  const heard = [];
  client.subscribe("campaign:c1", { onEvent: (event) => heard.push(event.id) });
  client.connect();
  await settle();
  socket().accept({ cursor: "e1:40", rooms: { "campaign:c1": { success: true } } });
  const event = (offset) => ({ type: "event", offset, rooms: ["campaign:c1"], event: { id: `id${offset}`, type: "t" } });
  socket().receive({ type: "events", events: [event(41), event(42)] });
  socket().receive(event(43));

  assert.deepEqual(socket().subprotocol, ["beaconfire.v1.batch", "beaconfire.v1"]);
  assert.deepEqual(heard, ["id41", "id42", "id43"]);
  assert.equal(client.cursor, "e1:43");
});

test("events of a message that come after a handler has closed the client are not delivered", async () => {
  const { client } = setUp({ batch: true });
  const heard = [];
  client.subscribe("campaign:c1", {
    onEvent: (event) => {
      heard.push(event.id);
      client.close();
    },
  });
  client.connect();
  await settle();
  socket().accept({ cursor: "e1:40", rooms: { "campaign:c1": { success: true } } });
  const event = (offset) => ({ type: "event", offset, rooms: ["campaign:c1"], event: { id: `id${offset}`, type: "t" } });
  socket().receive({ type: "events", events: [event(41), event(42)] });

  assert.deepEqual(heard, ["id41"]);
  assert.equal(client.cursor, "e1:41");
});

test("connecting twice opens one socket", async () => {
  const { client } = setUp();
  client.connect();
  client.connect();
  await settle();

  assert.equal(FakeSocket.all.length, 1);
});

test("the session's id is that of the present connection", async () => {
  const { client, clock } = setUp();
  const before = client.sessionId;
  client.connect();
  await settle();
  socket().accept({ sessionId: "first" });
  const first = client.sessionId;
  socket().end(1006);
  const lost = client.sessionId;
  await clock.pass(1000);
  socket().accept({ sessionId: "second" });

  assert.deepEqual([before, first, lost, client.sessionId], ["", "first", "", "second"]);
});

/** Lose the connection, and let every attempt fail. Returns the pauses before them, in seconds. */
const pausesUntilError = async ({ client, clock }) => {
  await clock.pass(6000);
  socket().end(1006);
  const pauses = [];
  while (client.state !== "error") {
    const before = clock.now();
    const count = FakeSocket.all.length;
    while (FakeSocket.all.length === count) await clock.pass(100);
    pauses.push(Math.round((clock.now() - before) / 1000));
    socket().end(1006);
  }
  return pauses;
};

test("pauses grow from 1 to 32 s, and ten failures in a row end in the error state", async () => {
  const { client, clock, states } = await setUpConnected();

  assert.deepEqual(await pausesUntilError({ client, clock }), [1, 2, 4, 8, 16, 32, 32, 32, 32, 32]);
  assert.equal(states.at(-1).error.code, "unreachable");
  assert.match(states.at(-1).error.message, /after 10 attempts/);
  assert.deepEqual([...new Set(states.map(({ attempt }) => attempt))], [1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  await clock.pass(600_000);
  assert.equal(FakeSocket.all.length, 11, "it does not try again by itself");
});

test("the longest pause is an option", async () => {
  for (const [maxPauseMs, longest] of [[30_000, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]], [1000, Array(10).fill(1)]]) {
    const { client, clock } = await setUpConnected({ maxPauseMs });
    assert.deepEqual(await pausesUntilError({ client, clock }), longest);
  }
  for (const maxPauseMs of [0, 999, -1, NaN, Infinity, "30s"]) {
    assert.throws(() => setUp({ maxPauseMs }), /maxPauseMs: expected a number from 1000, got /);
  }
});

test("a manual retry after an error starts at the first attempt", async () => {
  const { client, clock, states } = setUp();
  client.connect();
  while (client.state !== "error") {
    await clock.pass(100);
    if (socket()?.readyState === 0) socket().end(1006);
  }
  client.retry();
  await settle();
  socket().accept();

  assert.equal(states.at(-2).attempt, 1);
  assert.equal(client.state, "connected");
});

test("attempts are counted from 1 again only after a connection has lasted", async () => {
  const { client, clock } = await setUpConnected();
  for (let round = 0; round < 10; round++) {
    socket().end(1011);
    if (client.state === "error") break;
    const before = FakeSocket.all.length;
    while (FakeSocket.all.length === before) await clock.pass(100);
    socket().accept();
  }
  assert.equal(client.state, "error");
});

test("a pause is random, between 0 and its maximum", async () => {
  const { client, clock } = await setUpConnected({ random: () => 0.25 });
  await clock.pass(6000);
  socket().end(1006);
  await clock.pass(249);
  assert.equal(FakeSocket.all.length, 1);
  await clock.pass(1);
  assert.equal(FakeSocket.all.length, 2);
  assert.equal(client.state, "connecting");
});

test("a refused token is renewed once, and a second refusal is an error", async () => {
  const { client, asked, states } = setUp();
  client.connect();
  await settle();
  socket().end(4401, "expired");
  await settle();
  assert.equal(FakeSocket.all.length, 2, "at once, without a pause");
  socket().end(4401, "revoked");
  await settle();

  assert.deepEqual(asked, ["connect", "refused"]);
  assert.equal(client.state, "error");
  assert.deepEqual(states.at(-1).error, { code: "token_invalid", message: "revoked" });
});

test("a close code with retry `no` ends in the error state at once", async () => {
  for (const code of [4400, 4403, 4413, 1002, 1003, 1007, 1009]) {
    const { client } = await setUpConnected();
    socket().end(code);
    assert.equal(client.state, "error", `close ${code}`);
  }
});

test("unknown close codes and those of restarts are tried again with backoff", async () => {
  for (const code of [1001, 1006, 1011, 1012, 1013, 1014, 4408, 4429, 4500, 4503, 4999]) {
    const { client } = await setUpConnected();
    socket().end(code);
    assert.equal(client.state, "connecting", `close ${code}`);
  }
});

test("a failing getToken counts as an attempt, and stops the client if its error says retry `no`", async () => {
  let error = Object.assign(new Error("offline"), {});
  const { client, clock, states } = setUp({ getToken: () => Promise.reject(error) });
  client.connect();
  await settle();
  assert.equal(client.state, "connecting");
  error = Object.assign(new Error("signed out"), { retry: "no" });
  await clock.pass(2000);

  assert.equal(client.state, "error");
  assert.match(states.at(-1).error.message, /signed out/);
});

test("an attempt that hangs is given up: a connection after 10 s, a token after 15 s or as long as the option says", async () => {
  const { client, clock } = setUp();
  client.connect();
  await settle();
  socket().open();
  await clock.pass(9999);
  assert.equal(client.status.attempt, 1);
  await clock.pass(1);
  assert.equal(client.status.attempt, 2);

  for (const [options, ms] of [[{}, 15_000], [{ tokenTimeoutMs: 3000 }, 3000]]) {
    const signals = [];
    const hung = setUp({ getToken: ({ signal }) => (signals.push(signal), new Promise(() => {})), ...options });
    hung.client.connect();
    await hung.clock.pass(ms - 1);
    assert.deepEqual([hung.client.status.attempt, signals[0].aborted], [1, false]);
    await hung.clock.pass(1);
    assert.deepEqual([hung.client.status.attempt, signals[0].aborted], [2, true]);
    assert.match(hung.client.status.reason.message, /getToken took longer than/);
  }
});

test("without a network attempts are not counted, and `online` connects at once", async () => {
  const { client, clock, network } = await setUpConnected();
  await clock.pass(6000);
  network.isOffline = true;
  socket().end(1006);
  for (let round = 0; round < 20; round++) {
    await clock.pass(30_000);
    if (socket().readyState === 0) socket().end(1006);
  }
  assert.equal(client.state, "connecting");
  assert.equal(client.status.attempt, 1);

  network.isOffline = false;
  const count = FakeSocket.all.length;
  network.handlers.onOnline();
  await settle();
  assert.equal(FakeSocket.all.length, count + 1);
});

test("`online` replaces an attempt that hangs, and restarts a client that gave up", async () => {
  const { client, clock, network } = setUp();
  client.connect();
  await settle();
  const hanging = socket();
  network.handlers.onOnline();
  await settle();
  assert.notEqual(socket(), hanging);

  while (client.state !== "error") {
    await clock.pass(100);
    if (socket().readyState === 0) socket().end(1006);
  }
  network.handlers.onOnline();
  assert.equal(client.state, "connecting");
});

test("it pings after 1.1 heartbeats of silence, and reconnects without an answer within 5 s", async () => {
  const { client, clock } = await setUpConnected();
  await clock.pass(27_499);
  assert.equal(socket().of("ping").length, 0);
  await clock.pass(1);
  assert.equal(socket().of("ping").length, 1);
  await clock.pass(4999);
  assert.equal(client.state, "connected");
  await clock.pass(1);
  assert.equal(client.state, "connecting");
  assert.equal(FakeSocket.all[0].readyState, 3);
});

test("every message is a sign of life", async () => {
  const { client, clock } = await setUpConnected();
  for (let beat = 0; beat < 5; beat++) {
    await clock.pass(24_000);
    socket().receive({ type: "position", cursor: `e:${20 + beat}` });
  }
  assert.equal(socket().of("ping").length, 0);
  await clock.pass(27_500);
  socket().receive({ type: "reply", id: socket().last.id, success: true });
  await clock.pass(10_000);
  assert.equal(client.state, "connected");
});

test("after sleep it pings at once", async () => {
  const { client, clock, network } = await setUpConnected();
  network.handlers.onAwake();
  network.handlers.onAwake();
  assert.equal(socket().of("ping").length, 1);
  await clock.pass(5000);
  assert.equal(client.state, "connecting");
});

test("sleep with a visible page is noticed by the clock, and it pings", async () => {
  const { clock } = await setUpConnected();
  await clock.pass(20_000);
  assert.equal(socket().of("ping").length, 0);
  clock.sleep(3_600_000);
  await clock.pass(5000);
  assert.equal(socket().of("ping").length, 1);
});

test("a socket that the browser has closed is replaced at once", async () => {
  const { client, network } = await setUpConnected();
  socket().readyState = 3;
  network.handlers.onAwake();
  assert.equal(client.state, "connecting");
});

test("a page that becomes visible does not wait for the pause to end", async () => {
  const { client, clock, network } = await setUpConnected();
  await clock.pass(6000);
  socket().end(1006);
  network.handlers.onAwake();
  network.handlers.onAwake();
  await settle();
  assert.equal(FakeSocket.all.length, 2);
  assert.equal(client.status.attempt, 1);
});

test("token.expiring sends a refresh, and a failed refresh is tried again without an error", async () => {
  let fails = 2;
  const getToken = async ({ reason }) => {
    if (reason === "expiring" && fails-- > 0) throw new Error("auth is away");
    return `token for ${reason}`;
  };
  const { client, clock, states } = await setUpConnected({ getToken });
  socket().receive({ type: "token.expiring", inS: 60 });
  await clock.pass(1000);
  assert.equal(socket().of("refresh").length, 0);
  await clock.pass(2000);
  assert.equal(socket().of("refresh").length, 1);
  assert.equal(socket().last.token, "token for expiring");
  socket().receive({ type: "reply", id: socket().last.id, success: false, error: { code: "unavailable", message: "" } });
  await clock.pass(4000);
  assert.equal(socket().of("refresh").length, 2);
  socket().receive({ type: "reply", id: socket().last.id, success: true });
  await clock.pass(20_000);

  assert.equal(socket().of("refresh").length, 2);
  assert.equal(client.state, "connected");
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "connected"]);
});

test("the code of a lost connection and the time since then are reported once, with the next connection", async () => {
  const { client, clock } = await setUpConnected();
  clock.sleep(1);
  socket().end(1006);
  await clock.pass(1);
  clock.sleep(4999);
  client.retry();
  await clock.pass(0);
  socket().accept();
  const [afterLoss] = socket().sent;
  socket().receive({ type: "goaway", afterMs: 0, withinMs: 4000 });
  await clock.pass(2000);
  socket().accept();
  const [afterGoaway] = socket().sent;

  assert.deepEqual([afterLoss.lastClose, afterLoss.awayMs], [1006, 5000]);
  assert.deepEqual([afterGoaway.lastClose, afterGoaway.awayMs], [undefined, undefined]);
});

test("the time since a lost connection is never negative, even if the clock is set back", async () => {
  const { client, clock } = await setUpConnected();
  clock.sleep(1);
  socket().end(1006);
  clock.setBack(5000);
  client.retry();
  await clock.pass(0);
  socket().open();

  assert.equal(socket().last.awayMs, 0);
});

test("the time until an application connects again is its own choice, and is not reported", async () => {
  const { client, clock } = await setUpConnected();
  clock.sleep(1);
  socket().end(1006);
  client.close();
  await clock.pass(60_000);
  client.connect();
  await clock.pass(0);
  socket().open();

  assert.equal(socket().last.awayMs, undefined);
});

test("goaway: the next connection is acknowledged before the old one is closed, and names it", async () => {
  const { client, clock, states } = await setUpConnected();
  const old = socket();
  const events = [];
  client.on("event", ({ offset }) => events.push(offset));
  client.subscribe("campaign:c1");
  old.receive({ type: "goaway", afterMs: 100, withinMs: 2100 });
  await clock.pass(1100);
  const next = socket();
  assert.notEqual(next, old);
  next.open();
  old.receive({ type: "event", offset: 11, rooms: ["campaign:c1"], event: { id: "a" } });
  assert.equal(next.last.replaces, "s1");
  assert.equal(next.last.cursor, "e:10");
  next.receive({ type: "connection.ack", id: next.last.id, sessionId: "s2", cursor: "e:10", heartbeatS: 25, rooms: {} });
  next.receive({ type: "event", offset: 11, rooms: ["campaign:c1"], event: { id: "a" } });
  next.receive({ type: "event", offset: 12, rooms: ["campaign:c1"], event: { id: "b" } });

  assert.equal(old.readyState, 3);
  assert.deepEqual(events, [11, 12]);
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "connected"], "nobody saw it");
});

test("goaway: without another gateway the old connection is used to its end", async () => {
  const { client, clock } = await setUpConnected();
  const old = socket();
  old.receive({ type: "goaway", afterMs: 0, withinMs: 4000 });
  await clock.pass(2000);
  socket().end(1006);
  assert.equal(client.state, "connected");
  old.end(4503);
  assert.equal(client.state, "connecting");
  await clock.pass(10_000);
  socket().accept();
  assert.equal(client.state, "connected");
});

test("goaway: a refused token is renewed while the old connection is still used", async () => {
  const { client, clock, asked, states } = await setUpConnected();
  socket().receive({ type: "goaway", afterMs: 0, withinMs: 0 });
  await clock.pass(0);
  socket().end(4401, "expired");
  await settle();
  socket().accept();

  assert.deepEqual(asked, ["connect", "reconnect", "refused"]);
  assert.equal(client.state, "connected");
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "connected"]);
});

test("goaway: `degraded` of the old gateway does not carry over to the new one", async () => {
  const { client, clock } = await setUpConnected();
  const told = [];
  for (const name of ["degraded", "live"]) client.on(name, () => told.push(name));
  socket().receive({ type: "degraded", reason: "broker_unreachable" });
  socket().receive({ type: "goaway", afterMs: 0, withinMs: 0 });
  await clock.pass(0);
  socket().accept();

  assert.deepEqual(told, ["degraded", "live"]);
  assert.equal(client.isDegraded, false);
});

test("every connection after the first names the last session in `replaces`", async () => {
  const { client, clock } = await setUpConnected();
  assert.equal(socket().sent[0].replaces, undefined);
  socket().end(1006);
  await clock.pass(2000);
  assert.equal(socket().readyState, 0);
  socket().end(1006); // a failed attempt changes nothing
  await clock.pass(2000);
  socket().accept({ sessionId: "s2" });
  assert.equal(socket().sent[0].replaces, "s1");
  client.close();
  client.connect();
  await settle();
  socket().accept({ sessionId: "s3" });

  assert.equal(socket().sent[0].replaces, "s2");
});

test("a degraded gateway says so in the ack, and the client never looks healthy", async () => {
  const { client, clock } = setUp();
  const told = [];
  client.on("state", ({ state }) => told.push([state, client.isDegraded]));
  for (const name of ["degraded", "live"]) client.on(name, () => told.push(name));
  client.connect();
  await settle();
  socket().accept({ degraded: true });
  assert.deepEqual(told, [["connecting", false], ["connected", true], "degraded"]);
  socket().end(1006);
  await clock.pass(2000);
  socket().accept({ degraded: true });
  assert.deepEqual(told.slice(3), [["connecting", false], ["connected", true]], "told once");
  socket().end(1006);
  await clock.pass(2000);
  socket().accept({ degraded: false });

  assert.deepEqual(told.slice(5), [["connecting", false], ["connected", false], "live"]);
});

test("after the last attempt, a page that becomes visible connects again", async () => {
  const { client, clock, network } = setUp();
  client.connect();
  while (client.state !== "error") {
    await clock.pass(100);
    if (socket()?.readyState === 0) socket().end(1006);
  }
  network.handlers.onAwake();
  await settle();
  assert.equal(client.state, "connecting");
  assert.equal(client.status.attempt, 1);
  socket().end(4403, "no");
  network.handlers.onAwake();

  assert.equal(client.state, "error", "what was refused for good stays refused");
});

test("a token that never comes or a refresh without an answer does not end the renewal", async () => {
  let asked = 0;
  const getToken = ({ reason }) => (reason === "expiring" && ++asked === 1 ? new Promise(() => {}) : Promise.resolve(`token ${asked}`));
  const { clock } = await setUpConnected({ getToken });
  socket().receive({ type: "token.expiring", inS: 60 });
  for (let at = 0; socket().of("refresh").length < 2 && at < 59; at++) {
    await clock.pass(1000);
    socket().receive({ type: "position", cursor: `e:${at}` });
  }

  assert.deepEqual(socket().of("refresh").map(({ token }) => token), ["token 2", "token 3"]);
});

test("a connection refused with `retryAfterMs` is not tried again earlier", async () => {
  const { client, clock } = setUp({ random: () => 0 });
  client.connect();
  await settle();
  socket().open();
  socket().receive({ type: "error", id: socket().last.id, code: "too_many", message: "", retryAfterMs: 5000 });
  socket().end(4429);
  await clock.pass(4999);
  assert.equal(FakeSocket.all.length, 1);
  await clock.pass(1);

  assert.equal(FakeSocket.all.length, 2);
});

test("close ends everything in every state", async () => {
  const { client, clock } = setUp();
  client.connect();
  client.close();
  await clock.pass(60_000);
  assert.equal(FakeSocket.all.length, 0);
  client.connect();
  await settle();
  socket().accept();
  client.close();
  await clock.pass(60_000);

  assert.equal(FakeSocket.all.length, 1);
  assert.equal(client.state, "disconnected");
});

test("debug output contains no token", async (context) => {
  const lines = [];
  context.mock.method(console, "debug", (...line) => lines.push(JSON.stringify(line)));
  const { client } = setUp({ getToken: async () => "secret-token" });
  client.debug = true;
  client.connect();
  await settle();
  socket().accept();
  socket().receive({ type: "token.expiring", inS: 60 });
  await settle();

  assert.ok(lines.length > 3);
  assert.ok(!lines.join().includes("secret-token"));
});

test("without a WebSocket class the error says what to do", async () => {
  const { client } = setUp({ WebSocket: /** @type {any} */ ("none") });
  client.connect();
  await settle();

  assert.equal(client.state, "error");
  assert.match(client.status.error?.message ?? "", /no WebSocket here. Pass one in the option/);
});

test("a token that is refused while its renewal fails is not sent again", async () => {
  let isAway = true;
  const { client, clock, asked } = await setUpConnected({
    getToken: async ({ reason }) => {
      if (reason === "refused" && isAway) throw new Error("the token endpoint is away");
      return reason === "refused" ? "new" : "old";
    },
  });
  await clock.pass(6000);
  socket().end(4401, "token expired");
  await clock.pass(1000);
  isAway = false;
  await clock.pass(2000);
  socket().open();

  assert.deepEqual(asked, ["connect", "refused", "refused", "refused"]);
  assert.equal(socket().last.token, "new");
  assert.notEqual(client.state, "error");
});

test("a page in the back/forward cache has no socket, and connects at once when it is restored", async () => {
  const { client, clock, network, states } = await setUpConnected();
  const left = socket();
  network.handlers.onFreeze();
  assert.deepEqual([left.readyState, client.state], [3, "connecting"]);
  await clock.pass(60_000);
  assert.equal(socket(), left, "it does not connect while it is hidden");
  network.handlers.onAwake();
  await settle();
  socket().accept();

  assert.equal(client.state, "connected");
  assert.equal(socket().sent[0].replaces, "s1");
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "connected", "connecting", "connected"]);
});
