/** Waiting for a change of one's own, and a cursor that outlives the page. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { keepCursor } from "../src/storage.js";
import { setUp, setUpConnected, settle, socket } from "./fakes.js";

const C1 = "campaign:c1";
const event = (offset, id = `id-${offset}`) => ({ type: "event", offset, rooms: [C1], event: { id, type: "t" } });

/** "waiting", "seen" or the code of the rejection. */
function watched(promise) {
  const watch = { state: "waiting" };
  promise.then(() => (watch.state = "seen"), (error) => (watch.state = error.code ?? error));
  return watch;
}

test("seen: resolves with an event or a position at or above the offset, or at once", async () => {
  const { client } = await setUpConnected();
  const [exact, above, quiet, past] = ["e:12", "e:13", 20, "e:10"].map((mark) => watched(client.seen(mark)));
  const nothing = watched(client.seen(null));
  await settle();
  assert.deepEqual([past.state, nothing.state, exact.state], ["seen", "seen", "waiting"]);
  socket().receive(event(12));
  await settle();
  assert.deepEqual([exact.state, above.state], ["seen", "waiting"]);
  socket().receive(event(15));
  socket().receive({ type: "position", cursor: "e:20" });
  await settle();

  assert.deepEqual([above.state, quiet.state], ["seen", "seen"]);
});

test("seen: resolves by the event's id, even if the event came first, and after its handlers", async () => {
  const { client, clock } = await setUpConnected();
  const order = [];
  client.subscribe(C1, { onEvent: ({ id }) => order.push(id) });
  await clock.pass(0);
  socket().reply();
  client.seen("later").then(() => order.push("seen later"));
  socket().receive(event(11, "before"));
  await client.seen("before");
  socket().receive(event(12, "later"));
  await settle();

  assert.deepEqual(order, ["before", "later", "seen later"]);
});

test("seen: waits across a reconnect", async () => {
  const { client, clock } = await setUpConnected();
  const [place, id] = [watched(client.seen("e:11")), watched(client.seen("mine"))];
  socket().end(1006);
  await clock.pass(2000);
  socket().accept();
  assert.deepEqual([place.state, id.state], ["waiting", "waiting"]);
  socket().receive(event(11, "mine"));
  await settle();

  assert.deepEqual([place.state, id.state], ["seen", "seen"]);
});

test("seen: waits until missing events of a room are restored", async () => {
  const { client, clock } = await setUpConnected();
  client.subscribe(C1, {}, { cursor: "e:5" });
  await clock.pass(0);
  const watch = watched(client.seen("e:8"));
  const byId = watched(client.seen("mine"));
  await settle();
  assert.equal(watch.state, "waiting", "the connection is at 10, the room at 5");
  socket().restore(event(8, "mine"));
  await settle();
  assert.deepEqual([watch.state, byId.state], ["waiting", "seen"]);
  socket().answer({ [C1]: { success: true, recovered: true } });
  await settle();

  assert.equal(watch.state, "seen");
});

test("seen: rejects with a reason", async () => {
  const { client, clock } = await setUpConnected();
  const late = client.seen("e:99", { timeoutMs: 1000 });
  const refused = assert.rejects(late, { name: "NotSeen", code: "timeout", message: "e:99 was not seen within 1 s" });
  await clock.pass(1000);
  await refused;
  const [skipped, kept, closed] = ["unknown", "f:40", "f:41"].map((mark) => watched(client.seen(mark)));
  socket().receive({ type: "resync", rooms: [], reason: "epoch_changed", cursor: "f:40" });
  await settle();
  assert.deepEqual([skipped.state, kept.state, closed.state], ["resync", "seen", "waiting"]);
  client.close();
  await settle();

  assert.equal(closed.state, "closed");
  await assert.rejects(client.seen("f:1"), { code: "closed" });
  await assert.rejects(client.seen("f:1", { timeoutMs: 0 }), TypeError);
});

test("seen: rejects when the user signs out", async () => {
  const { client } = await setUpConnected();
  const watch = watched(client.seen("e:99"));
  socket().end(4403, "signed out");
  await settle();

  assert.equal(watch.state, "closed");
  await assert.rejects(client.seen("e:99"), /signed out/);
});

class Storage {
  kept = new Map();
  getItem = (key) => this.kept.get(key) ?? null;
  setItem = (key, value) => this.kept.set(key, value);
}

test("storage: the next client resumes from the stored cursor, for the same user and address only", async () => {
  const storage = new Storage();
  const kept = (user, url = "ws://gateway/ws") => ({ url, storage: keepCursor(storage, { url, user }) });
  const before = await setUpConnected(kept("u1"));
  before.client.subscribe(C1, {}, { cursor: "e:4" });
  await before.clock.pass(0);
  assert.deepEqual([...storage.kept.values()], ["e:10"]);
  socket().receive(event(11));
  assert.deepEqual([...storage.kept.values()], ["e:4"], "a room is restored: what lies above is not heard in it yet");
  socket().answer({ [C1]: { success: true, recovered: true } });
  before.client.close();

  const after = setUp(kept("u1"));
  after.client.subscribe(C1);
  after.client.connect();
  await settle();
  socket().open();
  assert.deepEqual([socket().last.cursor, socket().last.rooms], ["e:11", [C1]]);
  assert.equal(setUp(kept("u2")).client.cursor, undefined);
  assert.equal(setUp(kept("u1", "ws://other/ws")).client.cursor, undefined);
  assert.equal(setUp().client.cursor, undefined, "nothing is kept unless it is asked for");
});

test("storage: a storage that throws or holds nonsense is not used", async () => {
  const fails = () => {
    throw new Error("QuotaExceededError");
  };
  for (const broken of [{ getItem: fails, setItem: fails }, { getItem: () => "nonsense", setItem: fails }]) {
    const storage = keepCursor(broken, { url: "ws://gateway/ws", user: "u1" });
    const { client } = await setUpConnected({ storage });
    socket().receive(event(11));
    assert.equal(client.cursor, "e:11");
    assert.equal(socket().sent[0].cursor, undefined);
  }
  assert.doesNotThrow(() => setUp({ storage: keepCursor("session", { url: "ws://gateway/ws", user: "u1" }) }), "Node has none");
  assert.throws(() => keepCursor(new Storage(), { url: "ws://gateway/ws" }), /needs `user`/);
});

test("storage: another user's cursor is not stored under this user's name", async () => {
  const storage = new Storage();
  await setUpConnected({ storage: keepCursor(storage, { url: "ws://gateway/ws", user: "u2" }) });
  socket().receive(event(11));

  assert.equal(storage.kept.size, 0);
});
