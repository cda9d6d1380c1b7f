import { useCallback, useEffect, useState } from "react";
import { expect, test } from "vitest";

import { markOf } from "@beaconfire/client/optimistic";

import { useCampaign, useOptimistic } from "../src/index.js";
import { renderHook, until } from "./render.jsx";
import { call, campaignPath, createSettlement, owner, stage, viewer } from "./stage.js";

/** A settlement that is loaded again after each event, with its unsettled changes. Another component shows it, too. */
function useSettlementOnPage(id) {
  const [loaded, setLoaded] = useState();
  const load = useCallback(async () => setLoaded((await call("GET", `${campaignPath}/settlements/${id}`)).settlement), [id]);
  useEffect(() => void load(), [load]);
  const room = useCampaign(stage.campaign, { on: { settlement_updated: load } });
  const elsewhere = useOptimistic(`settlement:${id}`, loaded);
  return { ...useOptimistic(`settlement:${id}`, loaded), elsewhere, loaded, load, room };
}

/** Change the level, as a person. Resolves with the mark of the answer. */
const setLevel = (id, level, { token }) => async (change) => {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}`, "X-Correlation-Id": change.id };
  const answer = await fetch(`${stage.publisherUrl}/v1${campaignPath}/settlements/${id}`, {
    method: "PATCH",
    headers,
    body: JSON.stringify({ level }),
  });
  if (!answer.ok) throw new Error(`Refused with ${answer.status}`);
  return markOf(answer);
};

test("a change is shown at once in every component, and settled when its event has come", async () => {
  const { id } = await createSettlement("To be raised");
  const { result } = await renderHook(useSettlementOnPage, [id]);
  await until(() => result.current.value?.level === 0 && result.current.room.state === "joined");
  let release;
  const held = new Promise((resolve) => (release = resolve));
  const send = async (change) => (await held, setLevel(id, 5, owner)(change));
  const made = result.current.make((one) => ({ ...one, level: 5 }), send, { until: () => result.current.load() });
  await until(() => result.current.value.level === 5);
  expect(result.current).toMatchObject({ isPending: true, loaded: { level: 0 }, elsewhere: { value: { level: 5 }, isPending: true } });
  release();
  await made;
  await until(() => !result.current.isPending);

  expect(result.current).toMatchObject({ value: { level: 5 }, loaded: { level: 5 }, elsewhere: { isPending: false } });
});

test("a refused change is taken back, and its reason reaches the caller", async () => {
  const { id } = await createSettlement("Not for viewers");
  const { result } = await renderHook(useSettlementOnPage, [id]);
  await until(() => result.current.value?.level === 0);
  const made = result.current.make((one) => ({ ...one, level: 9 }), setLevel(id, 9, viewer));

  await expect(made).rejects.toThrow("Refused with 403");
  await until(() => !result.current.isPending);
  expect(result.current.value.level).toBe(0);
});

test("no change is applied to a value that is not loaded yet", async () => {
  const { result, again } = await renderHook(useOptimistic, ["settlement:late", undefined]);
  void result.current.make((level) => level + 1, () => new Promise(() => {}));
  await until(() => result.current.isPending);
  expect(result.current.value).toBe(undefined);
  await again(["settlement:late", 4]);

  expect(result.current.value).toBe(5);
});
