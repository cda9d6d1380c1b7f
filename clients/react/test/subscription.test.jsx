import { useState } from "react";
import { expect, test, vi } from "vitest";
import { WebSocket } from "ws";

import { Client } from "@beaconfire/client";

import { BeaconfireProvider, useCampaign, useSettlement, useStructure, useSubscription, useWebSocket, useWebSocketConnection } from "../src/index.js";
import { render, renderHook, until } from "./render.jsx";
import { call, campaignPath, createSettlement, room, signedIn, stage } from "./stage.js";

/** The messages that the sockets of this test send. */
function watchSockets() {
  const sent = [];
  const opened = [];
  class Watched extends WebSocket {
    constructor(...args) {
      super(...args);
      opened.push(this);
    }
    send(data) {
      sent.push(JSON.parse(data));
      super.send(data);
    }
  }
  return { WebSocket: Watched, sent, opened, ofRooms: () => sent.filter(({ type }) => type === "subscribe" || type === "unsubscribe") };
}

test("a provider has one socket under StrictMode, and closes it when it is removed", async () => {
  const { WebSocket, opened, sent } = watchSockets();
  const { result, remove } = await renderHook(useWebSocket, [], { ...signedIn(), WebSocket });
  await until(() => result.current.isConnected);
  const { connection } = result.current;
  expect(result.current).toMatchObject({ state: "connected", isLive: true, attempts: 0, transport: "websocket", error: undefined });
  await remove();

  expect(opened.length).toBe(1);
  expect(sent.filter(({ type }) => type === "connect").length).toBe(1);
  expect(connection.state).toBe("disconnected");
});

test("signing out with `enabled` closes the connection, and signing in opens it again", async () => {
  const { result, again } = await renderHook(useWebSocket);
  await until(() => result.current.isConnected);
  await again([], { enabled: false });
  expect(result.current.state).toBe("disconnected");
  await again([], { enabled: true });
  await until(() => result.current.isConnected);
});

test("another user gets another connection, and a new `getToken` does not", async () => {
  const { result, again } = await renderHook(useWebSocketConnection);
  const first = result.current;
  await until(() => first.state === "connected");
  const getToken = vi.fn(async () => stage.people.Viewer.token);
  await again([], { getToken });
  expect(result.current).toBe(first);
  await again([], { user: stage.people.Viewer.id, getToken });
  await until(() => result.current.state === "connected");

  expect(result.current).not.toBe(first);
  expect(first.state).toBe("disconnected");
  expect(getToken).toHaveBeenCalled();
});

test("a client of the application is used, and stays open when the provider is removed", async () => {
  const client = new Client(signedIn());
  client.connect();
  const { result, remove } = await renderHook(useWebSocketConnection, [], { client });
  await until(() => client.state === "connected");
  await remove();

  expect(result.current).toBe(client);
  expect(client.state).toBe("connected");
  client.close();
});

test("a provider without a token says what is wrong in `error`", async () => {
  const getToken = () => Promise.reject(Object.assign(new Error("signed out"), { retry: "no" }));
  const { result } = await renderHook(useWebSocket, [], { ...signedIn(), getToken });
  await until(() => result.current.state === "error");

  expect(result.current.error.message).toMatch("signed out");
});

test("a subscription is named once in `connect` under StrictMode, and hears each event once", async () => {
  const { WebSocket, sent, ofRooms } = watchSockets();
  const events = [];
  const { result } = await renderHook(useSubscription, [room, { onEvent: (event) => events.push(event) }], { ...signedIn(), WebSocket });
  await until(() => result.current.state === "joined");
  const { id } = await createSettlement("Heard once");
  await until(() => events.some(({ payload }) => payload.settlementId === id));

  expect(events.filter(({ payload }) => payload.settlementId === id).length).toBe(1);
  expect(sent[0]).toMatchObject({ type: "connect", rooms: [room] });
  expect(ofRooms()).toEqual([]);
});

