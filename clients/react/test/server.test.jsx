// @vitest-environment node

import { StrictMode } from "react";
import { renderToString } from "react-dom/server";
import { expect, test, vi } from "vitest";

import * as library from "../src/index.js";
import { signedIn, stage } from "./stage.js";

const { BeaconfireProvider, ConnectionIndicator, ToastProvider } = library;

/** A component that uses every hook. */
function Everything() {
  const { workspace, campaign } = stage;
  const load = () => Promise.reject(new Error("A server loads nothing"));
  const cache = { apply() {}, reset() {} };
  library.useWebSocketConnection();
  library.useToasts();
  library.useCacheSync(`campaign:${campaign}`, cache);
  const { state, isConnected } = library.useWebSocket();
  const rooms = [
    library.useSubscription(`campaign:${campaign}`),
    library.useCampaign(campaign),
    library.useSettlement("s1"),
    library.useStructure("t1"),
  ];
  const { isLoading } = library.useRoomState("workspace:w1", { initial: 0, load, change: (count) => count + 1 });
  const { approvals } = library.useApprovals(workspace, { load });
  const { agents, runs } = library.useAgents(workspace);
  const { messages } = library.useChat("h1", { workspaceId: workspace });
  const { unread } = library.useNotifications();
  const { count } = library.usePresence("workspace:w1");
  const { users } = library.useTyping("workspace:w1/chat:h1");
  const { items } = library.useSelection("workspace:w1");
  library.usePresenceStatus("away");
  const { value, isPending } = library.useOptimistic("settlement:s1", 1);
  const stored = library.useStore(null, "nothing");
  const { pending } = library.useOfflineQueue();
  return JSON.stringify({ state, isConnected, rooms, isLoading, unread, count, value, isPending, stored, lists: [approvals, agents, runs, messages, users, items, pending] });
}

const page = (
  <StrictMode>
    <BeaconfireProvider {...signedIn()}>
      <ToastProvider>
        <ConnectionIndicator />
        <p>
          <Everything />
        </p>
      </ToastProvider>
    </BeaconfireProvider>
  </StrictMode>
);

test("a server renders every hook and component without a connection and without a warning", () => {
  const printed = vi.spyOn(console, "error");
  const html = renderToString(page);

  expect(html).toContain('class="beaconfire-indicator"');
  expect(html).toContain('class="beaconfire-toasts"');
  const text = JSON.parse(html.match(/<p>(.*)<\/p>/)[1].replaceAll("&quot;", '"'));
  const idle = { state: "idle" };
  expect(text).toEqual({
    state: "disconnected",
    isConnected: false,
    rooms: [idle, idle, idle, idle],
    isLoading: true,
    unread: 0,
    count: 0,
    value: 1,
    isPending: false,
    stored: "nothing",
    lists: [[], [], [], [], [], [], []],
  });
  expect(printed).not.toHaveBeenCalled();
});

test("every hook of the package was rendered", () => {
  const source = Everything.toString();
  const hooks = Object.keys(library).filter((name) => name.startsWith("use"));

  for (const hook of hooks) expect(source, hook).toContain(`${hook}(`);
});
