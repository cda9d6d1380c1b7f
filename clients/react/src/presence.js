/** Who is in a room, who types there, and what the user has selected there. */

import { keepStatus, shareSelection, watchPresence, watchTyping } from "@beaconfire/client/people";
import { useEffect, useMemo, useState } from "react";

import { useProvided } from "./provider.js";
import { useStore } from "./subscription.js";

/** @typedef {import("@beaconfire/client").RoomPresence} RoomPresence */

/** @type {RoomPresence} */
const NOBODY = Object.freeze({ count: 0, users: [] });
/** @type {readonly string[]} */
const NONE = Object.freeze([]);

/**
 * Return who is in a room: `users`, at most 100 of them, and the `count` of all. The room's kind must have presence in the
 * catalogue.
 * @param {string | null | undefined} room
 * @param {{enabled?: boolean}} [options]
 * @returns {RoomPresence & {isKnown: boolean}}  `isKnown`: whether it is known already
 */
export function usePresence(room, options) {
  const present = useWatched("usePresence", watchPresence, room, options);
  const presence = useStore(present?.users ?? null, undefined);
  return { ...(presence ?? NOBODY), isKnown: presence !== undefined };
}

/**
 * Tell the others in every room that this user is `online`, `away` or `busy`, while the component is on the page. Use it once in
 * an application.
 * @param {import("@beaconfire/client").PresenceStatus} status
 */
export function usePresenceStatus(status) {
  const { client } = useProvided("usePresenceStatus");
  useEffect(() => keepStatus(client, status), [client, status]);
}

/**
 * Return the ids of the users who type in a room, and what tells the others that this user does. Call `type` for each input,
 * and `stop` when the text was sent or deleted.
 * @param {string | null | undefined} room
 * @param {{enabled?: boolean}} [options]
 * @returns {{users: readonly string[], type: () => void, stop: () => void}}
 */
export function useTyping(room, options) {
  const typing = useWatched("useTyping", watchTyping, room, options);
  const users = useStore(typing?.users ?? null, NONE);
  const actions = useMemo(() => ({ type: () => typing?.type(), stop: () => typing?.stop() }), [typing]);
  return { users, ...actions };
}

/**
 * Return what the user has selected in a room, in this view or another one, and what selects something.
 * @param {string | null | undefined} room
 * @param {{enabled?: boolean}} [options]
 * @returns {{items: readonly string[], select: (items: readonly string[]) => void}}
 */
export function useSelection(room, options) {
  const selection = useWatched("useSelection", shareSelection, room, options);
  const items = useStore(selection?.items ?? null, NONE);
  const select = useMemo(() => (/** @type {readonly string[]} */ items) => void selection?.select(items), [selection]);
  return { items, select };
}

/**
 * What watches a room, while the component is on the page.
 * @template {{close: () => void}} Watched
 * @param {string} hook  the hook that asks, for errors
 * @param {(client: import("@beaconfire/client").Client, room: string) => Watched} watch
 * @param {string | null | undefined} room
 * @param {{enabled?: boolean}} [options]
 */
function useWatched(hook, watch, room, { enabled = true } = {}) {
  const { client } = useProvided(hook);
  const [last, setLast] = useState(/** @type {{room: string, watched: Watched} | null} */ (null));
  useEffect(() => {
    if (!room || !enabled) return;
    const watched = watch(client, room);
    setLast({ room, watched });
    return () => {
      watched.close();
      setLast(null);
    };
  }, [client, room, enabled]);
  return last !== null && last.room === room ? last.watched : null; // not that of the room of the render before
}
