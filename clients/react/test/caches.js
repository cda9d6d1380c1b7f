/** A cache of a data library that real events keep in step. */

import { Client } from "@beaconfire/client";
import { syncCache } from "@beaconfire/client/caches";
import { onTestFinished } from "vitest";

import { room as campaignRoom, signedIn } from "./stage.js";

/**
 * Connect a cache to a room, by default the campaign's. Resolves when the room is joined. `batches` collects what the cache gets.
 * @param {import("@beaconfire/client/caches").Cache} cache
 * @param {import("@beaconfire/client/caches").SyncOptions} [options]
 * @param {string} [room]
 */
export async function synchronised(cache, options, room = campaignRoom) {
  const client = new Client(signedIn());
  const batches = [];
  const resets = [];
  const watched = {
    apply(changes) {
      cache.apply(changes);
      batches.push(changes);
    },
    reset(rooms) {
      cache.reset(rooms);
      resets.push(rooms);
    },
  };
  onTestFinished(() => client.close());
  const joined = new Promise((resolve) => client.subscribe(room, { onReady: () => resolve() }));
  onTestFinished(syncCache(client, room, watched, options));
  client.connect();
  await joined;
  return { client, batches, resets };
}
