/** Changes that are kept and sent later, and changes that are shown before they are confirmed. */

import { expect, test } from "vitest";

import { openQueue, QueueFull } from "../src/offline.js";
import { Optimistic } from "../src/optimistic.js";
import { setUp, setUpConnected, settle, socket } from "./fakes.js";

const URL = "https://api.example/settlements/s1";
const ROOM = "campaign:c1";
const patch = (level, more) => ({ method: "PATCH", url: URL, body: { level }, ...more });
const caused = (id, offset = 11) => ({
  type: "event",
  offset,
  rooms: [ROOM],
  event: { id: `e${offset}`, type: "t", version: 1, payload: {}, metadata: { correlationId: id } },
});

/** A service that answers as the test says, and notes what it was asked. */
class Service {
  asked = [];
  /** @type {((request: any) => Response | Promise<Response>)[]} */
  answers = [];

  fetch = async (url, { method, headers, body }) => {
    const request = { url, method, body: JSON.parse(body), key: headers.get("Idempotency-Key"), ifMatch: headers.get("If-Match"), headers };
    this.asked.push(request);
    return (this.answers.shift() ?? (() => new Response("{}")))(request);
  };
}

const lost = () => Promise.reject(new TypeError("network error"));
const status = (code, headers = {}) => () => new Response("{}", { status: code, headers });

let users = 0;

/** A queue of a client that is not connected yet. */
async function setUpQueue(options = {}) {
  const user = `u${(users += 1)}`; // queues of one user share a lock
  const world = setUp();
  const service = new Service();
  const told = [];
  const tell = (word) => (change) => void told.push([word, change.body.level]);
  const queue = await openQueue({
    client: world.client,
    user,
    fetch: service.fetch,
    headers: async () => ({ Authorization: "Bearer token" }),
    onSent: tell("sent"),
    onRefused: tell("refused"),
    onConflict: tell("conflict"),
    clock: world.clock,
    random: () => 1,
    ...options,
  });
  const connect = async (ack) => {
    world.client.connect();
    await settle();
    socket().accept({ userId: user, ...ack });
    await world.clock.pass(0);
  };
  const levels = () => queue.pending.getSnapshot().map(({ body, state }) => [body.level, state]);
  return { ...world, service, queue, told, connect, levels };
}

test("changes wait while the client is not connected, and are then sent in order, each with a key of its own", async () => {
  const { queue, service, connect, levels, told } = await setUpQueue();
  for (const level of [1, 2, 3]) await queue.add(patch(level));
  expect([levels(), service.asked.length]).toStrictEqual([[[1, "waiting"], [2, "waiting"], [3, "waiting"]], 0]);
  await connect();
  await settle();

  expect(service.asked.map(({ body }) => body.level)).toStrictEqual([1, 2, 3]);
  expect(new Set(service.asked.map(({ key }) => key)).size).toBe(3);
  expect(service.asked[0].headers.get("Authorization")).toBe("Bearer token");
  expect(told).toStrictEqual([["sent", 1], ["sent", 2], ["sent", 3]]);
  expect(levels()).toStrictEqual([]);
});

test("a change whose answer is lost is sent again with the same key, before the later ones", async () => {
  const { queue, service, connect, clock } = await setUpQueue();
  service.answers = [lost, status(503), status(429)];
  await queue.add(patch(1));
  await queue.add(patch(2));
  await connect();
  await settle();
  expect(service.asked.length).toBe(1);
  for (const pause of [1000, 2000, 4000]) await clock.pass(pause);

  expect(service.asked.map(({ body }) => body.level)).toStrictEqual([1, 1, 1, 1, 2]);
  expect(new Set(service.asked.slice(0, 4).map(({ key }) => key)).size).toBe(1);
});

const never = () => new Promise(() => {});

test("a change that was on its way when the connection was lost is sent again, with the same key, once it is back", async () => {
  const { client, queue, service, connect, levels } = await setUpQueue();
  service.answers = [never];
  await queue.add(patch(1));
  await connect();
  await settle();
  expect(levels()).toStrictEqual([[1, "sending"]]);
  client.close();
  await connect();
  await settle();

  expect(service.asked.map(({ body, key }) => [body.level, key])).toStrictEqual(Array(2).fill([1, service.asked[0].key]));
  expect(levels()).toStrictEqual([]);
});

test("headers that never come do not stop the queue for longer than the connection is lost", async () => {
  const headers = [never, () => ({})];
  const { client, queue, service, connect, told } = await setUpQueue({ headers: () => headers.shift()() });
  await queue.add(patch(1));
  await connect();
  await settle();
  expect(service.asked).toStrictEqual([]);
  client.close();
  await connect();
  await settle();

  expect(told).toStrictEqual([["sent", 1]]);
});

