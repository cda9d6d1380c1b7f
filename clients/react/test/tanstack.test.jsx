// @vitest-environment node

import { QueryClient, QueryObserver } from "@tanstack/react-query";
import { expect, onTestFinished, test } from "vitest";

import { queryCache } from "@beaconfire/client/caches";

import { synchronised } from "./caches.js";
import { until } from "./render.jsx";
import { call, campaignPath, createSettlement, freshId, owner, publish, room, stage, workspaceRoom } from "./stage.js";

const root = ["campaign", stage.campaign];

/** Queries of the publisher, as an application has them on its page. `loads` counts the requests of each. */
async function page(options, of = room) {
  const queryClient = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity, retry: false } } });
  queryClient.mount();
  onTestFinished(() => queryClient.clear());
  const loads = {};
  const data = {};
  /** Put a query on the page. Returns what takes it off. */
  const show = async (name, key, path, pick, meta) => {
    const queryFn = async () => {
      loads[name] = (loads[name] ?? 0) + 1;
      return pick(await call("GET", path));
    };
    const observer = new QueryObserver(queryClient, { queryKey: key, queryFn, meta });
    const stop = observer.subscribe((result) => (data[name] = result.data));
    onTestFinished(stop);
    await until(() => observer.getCurrentResult().isSuccess);
    data[name] = observer.getCurrentResult().data;
    return stop;
  };
  const more = await synchronised(queryCache(queryClient, options), {}, of);
  await until(() => more.resets.length === 1);
  return { queryClient, loads, data, show, ...more };
}

const settlements = () => ["list", [...root, "settlements"], `${campaignPath}/settlements`, (answer) => answer.settlements];
const settlement = (id) => ["one", [...root, "settlement", id], `${campaignPath}/settlements/${id}`, (answer) => answer.settlement];

test("an updated settlement is loaded again, with its lists and without others", async () => {
  const { show, loads, data } = await page();
  const { id } = await createSettlement("Before");
  await show(...settlement(id));
  await show("other", [...root, "settlement", "other"], campaignPath, (answer) => answer.campaign);
  await show("filtered", [...root, "settlements", { kind: "town" }], `${campaignPath}/settlements`, (answer) => answer.settlements);
  await call("PATCH", `${campaignPath}/settlements/${id}`, { name: "After" });
  await until(() => data.one.name === "After");
  await until(() => data.filtered.some(({ name }) => name === "After"));

  expect(loads.other).toBe(1);
});

test("a created settlement enters its lists", async () => {
  const { show, data } = await page();
  await show(...settlements());
  const { id } = await createSettlement("Created");
  await until(() => data.list.some((one) => one.id === id));
});

test("a deleted settlement leaves its lists, and what is cached of it is removed unless it is on the page", async () => {
  const { show, data, queryClient } = await page();
  const { id } = await createSettlement("To be deleted");
  const hide = await show(...settlement(id));
  await show(...settlements());
  hide();
  await call("DELETE", `${campaignPath}/settlements/${id}`);
  await until(() => !data.list.some((one) => one.id === id));
  await until(() => queryClient.getQueryData([...root, "settlement", id]) === undefined);
});

test("a structure is loaded again with the lists of its settlement and of the campaign", async () => {
  const { show, data } = await page();
  const { id } = await createSettlement("With structures");
  const path = `${campaignPath}/settlements/${id}/structures`;
  await show("structures", [...root, "settlement", id, "structures"], path, (answer) => answer.structures);
  const { structure } = await call("POST", path, { name: "Mill" });
  await until(() => data.structures.length === 1);
  await show("one", [...root, "structure", structure.id], `${path}/${structure.id}`, (answer) => answer.structure);
  await call("PATCH", `${path}/${structure.id}`, { level: 5 });
  await until(() => data.one.level === 5);
  await call("DELETE", `${path}/${structure.id}`);
  await until(() => data.structures.length === 0);
});

test("another entity is loaded again, and so is the campaign itself without all that is in it", async () => {
  const { show, data, loads } = await page();
  const { entity } = await call("POST", `${campaignPath}/entities`, { type: "location", name: "Shrine" });
  const path = `${campaignPath}/entities/location/${entity.id}`;
  await show("location", [...root, "location", entity.id], path, (answer) => answer.entity);
  await show("campaign", root, campaignPath, (answer) => answer.campaign);
  await show("members", [...root, "members"], campaignPath, (answer) => answer.campaign);
  await call("PATCH", path, { name: "Sunken shrine" });
  await until(() => data.location.name === "Sunken shrine");
  await call("PATCH", campaignPath, { description: entity.id });
  await until(() => data.campaign.description === entity.id);

  expect(loads.members).toBe(1);
});

test("computed values of the campaign are loaded again by the fields that a query names in `meta`", async () => {
  const { show, loads, batches } = await page();
  const one = (name, computed) => show(name, [...root, name], campaignPath, (answer) => answer.campaign, { computed });
  await one("all", true);
  await one("income", ["income"]);
  await one("weather", ["weather"]);
  const payload = { scope: "campaign", campaignId: stage.campaign, affectedFields: ["income"] };
  await call("POST", "/events", { type: "state_invalidated", payload });
  await until(() => batches.flat().some(({ kind, thing }) => kind === "computed" && !thing));
  await until(() => loads.all === 2 && loads.income === 2);

  expect(loads.weather).toBe(1);
});

