import { expect, test } from "vitest";

import { useCampaign, useOfflineQueue } from "../src/index.js";
import { renderHook, until } from "./render.jsx";
import { call, campaignPath, createSettlement, owner, signedIn, stage } from "./stage.js";

// Node's `fetch` does not take signals of jsdom.
const withoutSignal = (url, { signal: _, ...init }) => fetch(url, init);
const headers = async () => ({ Authorization: `Bearer ${owner.token}` });
const levelOf = async (id) => (await call("GET", `${campaignPath}/settlements/${id}`)).settlement.level;
const patch = ({ id, revision }, level) => ({
  method: "PATCH",
  url: `${stage.publisherUrl}/v1${campaignPath}/settlements/${id}`,
  body: { level },
  ifMatch: `"${revision}"`,
  thing: `settlement:${id}`,
});

/** Two components: one with the options, one that only shows what waits. The events of the room settle the changes. */
function useTwice(options) {
  useCampaign(stage.campaign);
  return { ...useOfflineQueue(options), elsewhere: useOfflineQueue().pending };
}

test("changes made without a connection are shown in every component, and sent in order when there is one", async () => {
  const settlement = await createSettlement("Edited offline");
  const sent = [];
  const options = { headers, fetch: withoutSignal, onSent: ({ body }) => sent.push(body.level) };
  const { result, again } = await renderHook(useTwice, [options], { ...signedIn(), enabled: false });
  await result.current.add(patch(settlement, 3));
  await result.current.add(patch(settlement, 4));
  await until(() => result.current.elsewhere.length === 2);
  expect(result.current.pending.map(({ state, body }) => [state, body.level])).toEqual([["waiting", 3], ["waiting", 4]]);
  await again([options], { enabled: true });
  await until(() => sent.length === 2 && result.current.pending.length === 0);

  expect([sent, await levelOf(settlement.id)]).toEqual([[3, 4], 4]);
});

test("a conflict is handed to the handler of the newest render", async () => {
  const settlement = await createSettlement("Contested");
  const { result, again } = await renderHook(useTwice, [{ headers, fetch: withoutSignal, onConflict: () => undefined }]);
  const asked = [];
  const onConflict = async (change, response) => {
    const { current } = (await response.json()).error;
    asked.push([change.body.level, current.level]);
    return { ifMatch: `"${current.revision}"` };
  };
  await again([{ headers, onConflict }]);
  await call("PATCH", `${campaignPath}/settlements/${settlement.id}`, { level: 7 });
  await result.current.add(patch(settlement, 8));
  await until(() => asked.length === 1 && result.current.pending.length === 0);

  expect([asked, await levelOf(settlement.id)]).toEqual([[[8, 7]], 8]);
});

test("`clear` forgets what waits, and without a user nothing can be kept", async () => {
  const settlement = await createSettlement("Left alone");
  const { result, again } = await renderHook(useTwice, [{ headers }], { ...signedIn(), enabled: false });
  await result.current.add(patch(settlement, 9));
  await until(() => result.current.pending.length === 1);
  await result.current.clear();
  await until(() => result.current.elsewhere.length === 0);
  await again([{ headers }], { user: undefined, enabled: false });

  await expect(result.current.add(patch(settlement, 9))).rejects.toThrow("Pass it to <BeaconfireProvider user={…}>");
});