test("a connection that comes between the queue's look at it and the end of that look is not missed", async () => {
  let [state, isNext, follow] = ["connecting", false, () => {}];
  const client = {
    userId: "between",
    get state() {
      const before = state;
      if (isNext) queueMicrotask(() => follow({ state: (state = "connected") }));
      isNext = false;
      return before;
    },
    on: (name, handler) => (name === "state" && (follow = handler), () => {}),
    seen: async () => {},
  };
  const { queue, service } = await setUpQueue({ client, user: "between" });
  isNext = true;
  await queue.add(patch(1));
  await settle();

  expect(service.asked.map(({ body }) => body.level)).toStrictEqual([1]);
});

test("a conflict is handed to the application, which drops the change or sends another one under another key", async () => {
  const answers = [{ body: { level: 9 }, ifMatch: '"7"' }, undefined];
  const { queue, service, connect, told } = await setUpQueue({ onConflict: async () => answers.shift() });
  service.answers = [status(409), status(200), status(412)];
  await queue.add(patch(1, { ifMatch: '"5"' }));
  await queue.add(patch(2, { ifMatch: '"5"' }));
  await connect();
  await settle();

  expect(service.asked.map(({ body, ifMatch }) => [body.level, ifMatch])).toStrictEqual([[1, '"5"'], [9, '"7"'], [2, '"5"']]);
  expect(new Set(service.asked.map(({ key }) => key)).size).toBe(3);
  expect(told).toStrictEqual([["sent", 9]]);
});

test("later changes of the same thing start from what the earlier one has made", async () => {
  const { queue, service, connect } = await setUpQueue();
  service.answers = [status(200, { ETag: '"6"' }), status(200, { ETag: '"7"' })];
  const more = { ifMatch: '"5"', thing: "settlement:s1" };
  for (const level of [1, 2, 3]) await queue.add(patch(level, more));
  await queue.add(patch(4, { ...more, thing: "settlement:s2" }));
  await connect();
  await settle();

  expect(service.asked.map(({ ifMatch }) => ifMatch)).toStrictEqual(['"5"', '"6"', '"7"', '"5"']);
});

test("later changes of the same thing follow an earlier one that was sent again after a conflict", async () => {
  const { queue, service, connect } = await setUpQueue({ onConflict: () => ({ ifMatch: '"8"' }) });
  service.answers = [status(409), status(200, { ETag: '"9"' })];
  for (const level of [1, 2]) await queue.add(patch(level, { ifMatch: '"5"', thing: "settlement:s1" }));
  await connect();
  await settle();

  expect(service.asked.map(({ body, ifMatch }) => [body.level, ifMatch])).toStrictEqual([[1, '"5"'], [1, '"8"'], [2, '"9"']]);
});

test("a change that was made although its answer was lost is no conflict", async () => {
  const { queue, service, connect, clock, told } = await setUpQueue();
  service.answers = [lost, status(409), status(200)];
  const { id } = await queue.add(patch(1, { ifMatch: '"5"' }));
  await connect();
  await settle();
  await clock.pass(1000);
  socket().receive(caused(id));
  await settle();

  expect(told).toStrictEqual([["sent", 1]]);
});

test("a repeated change without an event is a conflict, and the application can see that it was sent before", async () => {
  const conflicts = [];
  const { queue, service, connect, clock } = await setUpQueue({ onConflict: (change) => void conflicts.push(change.wasSent) });
  service.answers = [lost, status(409)];
  await queue.add(patch(1, { ifMatch: '"5"' }));
  await connect();
  await settle();
  await clock.pass(1000);
  expect(conflicts).toStrictEqual([]);
  await clock.pass(3000);

  expect(conflicts).toStrictEqual([true]);
});

test("a refused change is dropped, and the later ones are sent", async () => {
  const { queue, service, connect, told } = await setUpQueue();
  service.answers = [status(403), status(400)];
  for (const level of [1, 2, 3]) await queue.add(patch(level));
  await connect();
  await settle();

  expect(told).toStrictEqual([["refused", 1], ["refused", 2], ["sent", 3]]);
});

test("changes of one user are not sent while another one is connected", async () => {
  const { queue, service, connect, client } = await setUpQueue();
  await queue.add(patch(1));
  await connect({ userId: "another" });
  await settle();
  expect(service.asked.length).toBe(0);
  client.close();
  await connect();
  await settle();

  expect(service.asked.length).toBe(1);
});

