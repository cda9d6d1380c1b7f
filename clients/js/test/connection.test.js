/** How a client connects, loses its connection, and comes back. */

import { expect, test, vi } from "vitest";

import { FakeSocket, setUp, setUpConnected, settle, socket } from "./fakes.js";

test("connect sends the token, the rooms and the client's name in its first message", async () => {
  const { client, states } = setUp();
  client.subscribe("campaign:c1");
  client.connect();
  await settle();
  socket().accept();

  const [first] = socket().sent;
  expect(socket().subprotocol).toBe("beaconfire.v1");
  expect(first.type).toBe("connect");
  expect(first.token).toBe("token");
  expect(first.rooms).toStrictEqual(["campaign:c1"]);
  expect(first.cursor).toBeUndefined();
  expect(first.client.name).toBe("beaconfire-js");
  expect(states.map(({ state }) => state)).toStrictEqual(["connecting", "connected"]);
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

  expect(socket().subprotocol).toStrictEqual(["beaconfire.v1.batch", "beaconfire.v1"]);
  expect(heard).toStrictEqual(["id41", "id42", "id43"]);
  expect(client.cursor).toBe("e1:43");
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

  expect(heard).toStrictEqual(["id41"]);
  expect(client.cursor).toBe("e1:41");
});

test("connecting twice opens one socket", async () => {
  const { client } = setUp();
  client.connect();
  client.connect();
  await settle();

  expect(FakeSocket.all.length).toBe(1);
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

  expect([before, first, lost, client.sessionId]).toStrictEqual(["", "first", "", "second"]);
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

  expect(await pausesUntilError({ client, clock })).toStrictEqual([1, 2, 4, 8, 16, 32, 32, 32, 32, 32]);
  expect(states.at(-1).error.code).toBe("unreachable");
  expect(states.at(-1).error.message).toMatch(/after 10 attempts/);
  expect([...new Set(states.map(({ attempt }) => attempt))]).toStrictEqual([1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  await clock.pass(600_000);
  expect(FakeSocket.all.length, "it does not try again by itself").toBe(11);
});

test("the longest pause is an option", async () => {
  for (const [maxPauseMs, longest] of [[30_000, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]], [1000, Array(10).fill(1)]]) {
    const { client, clock } = await setUpConnected({ maxPauseMs });
    expect(await pausesUntilError({ client, clock })).toStrictEqual(longest);
  }
  for (const maxPauseMs of [0, 999, -1, NaN, Infinity, "30s"]) {
    expect(() => setUp({ maxPauseMs })).toThrow(/maxPauseMs: expected a number from 1000, got /);
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

  expect(states.at(-2).attempt).toBe(1);
  expect(client.state).toBe("connected");
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
  expect(client.state).toBe("error");
});

test("a pause is random, between 0 and its maximum", async () => {
  const { client, clock } = await setUpConnected({ random: () => 0.25 });
  await clock.pass(6000);
  socket().end(1006);
  await clock.pass(249);
  expect(FakeSocket.all.length).toBe(1);
  await clock.pass(1);
  expect(FakeSocket.all.length).toBe(2);
  expect(client.state).toBe("connecting");
});

test("a refused token is renewed once, and a second refusal is an error", async () => {
  const { client, asked, states } = setUp();
  client.connect();
  await settle();
  socket().end(4401, "expired");
  await settle();
  expect(FakeSocket.all.length, "at once, without a pause").toBe(2);
  socket().end(4401, "revoked");
  await settle();

  expect(asked).toStrictEqual(["connect", "refused"]);
  expect(client.state).toBe("error");
  expect(states.at(-1).error).toStrictEqual({ code: "token_invalid", message: "revoked" });
});

test("a close code with retry `no` ends in the error state at once", async () => {
  for (const code of [4400, 4403, 4413, 1002, 1003, 1007, 1009]) {
    const { client } = await setUpConnected();
    socket().end(code);
    expect(client.state, `close ${code}`).toBe("error");
  }
});

test("unknown close codes and those of restarts are tried again with backoff", async () => {
  for (const code of [1001, 1006, 1011, 1012, 1013, 1014, 4408, 4429, 4500, 4503, 4999]) {
    const { client } = await setUpConnected();
    socket().end(code);
    expect(client.state, `close ${code}`).toBe("connecting");
  }
});

test("a failing getToken counts as an attempt, and stops the client if its error says retry `no`", async () => {
  let error = Object.assign(new Error("offline"), {});
  const { client, clock, states } = setUp({ getToken: () => Promise.reject(error) });
  client.connect();
  await settle();
  expect(client.state).toBe("connecting");
  error = Object.assign(new Error("signed out"), { retry: "no" });
  await clock.pass(2000);

  expect(client.state).toBe("error");
  expect(states.at(-1).error.message).toMatch(/signed out/);
});

test("an attempt that hangs is given up: a connection after 10 s, a token after 15 s or as long as the option says", async () => {
  const { client, clock } = setUp();
  client.connect();
  await settle();
  socket().open();
  await clock.pass(9999);
  expect(client.status.attempt).toBe(1);
  await clock.pass(1);
  expect(client.status.attempt).toBe(2);

  for (const [options, ms] of [[{}, 15_000], [{ tokenTimeoutMs: 3000 }, 3000]]) {
    const signals = [];
    const hung = setUp({ getToken: ({ signal }) => (signals.push(signal), new Promise(() => {})), ...options });
    hung.client.connect();
    await hung.clock.pass(ms - 1);
    expect([hung.client.status.attempt, signals[0].aborted]).toStrictEqual([1, false]);
    await hung.clock.pass(1);
    expect([hung.client.status.attempt, signals[0].aborted]).toStrictEqual([2, true]);
    expect(hung.client.status.reason.message).toMatch(/getToken took longer than/);
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
  expect(client.state).toBe("connecting");
  expect(client.status.attempt).toBe(1);

  network.isOffline = false;
  const count = FakeSocket.all.length;
  network.handlers.onOnline();
  await settle();
  expect(FakeSocket.all.length).toBe(count + 1);
});

test("`online` replaces an attempt that hangs, and restarts a client that gave up", async () => {
  const { client, clock, network } = setUp();
  client.connect();
  await settle();
  const hanging = socket();
  network.handlers.onOnline();
  await settle();
  expect(socket()).not.toBe(hanging);

  while (client.state !== "error") {
    await clock.pass(100);
    if (socket().readyState === 0) socket().end(1006);
  }
  network.handlers.onOnline();
  expect(client.state).toBe("connecting");
});

test("it pings after 1.1 heartbeats of silence, and reconnects without an answer within 5 s", async () => {
  const { client, clock } = await setUpConnected();
  await clock.pass(27_499);
  expect(socket().of("ping").length).toBe(0);
  await clock.pass(1);
  expect(socket().of("ping").length).toBe(1);
  await clock.pass(4999);
  expect(client.state).toBe("connected");
  await clock.pass(1);
  expect(client.state).toBe("connecting");
  expect(FakeSocket.all[0].readyState).toBe(3);
});

test("every message is a sign of life", async () => {
  const { client, clock } = await setUpConnected();
  for (let beat = 0; beat < 5; beat++) {
    await clock.pass(24_000);
    socket().receive({ type: "position", cursor: `e:${20 + beat}` });
  }
  expect(socket().of("ping").length).toBe(0);
  await clock.pass(27_500);
  socket().receive({ type: "reply", id: socket().last.id, success: true });
  await clock.pass(10_000);
  expect(client.state).toBe("connected");
});

test("after sleep it pings at once", async () => {
  const { client, clock, network } = await setUpConnected();
  network.handlers.onAwake();
  network.handlers.onAwake();
  expect(socket().of("ping").length).toBe(1);
  await clock.pass(5000);
  expect(client.state).toBe("connecting");
});

test("sleep with a visible page is noticed by the clock, and it pings", async () => {
  const { clock } = await setUpConnected();
  await clock.pass(20_000);
  expect(socket().of("ping").length).toBe(0);
  clock.sleep(3_600_000);
  await clock.pass(5000);
  expect(socket().of("ping").length).toBe(1);
});

test("a socket that the browser has closed is replaced at once", async () => {
  const { client, network } = await setUpConnected();
  socket().readyState = 3;
  network.handlers.onAwake();
  expect(client.state).toBe("connecting");
});

test("a page that becomes visible does not wait for the pause to end", async () => {
  const { client, clock, network } = await setUpConnected();
  await clock.pass(6000);
  socket().end(1006);
  network.handlers.onAwake();
  network.handlers.onAwake();
  await settle();
  expect(FakeSocket.all.length).toBe(2);
  expect(client.status.attempt).toBe(1);
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
  expect(socket().of("refresh").length).toBe(0);
  await clock.pass(2000);
  expect(socket().of("refresh").length).toBe(1);
  expect(socket().last.token).toBe("token for expiring");
  socket().receive({ type: "reply", id: socket().last.id, success: false, error: { code: "unavailable", message: "" } });
  await clock.pass(4000);
  expect(socket().of("refresh").length).toBe(2);
  socket().receive({ type: "reply", id: socket().last.id, success: true });
  await clock.pass(20_000);

  expect(socket().of("refresh").length).toBe(2);
  expect(client.state).toBe("connected");
  expect(states.map(({ state }) => state)).toStrictEqual(["connecting", "connected"]);
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

  expect([afterLoss.lastClose, afterLoss.awayMs]).toStrictEqual([1006, 5000]);
  expect([afterGoaway.lastClose, afterGoaway.awayMs]).toStrictEqual([undefined, undefined]);
});

test("the time since a lost connection is never negative, even if the clock is set back", async () => {
  const { client, clock } = await setUpConnected();
  clock.sleep(1);
  socket().end(1006);
  clock.setBack(5000);
  client.retry();
  await clock.pass(0);
  socket().open();

  expect(socket().last.awayMs).toBe(0);
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

  expect(socket().last.awayMs).toBeUndefined();
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
  expect(next).not.toBe(old);
  next.open();
  old.receive({ type: "event", offset: 11, rooms: ["campaign:c1"], event: { id: "a" } });
  expect(next.last.replaces).toBe("s1");
  expect(next.last.cursor).toBe("e:10");
  next.receive({ type: "connection.ack", id: next.last.id, sessionId: "s2", cursor: "e:10", heartbeatS: 25, rooms: {} });
  next.receive({ type: "event", offset: 11, rooms: ["campaign:c1"], event: { id: "a" } });
  next.receive({ type: "event", offset: 12, rooms: ["campaign:c1"], event: { id: "b" } });

  expect(old.readyState).toBe(3);
  expect(events).toStrictEqual([11, 12]);
  expect(states.map(({ state }) => state), "nobody saw it").toStrictEqual(["connecting", "connected"]);
});

test("goaway: without another gateway the old connection is used to its end", async () => {
  const { client, clock } = await setUpConnected();
  const old = socket();
  old.receive({ type: "goaway", afterMs: 0, withinMs: 4000 });
  await clock.pass(2000);
  socket().end(1006);
  expect(client.state).toBe("connected");
  old.end(4503);
  expect(client.state).toBe("connecting");
  await clock.pass(10_000);
  socket().accept();
  expect(client.state).toBe("connected");
});

test("goaway: a refused token is renewed while the old connection is still used", async () => {
  const { client, clock, asked, states } = await setUpConnected();
  socket().receive({ type: "goaway", afterMs: 0, withinMs: 0 });
  await clock.pass(0);
  socket().end(4401, "expired");
  await settle();
  socket().accept();

  expect(asked).toStrictEqual(["connect", "reconnect", "refused"]);
  expect(client.state).toBe("connected");
  expect(states.map(({ state }) => state)).toStrictEqual(["connecting", "connected"]);
});

test("goaway: `degraded` of the old gateway does not carry over to the new one", async () => {
  const { client, clock } = await setUpConnected();
  const told = [];
  for (const name of ["degraded", "live"]) client.on(name, () => told.push(name));
  socket().receive({ type: "degraded", reason: "broker_unreachable" });
  socket().receive({ type: "goaway", afterMs: 0, withinMs: 0 });
  await clock.pass(0);
  socket().accept();

  expect(told).toStrictEqual(["degraded", "live"]);
  expect(client.isDegraded).toBe(false);
});

test("every connection after the first names the last session in `replaces`", async () => {
  const { client, clock } = await setUpConnected();
  expect(socket().sent[0].replaces).toBeUndefined();
  socket().end(1006);
  await clock.pass(2000);
  expect(socket().readyState).toBe(0);
  socket().end(1006); // a failed attempt changes nothing
  await clock.pass(2000);
  socket().accept({ sessionId: "s2" });
  expect(socket().sent[0].replaces).toBe("s1");
  client.close();
  client.connect();
  await settle();
  socket().accept({ sessionId: "s3" });

  expect(socket().sent[0].replaces).toBe("s2");
});

test("a degraded gateway says so in the ack, and the client never looks healthy", async () => {
  const { client, clock } = setUp();
  const told = [];
  client.on("state", ({ state }) => told.push([state, client.isDegraded]));
  for (const name of ["degraded", "live"]) client.on(name, () => told.push(name));
  client.connect();
  await settle();
  socket().accept({ degraded: true });
  expect(told).toStrictEqual([["connecting", false], ["connected", true], "degraded"]);
  socket().end(1006);
  await clock.pass(2000);
  socket().accept({ degraded: true });
  expect(told.slice(3), "told once").toStrictEqual([["connecting", false], ["connected", true]]);
  socket().end(1006);
  await clock.pass(2000);
  socket().accept({ degraded: false });

  expect(told.slice(5)).toStrictEqual([["connecting", false], ["connected", false], "live"]);
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
  expect(client.state).toBe("connecting");
  expect(client.status.attempt).toBe(1);
  socket().end(4403, "no");
  network.handlers.onAwake();

  expect(client.state, "what was refused for good stays refused").toBe("error");
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

  expect(socket().of("refresh").map(({ token }) => token)).toStrictEqual(["token 2", "token 3"]);
});

test("a connection refused with `retryAfterMs` is not tried again earlier", async () => {
  const { client, clock } = setUp({ random: () => 0 });
  client.connect();
  await settle();
  socket().open();
  socket().receive({ type: "error", id: socket().last.id, code: "too_many", message: "", retryAfterMs: 5000 });
  socket().end(4429);
  await clock.pass(4999);
  expect(FakeSocket.all.length).toBe(1);
  await clock.pass(1);

  expect(FakeSocket.all.length).toBe(2);
});

test("close ends everything in every state", async () => {
  const { client, clock } = setUp();
  client.connect();
  client.close();
  await clock.pass(60_000);
  expect(FakeSocket.all.length).toBe(0);
  client.connect();
  await settle();
  socket().accept();
  client.close();
  await clock.pass(60_000);

  expect(FakeSocket.all.length).toBe(1);
  expect(client.state).toBe("disconnected");
});

test("debug output contains no token", async () => {
  const lines = [];
  vi.spyOn(console, "debug").mockImplementation((...line) => lines.push(JSON.stringify(line)));
  const { client } = setUp({ getToken: async () => "secret-token" });
  client.debug = true;
  client.connect();
  await settle();
  socket().accept();
  socket().receive({ type: "token.expiring", inS: 60 });
  await settle();

  expect(lines.length).toBeGreaterThan(3);
  expect(lines.join()).not.toContain("secret-token");
});

test("without a WebSocket class the error says what to do", async () => {
  const { client } = setUp({ WebSocket: /** @type {any} */ ("none") });
  client.connect();
  await settle();

  expect(client.state).toBe("error");
  expect(client.status.error?.message ?? "").toMatch(/no WebSocket here. Pass one in the option/);
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

  expect(asked).toStrictEqual(["connect", "refused", "refused", "refused"]);
  expect(socket().last.token).toBe("new");
  expect(client.state).not.toBe("error");
});

test("a page in the back/forward cache has no socket, and connects at once when it is restored", async () => {
  const { client, clock, network, states } = await setUpConnected();
  const left = socket();
  network.handlers.onFreeze();
  expect([left.readyState, client.state]).toStrictEqual([3, "connecting"]);
  await clock.pass(60_000);
  expect(socket(), "it does not connect while it is hidden").toBe(left);
  network.handlers.onAwake();
  await settle();
  socket().accept();

  expect(client.state).toBe("connected");
  expect(socket().sent[0].replaces).toBe("s1");
  expect(states.map(({ state }) => state)).toStrictEqual(["connecting", "connected", "connecting", "connected"]);
});
