/** The campaign's data with TanStack Query. A key is the path of a thing, so the adapter knows it. */

import { queryCache } from "@beaconfire/client/caches";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo } from "react";

import { call } from "./session.js";

/** @param {readonly string[]} queryKey @param {string} path @param {string} field  the field of the answer */
const useRead = (queryKey, path, field) => {
  const { data, isPending, error } = useQuery({ queryKey, queryFn: async ({ signal }) => (await call("GET", path, undefined, signal))[field] });
  return { data, isPending, error: data ? undefined : error }; // a failed repetition keeps what is known
};

export const useCampaigns = () => useRead(["campaigns"], "/campaigns", "campaigns");
export const useCampaignData = (c) => useRead(["campaign", c], `/campaigns/${c}`, "campaign");
export const useSettlements = (c) => useRead(["campaign", c, "settlements"], `/campaigns/${c}/settlements`, "settlements");
export const useStructures = (c, s) =>
  useRead(["campaign", c, "settlement", s, "structures"], `/campaigns/${c}/settlements/${s}/structures`, "structures");

/** The cache that events keep up to date. */
export function useCache() {
  const queryClient = useQueryClient();
  return useMemo(() => queryCache(queryClient), [queryClient]);
}
