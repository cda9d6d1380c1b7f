/** How changes of rapid events are merged and bounded, before a cache gets them. The caches are tested in clients/react. */

import { expect, test } from "vitest";

import { changesOf, CacheSync } from "../src/caches.js";
import { FakeClock } from "./fakes.js";

const settlement = (settlementId, operation, changedFields = []) => ({
  type: "settlement_updated",
  payload: { campaignId: "c1", settlementId, operation, changedFields },
});

/** A cache that writes down what it gets, with a window of 50 ms. */
function setUp(options) {
  const clock = new FakeClock();
  const got = [];
  const cache = { apply: (changes) => got.push(changes), reset: (rooms) => got.push(rooms) };
  return { clock, got, sync: new CacheSync(cache, { clock, ...options }) };
}

test("changes of one window are applied together, each thing once, and later ones in the next window", async () => {
  const { clock, got, sync } = setUp();
  sync.take(settlement("s1", "update", ["level"]));
  await clock.pass(49);
  sync.take(settlement("s1", "update", ["name"]));
  sync.take(settlement("s2", "delete"));
  expect(got.length).toBe(0);
  await clock.pass(1);
  sync.take(settlement("s1", "update", ["name"]));
  await clock.pass(50);

  expect(got.map((changes) => changes.map(({ id, operation, fields }) => [id, operation, fields]))).toStrictEqual([
      [["s1", "update", ["level", "name"]], ["s2", "delete", []]],
      [["s1", "update", ["name"]]],
    ]);
});

test("what was created and changed is created, and what was created and deleted is deleted", async () => {
  const { clock, got, sync } = setUp();
  for (const operation of ["create", "update"]) sync.take(settlement("s1", operation));
  for (const operation of ["create", "update", "delete"]) sync.take(settlement("s2", operation));
  for (const operation of ["delete", "create"]) sync.take(settlement("s3", operation));
  await clock.pass(50);

  expect(got[0].map(({ id, operation }) => [id, operation])).toStrictEqual([["s1", "create"], ["s2", "delete"], ["s3", "create"]]);
});

test("fields are unknown if one of the events does not name them", async () => {
  const { clock, got, sync } = setUp();
  sync.take(settlement("s1", "update", ["level"]));
  sync.take(settlement("s1", "update"));
  await clock.pass(50);

  expect(got[0][0].fields).toStrictEqual([]);
});

test("above a thousand changed things, everything is loaded again instead", async () => {
  const { clock, got, sync } = setUp();
  for (let n = 0; n < 1001; n += 1) sync.take(settlement(`s${n}`, "update"));
  await clock.pass(50);

  expect(got).toStrictEqual([["campaign:c1"]]);
});

test("nothing is applied after `stop`", async () => {
  const { clock, got, sync } = setUp();
  sync.take(settlement("s1", "update"));
  sync.stop();
  await clock.pass(50);

  expect(got).toStrictEqual([]);
});

test("a window that is no number is refused", () => {
  expect(() => setUp({ windowMs: -1 })).toThrow(/windowMs: expected a number of at least 0, got -1/);
});

test("events of a workspace name their things, and others change nothing", () => {
  const of = (type, payload, room) => changesOf({ type, payload }, room);
  const approval = { kind: "thing", root: { kind: "workspace", id: "w1" }, type: "approval", id: "7", fields: [], parents: [] };

  expect(of("approval.created", { workspaceId: "w1", id: 7 })).toStrictEqual([{ ...approval, operation: "create" }]);
  expect(of("issue.archived", { workspaceId: "w1", id: 7 })).toStrictEqual([{ ...approval, type: "issue", operation: "update" }]);
  expect(of("comment.updated", { workspaceId: "w1", issueId: 3, id: 7, changes: { body: "" } })).toStrictEqual([
    { ...approval, type: "comment", operation: "update", fields: ["body"], parents: [{ type: "issue", id: "3" }] },
  ]);
  expect(of("agent.status.changed", { workspaceId: "w1", agentId: "7", status: "idle" })).toStrictEqual([
    { ...approval, type: "agent", operation: "update" },
  ]);
  expect(of("issue.activity.created", { workspaceId: "w1", id: 7 })).toStrictEqual([]);
  expect(of("approval.updated", { id: 7 }, "workspace:w1")).toStrictEqual([{ ...approval, operation: "update" }]);
  expect(of("approval.updated", {}, "workspace:w1")).toStrictEqual([{ kind: "root", root: approval.root }]);
  expect(of("approval.updated", { id: 7 })).toStrictEqual([]);
  expect(of("something.constructor", { workspaceId: "w1", id: 7 })).toStrictEqual([]);
  expect(of("member_changed", { rootKind: "workspace", rootId: "w1" })).toStrictEqual([]);
});