test("computed values of one thing are loaded again with it", async () => {
  const { show, loads } = await page();
  const { id } = await createSettlement("Computed");
  await show(...settlement(id));
  const before = loads.one;
  const payload = { scope: "entity", campaignId: stage.campaign, entityType: "settlement", entityId: id, affectedFields: ["income"] };
  await call("POST", "/events", { type: "state_invalidated", payload });
  await until(() => loads.one > before);
});

test("world time is put into the data without a request, and what depends on it is loaded again", async () => {
  const { show, data, loads } = await page();
  await show("time", [...root, "time"], campaignPath, (answer) => answer.campaign.worldTime);
  await show("campaign", root, campaignPath, (answer) => answer.campaign);
  await show("schedule", [...root, "schedule"], campaignPath, (answer) => answer.campaign, { dependsOnTime: true });
  const { campaign } = await call("POST", `${campaignPath}/world-time`, { advanceSeconds: 3600 });
  await until(() => Date.parse(data.time) === Date.parse(campaign.worldTime));
  await until(() => loads.schedule === 2);

  expect(Date.parse(data.campaign.worldTime)).toBe(Date.parse(campaign.worldTime));
  expect(loads.time).toBe(1);
});

test("a hundred rapid updates cause a few batches and as many requests", async () => {
  const { show, loads, batches, client } = await page();
  const { id } = await createSettlement("Busy");
  await show(...settlement(id));
  const before = loads.one;
  const payload = { campaignId: stage.campaign, settlementId: id, operation: "update", changedFields: ["level"] };
  const answer = await call("POST", "/events", Array.from({ length: 100 }, () => ({ type: "settlement_updated", payload })));
  await client.seen(answer.mark);
  const ofIt = () => batches.flat().filter((one) => one.kind === "thing" && one.id === id);
  await until(() => ofIt().length > 0);

  expect(ofIt().length).toBeLessThan(20);
  expect(loads.one - before).toBeLessThan(20);
});

test("approvals, agents, runs, messages and notifications are loaded again with their lists", async () => {
  const { queryClient, show, loads } = await page({}, workspaceRoom);
  await synchronised(queryCache(queryClient), {}, `user:${owner.id}`);
  const workspaceId = stage.workspace;
  const [id, agentId, chatId] = [freshId(), freshId(), freshId()];
  const keys = {
    approvals: ["workspace", workspaceId, "approvals"],
    approval: ["workspace", workspaceId, "approval", id],
    agent: ["workspace", workspaceId, "agent", agentId],
    runs: ["workspace", workspaceId, "agent", agentId, "runs"],
    messages: ["workspace", workspaceId, "chat", chatId, "messages"],
    notifications: ["user", owner.id, "notifications"],
  };
  for (const [name, key] of Object.entries(keys)) await show(name, key, campaignPath, (answer) => answer.campaign);
  const before = { ...loads };
  const grown = (...names) => until(() => names.every((name) => loads[name] > before[name]));
  await publish("approval.created", { workspaceId, id, title: "New", status: "pending" });
  await grown("approvals");
  await publish("agent.status.changed", { workspaceId, agentId, status: "running" });
  await grown("agent");
  await publish("ai.run.started", { workspaceId, runId: freshId(), agentId });
  await grown("runs");
  await publish("chat.message", { workspaceId, chatId, id: freshId(), text: "Hello" });
  await grown("messages");
  await publish("notification.new", { userId: owner.id, id: freshId(), title: "You were mentioned" });
  await grown("notifications");

  const subject = `workspace.${workspaceId}.approval.${id}`; // it says what the payloads leave out
  Object.assign(before, loads);
  await call("POST", "/events", { type: "approval.updated", subject, payload: { id, status: "approved" } }, stage.backend);
  await grown("approval", "approvals");
  expect(loads.messages).toBe(before.messages);
  await call("POST", "/events", { type: "approval.deleted", subject, payload: {} }, stage.backend);
  await grown("approval", "approvals", "messages");
});

test("everything of the campaign is loaded again after a resync, and nothing of another one", async () => {
  const { show, loads, queryClient } = await page();
  await show(...settlements());
  await show("foreign", ["campaign", "other", "settlements"], `${campaignPath}/settlements`, (answer) => answer.settlements);
  queryCache(queryClient).reset([room]);
  await until(() => loads.list === 2);

  expect(loads.foreign).toBe(1);
});

test("keys of the application's own are used", async () => {
  const { show, data } = await page({ keys: { lists: ({ type }) => [["all", type]] } });
  await show("mine", ["all", "settlement"], `${campaignPath}/settlements`, (answer) => answer.settlements);
  const { id } = await createSettlement("Under my key");
  await until(() => data.mine.some((one) => one.id === id));
});