test("a queue is bounded, drops what is too old, and is empty after the user has signed out", async () => {
  const { queue, service, connect, told, levels } = await setUpQueue({ maxChanges: 2, maxAgeMs: -1 });
  await queue.add(patch(1));
  await queue.add(patch(2));
  await expect(queue.add(patch(3))).rejects.toThrow(QueueFull);
  await queue.clear();
  expect(levels()).toStrictEqual([]);
  await expect(queue.add({ ...patch(4), body: "x".repeat(1024 * 1024) })).rejects.toThrow(QueueFull);
  await queue.add(patch(5));
  await connect();
  await settle();

  expect([service.asked.length, told]).toStrictEqual([0, [["refused", 5]]]);
  await expect(openQueue({ client: {}, user: "" })).rejects.toThrow(/needs `user`/);
});

test("a change that was never sent can be taken back, and one whose answer was lost cannot", async () => {
  const { queue, service, connect, levels } = await setUpQueue();
  service.answers = [lost];
  const [first, second] = [await queue.add(patch(1)), await queue.add(patch(2))];
  await queue.add(patch(3));
  expect(await queue.drop(second.place)).toBe(true);
  expect(levels()).toStrictEqual([[1, "waiting"], [3, "waiting"]]);
  await connect();
  await settle();

  expect([await queue.drop(second.place), await queue.drop(first.place)]).toStrictEqual([false, false]);
  expect(levels()).toStrictEqual([[1, "waiting"], [3, "waiting"]]);
});

test("a change is not sent after the user has signed out while a conflict was shown", async () => {
  let resolve;
  const { queue, service, connect, levels } = await setUpQueue({ onConflict: () => new Promise((given) => (resolve = given)) });
  service.answers = [status(409)];
  await queue.add(patch(1));
  await connect();
  await settle();
  expect(levels()).toStrictEqual([[1, "conflict"]]);
  await queue.clear();
  resolve({ body: { level: 2 } });
  await settle();

  expect([service.asked.length, levels()]).toStrictEqual([1, []]);
});

test("a sent change is shown until its event has come", async () => {
  const { queue, service, connect, levels } = await setUpQueue();
  service.answers = [status(200, { "X-Beaconfire-Offset": "e:12" })];
  await queue.add(patch(1));
  await connect();
  await settle();
  expect(levels()).toStrictEqual([[1, "sent"]]);
  socket().receive({ type: "position", cursor: "e:12" });
  await settle();

  expect(levels()).toStrictEqual([]);
});

test("an optimistic change is shown at once, and until its event has come and the thing is loaded again", async () => {
  const { client } = await setUpConnected();
  const edits = new Optimistic(client);
  const raise = (thing) => ({ ...thing, level: thing.level + 1 });
  const before = edits.pending.getSnapshot();
  let loaded;
  const until = () => new Promise((resolve) => (loaded = resolve));
  const made = edits.make("s1", raise, async () => "e:12", { until });
  expect(edits.over("s1", { level: 1 })).toStrictEqual({ level: 2 });
  expect(edits.pending.getSnapshot()).not.toBe(before);
  await made;
  await edits.make("s1", raise, async () => "e:13");
  expect(edits.over("s1", { level: 1 })).toStrictEqual({ level: 3 });
  socket().receive({ type: "position", cursor: "e:12" });
  await settle();
  expect(edits.over("s1", { level: 1 })).toStrictEqual({ level: 3 });
  loaded();
  await settle();
  expect([edits.over("s1", { level: 1 }), edits.isPending("s1"), edits.isPending("s2")]).toStrictEqual([{ level: 2 }, true, false]);
  socket().receive({ type: "position", cursor: "e:13" });
  await settle();

  expect([edits.over("s1", { level: 1 }), edits.isPending("s1")]).toStrictEqual([{ level: 1 }, false]);
});

test("a refused optimistic change is taken back, but not one whose event has come although its answer was lost", async () => {
  const { client } = await setUpConnected();
  const edits = new Optimistic(client);
  const raise = (thing) => ({ level: thing.level + 1 });
  await expect(edits.make("s1", raise, async () => Promise.reject(new Error("refused")))).rejects.toThrow(/refused/);
  expect(edits.isPending("s1")).toBe(false);
  await edits.make("s1", raise, async ({ id }) => {
    socket().receive(caused(id));
    throw new TypeError("network error");
  });
  await settle();

  expect(edits.isPending("s1")).toBe(false);
});
