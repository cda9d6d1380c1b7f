import { syncCache } from "@beaconfire/client/caches";
import { useEffect } from "react";

import { useProvided } from "./provider.js";

/** @typedef {import("@beaconfire/client/caches").Cache} Cache */

/**
 * Keep the cache of a data library in step with a room. Mount it once for each room. Make the cache's adapter outside the
 * component, or with `useMemo`: another adapter is another subscription.
 *
 *     const cache = useMemo(() => queryCache(queryClient), [queryClient]);
 *     useCacheSync(`campaign:${campaignId}`, cache);
 * @param {string | null | undefined} room  with its root, as `campaign:c1`
 * @param {Cache} cache
 * @param {import("@beaconfire/client/caches").SyncOptions & {enabled?: boolean}} [options]  the value of `windowMs` and
 *   `changesOf` at the first render counts
 */
export function useCacheSync(room, cache, { enabled = true, windowMs, changesOf } = {}) {
  const { client } = useProvided("useCacheSync");
  useEffect(() => {
    if (!room || !enabled) return;
    return syncCache(client, room, cache, { windowMs, changesOf });
  }, [client, room, cache, enabled]);
}
