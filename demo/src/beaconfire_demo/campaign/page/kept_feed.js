/** Keeps the feed of a campaign over a reload: what this window showed, and its cursor. */

import { ofWindow } from "../../page/storage.js";

const PREFIX = "beaconfire-feed-";
/** A feed older than this is dropped: there may be too much to catch up with, and it is no longer news. */
const KEPT_MS = 3_600_000;

/**
 * @typedef {object} KeptFeed
 * @property {import("./views/feed.js").Entry[]} entries
 * @property {Map<string, string>} notes
 * @property {string} cursor
 */

/** @param {string} user @param {string} campaign @returns {KeptFeed | undefined} */
export function readFeed(user, campaign) {
  const kept = ofWindow.read(PREFIX + campaign);
  if (kept?.user !== user || !(Date.now() - kept.at < KEPT_MS)) return undefined;
  const entries = kept.entries.map((entry) => ({ ...entry, at: new Date(entry.at) }));
  return { entries, notes: new Map(kept.notes), cursor: kept.cursor };
}

/** @param {string} user @param {string} campaign @param {KeptFeed} feed */
export function writeFeed(user, campaign, { entries, notes, cursor }) {
  ofWindow.write(PREFIX + campaign, { user, at: Date.now(), entries, notes: [...notes], cursor });
}

/** Forget every feed: the user has signed out. */
export function forgetFeeds() {
  for (const key of ofWindow.keys(PREFIX)) ofWindow.remove(key);
}