test("a new handler gets the next event, and nothing is sent for it", async () => {
  const { WebSocket, sent } = watchSockets();
  const first = vi.fn();
  const second = vi.fn();
  const { result, again } = await renderHook(useSubscription, [room, { on: { settlement_updated: first } }], { ...signedIn(), WebSocket });
  await until(() => result.current.state === "joined");
  const before = sent.length;
  await again([room, { on: { settlement_updated: second } }]);
  await createSettlement("For the second handler");
  await until(() => second.mock.calls.length > 0);

  expect(first).not.toHaveBeenCalled();
  expect(sent.length).toBe(before);
});

test("`enabled: false` leaves the room, and `true` joins it again", async () => {
  const { WebSocket, ofRooms } = watchSockets();
  const onReady = vi.fn();
  const { result, again } = await renderHook(useSubscription, [room, { onReady }], { ...signedIn(), WebSocket });
  await until(() => onReady.mock.calls.length === 1);
  await again([room, { onReady }, { enabled: false }]);
  expect(result.current.state).toBe("idle");
  await until(() => ofRooms().length === 1);
  await again([room, { onReady }, { enabled: true }]);
  await until(() => onReady.mock.calls.length === 2);

  expect(ofRooms().map(({ type }) => type)).toEqual(["unsubscribe", "subscribe"]);
});

test("without a room there is no subscription", async () => {
  const { WebSocket, sent } = watchSockets();
  const { result } = await renderHook(useSubscription, [null, {}], { ...signedIn(), WebSocket });
  await until(() => sent.length === 1);

  expect(result.current.state).toBe("idle");
  expect(sent[0].rooms).toEqual([]);
});

test("a component that is mounted and unmounted rapidly strands no room", async () => {
  const { WebSocket, sent, ofRooms } = watchSockets();
  let setIsShown;
  const client = {};
  const Room = () => void useSubscription(room) ?? null;
  function Page() {
    const [isShown, set] = useState(false);
    setIsShown = set;
    client.current = useWebSocketConnection();
    return isShown && <Room />;
  }
  const page = (
    <BeaconfireProvider {...signedIn()} WebSocket={WebSocket}>
      <Page />
    </BeaconfireProvider>
  );
  const { show } = await render(page);
  await until(() => client.current.state === "connected");
  for (let turn = 0; turn < 21; turn += 1) {
    setIsShown(turn % 2 === 0);
    await show(page);
  }
  const onReady = vi.fn();
  client.current.subscribe(room, { onReady });
  await until(() => onReady.mock.calls.length === 1);

  const last = ofRooms().at(-1);
  expect(last?.type).toBe("subscribe");
  expect(sent.filter(({ type }) => type === "connect").length).toBe(1);
});

test("campaigns, settlements and structures have typed handlers for each type of event", async () => {
  const { id } = await createSettlement("With a mill");
  const heard = { campaign: vi.fn(), settlement: vi.fn(), structure: vi.fn() };
  function useAll(structureId) {
    return [
      useCampaign(stage.campaign, { on: { structure_updated: heard.campaign } }),
      useSettlement(id, { on: { structure_updated: heard.settlement } }, { campaignId: stage.campaign, types: ["structure_updated"] }),
      useStructure(structureId, { on: { structure_updated: heard.structure } }, { campaignId: stage.campaign }),
    ];
  }
  const { structure } = await call("POST", `${campaignPath}/settlements/${id}/structures`, { name: "Mill" });
  const { result } = await renderHook(useAll, [structure.id]);
  await until(() => result.current.every(({ state }) => state === "joined"));
  await call("PATCH", `${campaignPath}/settlements/${id}/structures/${structure.id}`, { level: 4 });
  await until(() => Object.values(heard).every(({ mock }) => mock.calls.length === 1));

  for (const handler of Object.values(heard)) {
    expect(handler.mock.calls[0][0].payload).toMatchObject({ structureId: structure.id, changedFields: ["level"] });
  }
});

test("a refused room says why", async () => {
  const { result } = await renderHook(useSubscription, ["campaign:nobodys"]);
  await until(() => result.current.state === "refused");

  expect(result.current.error.code).toBe("forbidden");
});

test("outside the provider a hook says which one is missing", async () => {
  const Lost = () => void useCampaign("c1") ?? null;
  const printed = vi.spyOn(console, "error").mockImplementation(() => {});

  await expect(render(<Lost />)).rejects.toThrow("useCampaign was called outside <BeaconfireProvider>");
  printed.mockRestore();
});
