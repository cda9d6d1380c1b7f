// @vitest-environment node

import { expect, test, vi } from "vitest";
import { createStore } from "zustand/vanilla";

import { storeCache } from "@beaconfire/client/caches";

import { synchronised } from "./caches.js";
import { until } from "./render.jsx";
import { call, campaignPath, createSettlement, room, stage } from "./stage.js";

const path = `${campaignPath}/settlements`;

/** A store that has loaded the settlements, and how often it changed since. */
async function filled(options) {
  const store = createStore(() => ({ things: {}, lists: {}, worldTime: {}, mine: "kept" }));
  const more = await synchronised(storeCache(store, options));
  await until(() => more.resets.length === 1);
  const load = async () => {
    const { settlements } = await call("GET", path);
    store.setState(({ things, lists }) => ({
      things: { ...things, settlement: Object.fromEntries(settlements.map((one) => [one.id, one])) },
      lists: { ...lists, [`${room}/settlements`]: settlements.map(({ id }) => id) },
    }));
  };
  /** Create a settlement, and load it once its own event was applied. */
  const loadNew = async (name) => {
    const { id } = await createSettlement(name);
    await until(() => more.batches.flat().some((change) => change.id === id));
    await load();
    return id;
  };
  return { store, load, loadNew, ...more };
}

test("an updated settlement is evicted, and `onStale` loads it again", async () => {
  const stale = vi.fn();
  const { store, load, loadNew } = await filled({ onStale: stale });
  const id = await loadNew("Before");
  await call("PATCH", `${path}/${id}`, { name: "After" });
  await until(() => store.getState().things.settlement[id] === undefined);
  await load();

  expect(stale.mock.calls.flat(2).some((change) => change.id === id && change.operation === "update")).toBe(true);
  expect(store.getState().things.settlement[id].name).toBe("After");
  expect(store.getState().lists[`${room}/settlements`]).toContain(id);
  expect(store.getState().mine).toBe("kept");
});

test("a created and a deleted settlement evict the lists that contain it", async () => {
  const { store, load } = await filled();
  await load();
  const { id } = await createSettlement("Created");
  await until(() => store.getState().lists[`${room}/settlements`] === undefined);
  await load();
  expect(store.getState().things.settlement[id].name).toBe("Created");
  await call("DELETE", `${path}/${id}`);
  await until(() => store.getState().lists[`${room}/settlements`] === undefined);

  expect(store.getState().things.settlement[id]).toBe(undefined);
});

test("a structure evicts the list of its settlement", async () => {
  const { store, loadNew } = await filled();
  const id = await loadNew("With structures");
  const list = `${room}/settlement:${id}/structures`;
  store.setState(({ lists }) => ({ lists: { ...lists, [list]: [] } }));
  await call("POST", `${path}/${id}/structures`, { name: "Mill" });
  await until(() => store.getState().lists[list] === undefined);

  expect(store.getState().things.settlement[id].name).toBe("With structures");
});

test("computed fields leave one thing or every thing, and world time is stored", async () => {
  const { store } = await filled();
  const things = { ghost: { g1: { id: "g1", fear: 1 }, g2: { id: "g2", fear: 2 } }, place: { p1: { id: "p1", fear: 3 } } };
  store.setState({ things });
  const invalidate = (payload) => call("POST", "/events", { type: "state_invalidated", payload: { campaignId: stage.campaign, affectedFields: ["fear"], ...payload } });
  await invalidate({ scope: "entity", entityType: "ghost", entityId: "g1" });
  await until(() => !("fear" in store.getState().things.ghost.g1));
  expect(store.getState().things.ghost.g2.fear).toBe(2);
  await invalidate({ scope: "campaign" });
  await until(() => !("fear" in store.getState().things.ghost.g2) && !("fear" in store.getState().things.place.p1));
  const { campaign } = await call("POST", `${campaignPath}/world-time`, { advanceSeconds: 60 });
  await until(() => Date.parse(store.getState().worldTime[room]) === Date.parse(campaign.worldTime));

  expect(store.getState().things.place.p1).toEqual({ id: "p1" });
});

test("a hundred rapid updates change the store a few times", async () => {
  const { store, client, batches } = await filled();
  let changes = 0;
  store.subscribe(() => (changes += 1));
  const payload = { campaignId: stage.campaign, settlementId: "busy", operation: "update", changedFields: ["level"] };
  const answer = await call("POST", "/events", Array.from({ length: 100 }, () => ({ type: "settlement_updated", payload })));
  await client.seen(answer.mark);
  await until(() => batches.flat().some(({ id }) => id === "busy"));

  expect(changes).toBeLessThan(20);
});

test("a state of another shape is kept in step by a function of the application", async () => {
  const store = createStore(() => ({ stale: [] }));
  const evict = (state, changes) => ({ stale: [...state.stale, ...changes.map(({ kind }) => kind)] });
  const evictAll = () => ({ stale: ["all"] });
  const { resets } = await synchronised(storeCache(store, { evict, evictAll }));
  await until(() => resets.length === 1);
  await createSettlement("Of another shape");
  await until(() => store.getState().stale.includes("thing"));

  expect(store.getState().stale[0]).toBe("all");
});
