import { expect, test, vi } from "vitest";

import { useAgents, useApprovals, useChat, useNotifications, useRoomState } from "../src/index.js";
import { renderHook, until } from "./render.jsx";
import { call, campaignPath, createSettlement, freshId, owner, publish, room, stage } from "./stage.js";

const { workspace } = stage;
const path = `${campaignPath}/settlements`;

/** Options that keep the names of the campaign's settlements. */
const namesOf = (load) => ({
  initial: [],
  load,
  take: (settlements) => settlements.map(({ name }) => name),
  types: ["settlement_updated"],
  change: (names, event) => [...names, event.payload.settlementId],
});

test("state is loaded with its cursor, and events since then follow without a second load", async () => {
  const load = vi.fn(async () => {
    const { settlements, cursor } = await call("GET", path);
    const { id } = await createSettlement("Between load and subscription");
    load.between = id;
    return { data: settlements, cursor };
  });
  const { result } = await renderHook(useRoomState, [room, namesOf(load)]);
  expect(result.current).toMatchObject({ state: [], isLoading: true });
  await until(() => result.current.state.includes(load.between));

  expect(result.current).toMatchObject({ isLoading: false, error: undefined });
  expect(result.current.state).toContain("Emberford");
  await until(() => result.current.room.state === "joined");
  expect(load.mock.calls.length).toBe(2); // StrictMode mounts twice, and the first load is aborted
  expect(load.mock.calls[0][0].signal.aborted).toBe(true);
});

test("without a cursor the state is loaded again once the room is joined", async () => {
  const load = vi.fn(async () => ({ data: (await call("GET", path)).settlements }));
  const { result } = await renderHook(useRoomState, [room, namesOf(load)]);
  await until(() => result.current.room.state === "joined");
  await until(() => load.mock.calls.length === 3); // StrictMode's aborted one, the first one, and that of `onReady`
  const { id } = await createSettlement("Heard");
  await until(() => result.current.state.includes(id));
});

test("a failed load is shown and repeated until it succeeds", async () => {
  vi.spyOn(Math, "random").mockReturnValue(0); // no pauses
  let failures = 3;
  const load = async () => {
    if ((failures -= 1) >= 0) throw new Error("The service is away");
    const { settlements, cursor } = await call("GET", path);
    return { data: settlements, cursor };
  };
  const seen = [];
  function useNames() {
    const value = useRoomState(room, namesOf(load));
    seen.push(value.error?.message);
    return value;
  }
  const { result } = await renderHook(useNames);
  await until(() => !result.current.isLoading);
  vi.restoreAllMocks();

  expect(seen).toContain("The service is away");
  expect(result.current.error).toBe(undefined);
});

test("a load that can never succeed is not repeated, and `reload` tries again", async () => {
  let refused = Object.assign(new Error("You may not see it"), { retry: "no" });
  const load = vi.fn(async () => {
    if (refused) throw refused;
    const { settlements, cursor } = await call("GET", path);
    return { data: settlements, cursor };
  });
  const { result } = await renderHook(useRoomState, [room, namesOf(load)]);
  await until(() => result.current.error === refused);
  refused = undefined;
  result.current.reload();
  await until(() => !result.current.isLoading);

  expect(load.mock.calls.length).toBe(3);
});

test("another room has none of the state of the one before", async () => {
  const load = async () => ({ data: (await call("GET", path)).settlements });
  const { result, again } = await renderHook(useRoomState, [room, namesOf(load)]);
  await until(() => result.current.state.length > 0);
  const never = () => new Promise(() => {});
  await again(["campaign:other", namesOf(never)]);

  expect(result.current).toMatchObject({ state: [], isLoading: true });
});

test("approvals are created, changed and deleted by events", async () => {
  const [known, other] = [freshId(), freshId()];
  const load = async () => ({ data: [{ id: known, title: "Loaded", status: "pending" }] });
  const { result } = await renderHook(useApprovals, [workspace, { load }]);
  await until(() => result.current.room.state === "joined" && result.current.approvals.length > 0);
  await publish("approval.created", { workspaceId: workspace, id: other, title: "New", status: "pending" });
  await publish("approval.updated", { workspaceId: workspace, id: known, status: "approved" });
  await until(() => result.current.approvals[0]?.status === "approved");
  expect(result.current.approvals).toMatchObject([
    { id: known, title: "Loaded", status: "approved" },
    { id: other, title: "New", status: "pending" },
  ]);
  await publish("approval.deleted", { workspaceId: workspace, id: known });
  await until(() => result.current.approvals.length === 1);

  expect(result.current.approvals[0].id).toBe(other);
});

test("agents have their status, and runs the fields of all their events", async () => {
  const [agentId, runId] = [freshId(), freshId()];
  const { result } = await renderHook(useAgents, [workspace]);
  await until(() => result.current.room.state === "joined");
  await publish("agent.status.changed", { workspaceId: workspace, agentId, status: "running", previousStatus: "idle" });
  await publish("ai.run.started", { workspaceId: workspace, runId, agentId, prompt: "Write a plan" });
  await publish("ai.run.failed", { workspaceId: workspace, runId, agentId, error: "Out of budget" });
  await until(() => result.current.runs[0]?.state === "failed");

  expect(result.current.agents).toMatchObject([{ id: agentId, status: "running" }]);
  expect(result.current.runs).toMatchObject([{ id: runId, prompt: "Write a plan", error: "Out of budget" }]);
});

test("the badge counts unread notifications of the user, and `markRead` takes them out", async () => {
  const [read, unread, fresh] = [freshId(), freshId(), freshId()];
  const load = async () => ({ data: [{ id: read, isRead: true }, { id: unread }] });
  const { result } = await renderHook(useNotifications, [{ load }]);
  await until(() => result.current.room.state === "joined" && result.current.unread === 1);
  await publish("notification.new", { userId: owner.id, id: fresh, title: "You were mentioned" });
  await until(() => result.current.unread === 2);
  result.current.markRead(unread);
  await until(() => result.current.unread === 1);
  result.current.markRead();
  await until(() => result.current.unread === 0);

  expect(result.current.notifications.map(({ id }) => id)).toEqual([read, unread, fresh]);
});

test("a chat keeps its newest messages in order", async () => {
  const chatId = freshId();
  const { result } = await renderHook(useChat, [chatId, { workspaceId: workspace, most: 3 }]);
  await until(() => result.current.room.state === "joined");
  for (let n = 1; n <= 5; n += 1) {
    await publish("chat.message", { workspaceId: workspace, chatId, id: `m${n}`, senderId: "u1", text: `Message ${n}` });
  }
  await until(() => result.current.messages.at(-1)?.id === "m5");

  expect(result.current.messages.map(({ text }) => text)).toEqual(["Message 3", "Message 4", "Message 5"]);
});
