import { connect, type RoomStatus, type Status } from "@beaconfire/client";
import type { Events } from "@beaconfire/client/events";
import { isEvent } from "@beaconfire/client/guard";
import { mountIndicator } from "@beaconfire/client/indicator";
import { eventsOf } from "@beaconfire/client/loop";
import { watchPresence } from "@beaconfire/client/people";
import { openQueue } from "@beaconfire/client/offline";
import { Optimistic } from "@beaconfire/client/optimistic";
import { keepCursor } from "@beaconfire/client/storage";
import { connectTabs } from "@beaconfire/client/tabs";
import "@beaconfire/client/styles.css";

const url = "wss://live.example/ws";
const client = connect({
  url,
  getToken: async ({ reason, signal }) => (await fetch(`/token?${reason}`, { signal })).text(),
  storage: keepCursor("session", { url, user: "u1" }),
  onError: ({ kind, error }) => console.error(kind, error),
});
mountIndicator(document.querySelector<HTMLElement>("#connection")!, client);

const status: Status = client.connection.getSnapshot();
const room = client.subscribe("campaign:c1", {
  onEvent: (event, { offset }) => console.log(status.attempt, event.type, offset),
  on: { world_time_changed: ({ payload }) => console.log(payload.newTime) },
  onError: ({ code }, { willRetry }) => console.log(code, willRetry),
});
const joined: RoomStatus["state"] = room.status.getSnapshot().state;
// Only these types: their payloads are known.
client.subscribe("campaign:c1", { onEvent: ({ payload }) => console.log(payload.settlementId) }, { types: ["settlement_updated"] });
// @ts-expect-error this payload has no such field
client.subscribe("campaign:c1", { onEvent: ({ payload }) => console.log(payload.nothing) }, { types: ["settlement_updated"] });
// @ts-expect-error there is no such type
client.subscribe("campaign:c1", {}, { types: ["nothing"] });
// @ts-expect-error a client needs getToken
connect({ url });

async function follow() {
  for await (const event of eventsOf(client, "campaign:c1", { types: ["world_time_changed"] })) console.log(event.payload.newTime);
}
const present = watchPresence(client, "campaign:c1");
present.users.subscribe(() => console.log(present.users.getSnapshot()?.count, joined));

const given: unknown = JSON.parse("{}");
if (isEvent(given, "settlement_updated")) console.log(given.payload.settlementId);
const update: Events["settlement_updated"]["payload"]["operation"] = "create";
void follow();
void client.seen("e:1").then(() => console.log(update));

async function edit() {
  const shared = await connectTabs({ url, user: "u1", getToken: () => "token" });
  const queue = await openQueue({ client: shared, user: "u1", onConflict: ({ ifMatch }) => ({ ifMatch }) });
  await queue.add({ method: "PATCH", url: "/settlements/s1", body: { level: 3 }, ifMatch: '"5"' });
  const edits = new Optimistic(shared);
  await edits.make("s1", (thing: { level: number }) => ({ ...thing, level: 3 }), async ({ id }) => id);
}
void edit();
