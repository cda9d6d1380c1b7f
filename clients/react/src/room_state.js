/** State of a room: loaded by the application, and kept up to date by events. */

import { LiveState } from "@beaconfire/client/follow";
import { useEffect, useState } from "react";

import { useLatest } from "./latest.js";
import { useProvided } from "./provider.js";
import { useStatus, useStore } from "./subscription.js";

/** @typedef {import("@beaconfire/client").EventType} EventType */
/** @typedef {import("@beaconfire/client").RoomStatus} RoomStatus */
/** @typedef {import("@beaconfire/client").Subscription<any>} Subscription */

/**
 * @template Data
 * @typedef {import("@beaconfire/client/follow").Load<Data>} Load
 */

/**
 * @template State, Data
 * @template {EventType} Type
 * @typedef {import("@beaconfire/client/follow").FollowOptions<State, Data, Type> & {enabled?: boolean}} RoomStateOptions
 */

/**
 * @typedef {object} Progress
 * @property {boolean} isLoading  whether `load` has not succeeded yet
 * @property {unknown} error  what `load` failed with; undefined as soon as it succeeds
 * @property {() => void} reload  load the state again
 * @property {RoomStatus} room  how the room stands
 */

/**
 * @template State
 * @typedef {Progress & {state: State}} RoomStateValue
 */

/**
 * Keep state that events of a room change. It is loaded again if events were missed.
 *
 *     const { state: members } = useRoomState("workspace:w1", {
 *       initial: [],
 *       load: async ({ signal }) => {
 *         const answer = await fetch("/members", { signal });
 *         return { data: await answer.json(), cursor: answer.headers.get("X-Beaconfire-Cursor") };
 *       },
 *       change: (members, event) => …,
 *     });
 * @template State
 * @template [Data=State]
 * @template {EventType} [Type=EventType]
 * @param {string | null | undefined} room
 * @param {RoomStateOptions<State, Data, Type>} options
 * @returns {RoomStateValue<State>}
 */
export function useRoomState(room, options) {
  return useStateOfRoom("useRoomState", room, options);
}

/**
 * @template State, Data
 * @template {EventType} Type
 * @param {string} hook  the hook that asks, for errors
 * @param {string | null | undefined} room
 * @param {RoomStateOptions<State, Data, Type>} options
 * @returns {RoomStateValue<State> & {update: (change: (state: State) => State) => void}}
 */
export function useStateOfRoom(hook, room, options) {
  const { client } = useProvided(hook);
  const { enabled = true, types, load } = options;
  const latest = useLatest(options);
  const wanted = types && JSON.stringify([...types].sort());
  const loads = load !== undefined;
  const [last, setLive] = useState(/** @type {LiveState<State> | null} */ (null));
  const [subscription, setSubscription] = useState(/** @type {Subscription | null} */ (null));
  useEffect(() => {
    if (!room || !enabled) return;
    const { initial } = latest.current;
    const state = new LiveState(client, room, { initial, loads, types: wanted && JSON.parse(wanted), current: () => latest.current }, setSubscription);
    setLive(state);
    state.start();
    return () => {
      state.stop();
      setLive(null);
    };
  }, [client, room, enabled, wanted, loads]);
  const live = last?.room === room ? last : null; // not that of the room of the render before
  const [before] = useState(() => ({ state: options.initial, isLoading: loads, error: undefined }));
  const value = useStore(live?.store ?? null, before);
  const status = useStatus(live && subscription);
  return {
    ...value,
    isLoading: value.isLoading && enabled && Boolean(room),
    reload: () => live?.reload(),
    update: (change) => live?.update(change),
    room: status,
  };
}
