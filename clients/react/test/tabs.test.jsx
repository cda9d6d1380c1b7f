import { onTestFinished, expect, test } from "vitest";

import { TabClient } from "@beaconfire/client/tabs";
import { Hub } from "@beaconfire/client/tabs_hub";
import { WebSocket } from "ws";

import { useCampaign, usePresence, useRoomState, useSelection, useWebSocket } from "../src/index.js";
import { renderHook, until } from "./render.jsx";
import { createSettlement, owner, room, signedIn, stage } from "./stage.js";

/** Clients of two tabs that share a connection. A MessageChannel stands for the port of a SharedWorker, which jsdom does not have. */
async function openTabs() {
  const hub = new Hub({ WebSocket });
  const open = async () => {
    const line = {
      open: async (onPort) => {
        const { port1, port2 } = new MessageChannel();
        hub.attach(port2);
        onPort(port1, "alive");
        return true;
      },
      close() {},
    };
    const client = new TabClient(line, signedIn());
    await client.open();
    onTestFinished(() => client.close());
    return client;
  };
  return [await open(), await open()];
}

/** What a page of the campaign uses. */
function usePage() {
  const { state, isConnected, connection } = useWebSocket();
  const events = useRoomState(room, { initial: [], load: async () => ({ data: [] }), change: (ids, { id }) => [...ids, id] });
  const campaign = useCampaign(stage.campaign);
  return { state, isConnected, connection, events, campaign, present: usePresence(room), selection: useSelection(room) };
}

test("hooks work with the client of a shared connection, in two tabs", async () => {
  const clients = await openTabs();
  const pages = [];
  for (const client of clients) pages.push((await renderHook(usePage, [], { client, user: owner.id })).result);
  await until(() => pages.every(({ current }) => current.isConnected && current.campaign.state === "joined" && current.present.isKnown));
  await until(() => pages.every(({ current }) => !current.events.isLoading));
  await createSettlement("Seen in both tabs");
  await until(() => pages.every(({ current }) => current.events.state.length > 0));
  pages[0].current.selection.select(["a"]);
  await until(() => pages[1].current.selection.items[0] === "a");

  expect(pages[0].current.events.state).toEqual(pages[1].current.events.state);
  expect(new Set(clients.map(({ sessionId }) => sessionId)).size).toBe(1);
  expect(pages[1].current.present.users.map(({ userId, devices }) => [userId, devices])).toEqual([[owner.id, 1]]);
});
