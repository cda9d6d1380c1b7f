/** Keeps how far a window has shown a root, over a reload and a visit elsewhere: a cursor, and what the view adds. */

import { ofWindow } from "./storage.js";

const PREFIX = "beaconfire-kept-";
/** Older ones are dropped: there may be too much to catch up with, and it is no longer news. */
const KEPT_MS = 3_600_000;

/** @typedef {{cursor: string, more?: any}} Kept */

/** @param {string} user @param {string} room @returns {Kept | undefined} */
export function readKept(user, room) {
  const kept = ofWindow.read(PREFIX + room);
  return kept?.user === user && Date.now() - kept.at < KEPT_MS ? kept : undefined;
}

/** @param {string} user @param {string} room @param {Kept} kept */
export function writeKept(user, room, { cursor, more }) {
  ofWindow.write(PREFIX + room, { user, at: Date.now(), cursor, more });
}

/** Forget everything: the user has signed out. */
export function forgetKept() {
  for (const key of ofWindow.keys(PREFIX)) ofWindow.remove(key);
}
