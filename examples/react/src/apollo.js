/** The campaign's data with Apollo Client. The GraphQL schema runs in the page, and its resolvers call the publisher. */

import { ApolloClient, gql, InMemoryCache } from "@apollo/client";
import { SchemaLink } from "@apollo/client/link/schema";
import { useQuery } from "@apollo/client/react";
import { apolloCache } from "@beaconfire/client/caches";
import { buildSchema } from "graphql";

import { call } from "./session.js";

const schema = buildSchema(`
  type Structure { id: ID!, name: String!, level: Int! }
  type Settlement { id: ID!, name: String!, kind: String!, level: Int!, population: Int!, structures: [Structure!]! }
  type Campaign { id: ID!, name: String!, worldTime: String!, settlements: [Settlement!]! }
  type Query { campaigns: [Campaign!]!, campaign(id: ID!): Campaign!, settlement(campaign: ID!, id: ID!): Settlement! }
`);

/**
 * Read, and try again for as long as there is no connection or the service is in trouble. Apollo Client repeats nothing by
 * itself. With an HttpLink, Apollo's RetryLink does this.
 */
async function read(path, field) {
  for (let pauseMs = 250; ; pauseMs = Math.min(2 * pauseMs, 2_000)) {
    try {
      return (await call("GET", path))[field];
    } catch (error) {
      if (error.status < 500) throw error;
      await new Promise((resolve) => setTimeout(resolve, pauseMs * (0.5 + Math.random() / 2)));
    }
  }
}

const settlementOf = (c, settlement) => ({
  ...settlement,
  structures: () => read(`/campaigns/${c}/settlements/${settlement.id}/structures`, "structures"),
});
const campaignOf = (campaign) => ({
  ...campaign,
  settlements: async () =>
    (await read(`/campaigns/${campaign.id}/settlements`, "settlements")).map((one) => settlementOf(campaign.id, one)),
});
const rootValue = {
  campaigns: async () => (await read("/campaigns", "campaigns")).map(campaignOf),
  campaign: async ({ id }) => campaignOf(await read(`/campaigns/${id}`, "campaign")),
  settlement: async ({ campaign, id }) => settlementOf(campaign, await read(`/campaigns/${campaign}/settlements/${id}`, "settlement")),
};

export const client = new ApolloClient({ cache: new InMemoryCache(), link: new SchemaLink({ schema, rootValue }) });
const cache = apolloCache(client.cache);

const CAMPAIGNS = gql`{ campaigns { id name } }`;
const CAMPAIGN = gql`query ($c: ID!) { campaign(id: $c) { id name worldTime } }`;
const SETTLEMENTS = gql`query ($c: ID!) { campaign(id: $c) { id settlements { id name kind level population } } }`;
const STRUCTURES = gql`query ($c: ID!, $s: ID!) { settlement(campaign: $c, id: $s) { id structures { id name level } } }`;

const useRead = (query, variables, pick) => {
  const { data, previousData, error } = useQuery(query, { variables });
  const known = data ?? previousData; // while changed fields are loaded again
  return { data: known && pick(known), isPending: known === undefined && !error, error: known ? undefined : error };
};

export const useCampaigns = () => useRead(CAMPAIGNS, {}, (data) => data.campaigns);
export const useCampaignData = (c) => useRead(CAMPAIGN, { c }, (data) => data.campaign);
export const useSettlements = (c) => useRead(SETTLEMENTS, { c }, (data) => data.campaign.settlements);
export const useStructures = (c, s) => useRead(STRUCTURES, { c, s }, (data) => data.settlement.structures);

/** The cache that events keep up to date. */
export const useCache = () => cache;
