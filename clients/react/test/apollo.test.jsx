// @vitest-environment node

import { ApolloClient, gql, InMemoryCache } from "@apollo/client";
import { SchemaLink } from "@apollo/client/link/schema";
import { buildSchema } from "graphql";
import { expect, onTestFinished, test } from "vitest";

import { apolloCache } from "@beaconfire/client/caches";

import { synchronised } from "./caches.js";
import { until } from "./render.jsx";
import { call, campaignPath, createSettlement, stage } from "./stage.js";

const schema = buildSchema(`
  type Structure { id: ID!, name: String!, level: Int! }
  type Settlement { id: ID!, name: String!, level: Int!, income: Int!, structures: [Structure!]! }
  type Campaign { id: ID!, name: String!, worldTime: String!, income: Int!, moon: String! }
  type Query { campaign: Campaign!, settlements: [Settlement!]!, settlement(id: ID!): Settlement, structure(settlement: ID!, id: ID!): Structure }
`);

/** A GraphQL service in front of the publisher, whose resolvers count. */
function resolvers(loads) {
  const get = async (name, path) => {
    loads[name] = (loads[name] ?? 0) + 1;
    return call("GET", `${campaignPath}${path}`);
  };
  const settlement = (one) => ({
    ...one,
    income: () => (loads.income = (loads.income ?? 0) + 1),
    structures: async () => (await get("structures", `/settlements/${one.id}/structures`)).structures,
  });
  return {
    campaign: async () => {
      const { campaign } = await get("campaign", "");
      return { ...campaign, income: 1, moon: () => `phase ${(loads.moon = (loads.moon ?? 0) + 1)}` };
    },
    settlements: async () => (await get("settlements", "/settlements")).settlements.map(settlement),
    settlement: async ({ id }) => get("settlement", `/settlements/${id}`).then((answer) => settlement(answer.settlement), () => null),
    structure: async ({ settlement, id }) => (await get("structure", `/settlements/${settlement}/structures/${id}`)).structure,
  };
}

/** Queries on the page of an application. */
async function page(options) {
  const loads = {};
  const client = new ApolloClient({ cache: new InMemoryCache(), link: new SchemaLink({ schema, rootValue: resolvers(loads) }) });
  onTestFinished(() => client.stop());
  const more = await synchronised(apolloCache(client.cache, options));
  await until(() => more.resets.length === 1);
  const data = {};
  /** Put a query on the page. */
  const show = async (name, query, variables) => {
    const subscription = client.watchQuery({ query, variables }).subscribe((result) => {
      if (result.data !== undefined && result.dataState === "complete") data[name] = result.data;
    });
    onTestFinished(() => subscription.unsubscribe());
    await until(() => data[name] !== undefined);
  };
  return { apollo: client, loads, data, show, ...more };
}

const LIST = gql`{ settlements { id name } }`;
const ONE = gql`query ($id: ID!) { settlement(id: $id) { id name level structures { id name level } } }`;
const COMPUTED = gql`query ($id: ID!) { settlement(id: $id) { id income } }`;
const CAMPAIGN = gql`{ campaign { id name worldTime } }`;
const MOON = gql`{ campaign { id moon } }`;

test("an updated settlement is loaded again, and the list keeps it", async () => {
  const { show, data, loads } = await page();
  const { id } = await createSettlement("Before");
  await show("one", ONE, { id });
  await show("list", LIST);
  const before = data.list.settlements.length;
  await call("PATCH", `${campaignPath}/settlements/${id}`, { name: "After" });
  await until(() => data.one.settlement.name === "After");
  await until(() => data.list.settlements.some((one) => one.id === id && one.name === "After"));

  expect(data.list.settlements.length).toBe(before);
  expect(loads.settlements).toBeLessThan(4);
});

test("a created settlement enters the list, and a deleted one leaves it", async () => {
  const { show, data, apollo } = await page();
  await show("list", LIST);
  const { id } = await createSettlement("Comes and goes");
  await until(() => data.list.settlements.some((one) => one.id === id));
  await show("one", ONE, { id });
  await call("DELETE", `${campaignPath}/settlements/${id}`);
  await until(() => !data.list.settlements.some((one) => one.id === id));
  await until(() => data.one.settlement === null);

  expect(apollo.cache.extract()[`Settlement:${id}`]).toBe(undefined);
});

test("a structure enters the list of its settlement, changes, and leaves it", async () => {
  const { show, data } = await page();
  const { id } = await createSettlement("With structures");
  await show("one", ONE, { id });
  const path = `${campaignPath}/settlements/${id}/structures`;
  const { structure } = await call("POST", path, { name: "Mill" });
  await until(() => data.one.settlement.structures.length === 1);
  await call("PATCH", `${path}/${structure.id}`, { level: 6 });
  await until(() => data.one.settlement.structures[0]?.level === 6);
  await call("DELETE", `${path}/${structure.id}`);
  await until(() => data.one.settlement.structures.length === 0);
});

test("computed fields are evicted, of one thing and of everything, and no others", async () => {
  const { show, data, loads } = await page();
  const { id } = await createSettlement("Computed");
  await show("computed", COMPUTED, { id });
  await show("campaign", CAMPAIGN);
  const before = data.computed.settlement.income;
  const one = { scope: "entity", campaignId: stage.campaign, entityType: "settlement", entityId: id, affectedFields: ["income"] };
  await call("POST", "/events", { type: "state_invalidated", payload: one });
  await until(() => data.computed.settlement.income > before);
  const between = data.computed.settlement.income;
  const all = { scope: "campaign", campaignId: stage.campaign, affectedFields: ["income"] };
  await call("POST", "/events", { type: "state_invalidated", payload: all });
  await until(() => data.computed.settlement.income > between);

  expect(loads.campaign).toBe(1);
});

test("world time is written without a request, and what depends on it is loaded again", async () => {
  const { show, data, loads } = await page({ timeDependent: ["moon"] });
  await show("campaign", CAMPAIGN);
  await show("moon", MOON);
  const before = loads.campaign;
  const { campaign } = await call("POST", `${campaignPath}/world-time`, { advanceSeconds: 3600 });
  await until(() => data.campaign.campaign.worldTime === campaign.worldTime);
  await until(() => data.moon.campaign.moon === "phase 2");

  expect(loads.campaign).toBe(before + 1); // the one for the moon
});

test("a hundred rapid updates cause a few batches and as many requests", async () => {
  const { show, loads, batches, client } = await page();
  const { id } = await createSettlement("Busy");
  await show("one", ONE, { id });
  const before = loads.settlement;
  const payload = { campaignId: stage.campaign, settlementId: id, operation: "update", changedFields: ["level"] };
  const answer = await call("POST", "/events", Array.from({ length: 100 }, () => ({ type: "settlement_updated", payload })));
  await client.seen(answer.mark);
  const ofIt = () => batches.flat().filter((one) => one.kind === "thing" && one.id === id);
  await until(() => ofIt().length > 0);

  expect(ofIt().length).toBeLessThan(20);
  expect(loads.settlement - before).toBeLessThan(20);
});

test("everything is loaded again after a resync", async () => {
  const { show, loads, data, apollo } = await page();
  await show("list", LIST);
  apolloCache(apollo.cache).reset(["campaign:c1"]);
  await until(() => loads.settlements === 2);

  expect(data.list.settlements.length).toBeGreaterThan(0);
});
