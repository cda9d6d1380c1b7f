/** Waiting for a change of one's own, and a cursor that outlives the page. */

import { expect, test } from "vitest";

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
  expect([past.state, nothing.state, exact.state]).toStrictEqual(["seen", "seen", "waiting"]);
  socket().receive(event(12));
  await settle();
  expect([exact.state, above.state]).toStrictEqual(["seen", "waiting"]);
  socket().receive(event(15));
  socket().receive({ type: "position", cursor: "e:20" });
  await settle();

  expect([above.state, quiet.state]).toStrictEqual(["seen", "seen"]);
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

  expect(order).toStrictEqual(["before", "later", "seen later"]);
});

test("seen: waits across a reconnect", async () => {
  const { client, clock } = await setUpConnected();
  const [place, id] = [watched(client.seen("e:11")), watched(client.seen("mine"))];
  socket().end(1006);
  await clock.pass(2000);
  socket().accept();
  expect([place.state, id.state]).toStrictEqual(["waiting", "waiting"]);
  socket().receive(event(11, "mine"));
  await settle();

  expect([place.state, id.state]).toStrictEqual(["seen", "seen"]);
});

test("seen: waits until missing events of a room are restored", async () => {
  const { client, clock } = await setUpConnected();
  client.subscribe(C1, {}, { cursor: "e:5" });
  await clock.pass(0);
  const watch = watched(client.seen("e:8"));
  const byId = watched(client.seen("mine"));
  await settle();
  expect(watch.state, "the connection is at 10, the room at 5").toBe("waiting");
  socket().restore(event(8, "mine"));
  await settle();
  expect([watch.state, byId.state]).toStrictEqual(["waiting", "seen"]);
  socket().answer({ [C1]: { success: true, recovered: true } });
  await settle();

  expect(watch.state).toBe("seen");
});

test("seen: rejects with a reason", async () => {
  const { client, clock } = await setUpConnected();
  const late = client.seen("e:99", { timeoutMs: 1000 });
  const refused = expect(late).rejects.toMatchObject({ name: "NotSeen", code: "timeout", message: "e:99 was not seen within 1 s" });
  await clock.pass(1000);
  await refused;
  const [skipped, kept, closed] = ["unknown", "f:40", "f:41"].map((mark) => watched(client.seen(mark)));
  socket().receive({ type: "resync", rooms: [], reason: "epoch_changed", cursor: "f:40" });
  await settle();
  expect([skipped.state, kept.state, closed.state]).toStrictEqual(["resync", "seen", "waiting"]);
  client.close();
  await settle();

  expect(closed.state).toBe("closed");
  await expect(client.seen("f:1")).rejects.toMatchObject({ code: "closed" });
  await expect(client.seen("f:1", { timeoutMs: 0 })).rejects.toThrow(TypeError);
});

test("seen: rejects when the user signs out", async () => {
  const { client } = await setUpConnected();
  const watch = watched(client.seen("e:99"));
  socket().end(4403, "signed out");
  await settle();

  expect(watch.state).toBe("closed");
  await expect(client.seen("e:99")).rejects.toThrow(/signed out/);
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
  expect([...storage.kept.values()]).toStrictEqual(["e:10"]);
  socket().receive(event(11));
  expect([...storage.kept.values()], "a room is restored: what lies above is not heard in it yet").toStrictEqual(["e:4"]);
  socket().answer({ [C1]: { success: true, recovered: true } });
  before.client.close();

  const after = setUp(kept("u1"));
  after.client.subscribe(C1);
  after.client.connect();
  await settle();
  socket().open();
  expect([socket().last.cursor, socket().last.rooms]).toStrictEqual(["e:11", [C1]]);
  expect(setUp(kept("u2")).client.cursor).toBeUndefined();
  expect(setUp(kept("u1", "ws://other/ws")).client.cursor).toBeUndefined();
  expect(setUp().client.cursor, "nothing is kept unless it is asked for").toBe(undefined);
});

test("storage: a storage that throws or holds nonsense is not used", async () => {
  const fails = () => {
    throw new Error("QuotaExceededError");
  };
  for (const broken of [{ getItem: fails, setItem: fails }, { getItem: () => "nonsense", setItem: fails }]) {
    const storage = keepCursor(broken, { url: "ws://gateway/ws", user: "u1" });
    const { client } = await setUpConnected({ storage });
    socket().receive(event(11));
    expect(client.cursor).toBe("e:11");
    expect(socket().sent[0].cursor).toBeUndefined();
  }
  expect(() => setUp({ storage: keepCursor("session", { url: "ws://gateway/ws", user: "u1" }) })).not.toThrow();
  expect(() => keepCursor(new Storage(), { url: "ws://gateway/ws" })).toThrow(/needs `user`/);
});

test("storage: another user's cursor is not stored under this user's name", async () => {
  const storage = new Storage();
  await setUpConnected({ storage: keepCursor(storage, { url: "ws://gateway/ws", user: "u2" }) });
  socket().receive(event(11));

  expect(storage.kept.size).toBe(0);
});
