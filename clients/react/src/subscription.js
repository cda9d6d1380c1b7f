/** Rooms of the wire, for as long as a component is on the page. */

import { useEffect, useInsertionEffect, useState, useSyncExternalStore } from "react";

import { useLatest } from "./latest.js";
import { useProvided } from "./provider.js";

/** @typedef {import("@beaconfire/client").EventType} EventType */
/** @typedef {import("@beaconfire/client").RoomStatus} RoomStatus */
/** @typedef {import("@beaconfire/client").Subscription<any>} Subscription */

/**
 * @template {EventType} [Type=EventType]
 * @typedef {import("@beaconfire/client").RoomHandlers<Type>} RoomHandlers
 */

/**
 * @template {EventType} [Type=EventType]
 * @typedef {object} SubscriptionOptions
 * @property {boolean} [enabled]  false leaves the room, and joins no other; true by default
 * @property {readonly Type[]} [types]  only these event types; all by default
 * @property {string | null} [cursor]  the `X-Beaconfire-Cursor` of a snapshot. What happened since then comes before `onReady`.
 *   Only the value with which the room is joined counts
 */

/** @type {RoomStatus} */
const IDLE = Object.freeze({ state: "idle" });
const NEVER = () => () => {};

/**
 * Subscribe to a room while the component is on the page, and return how that stands. New handlers are used from the next event
 * on, and nothing is sent for them. Components that subscribe to the same room share it on the wire.
 * @template {EventType} [Type=EventType]
 * @param {string | null | undefined} room  without a room there is no subscription, as with `enabled: false`
 * @param {RoomHandlers<Type>} [handlers]
 * @param {SubscriptionOptions<Type>} [options]
 * @returns {RoomStatus}
 */
export function useSubscription(room, handlers, options) {
  return useRoom("useSubscription", room, handlers, options);
}

/**
 * Subscribe to a campaign: to everything that happens in it.
 * @template {EventType} [Type=EventType]
 * @param {string | null | undefined} campaignId
 * @param {RoomHandlers<Type>} [handlers]
 * @param {SubscriptionOptions<Type>} [options]
 * @returns {RoomStatus}
 */
export function useCampaign(campaignId, handlers, options) {
  return useRoom("useCampaign", campaignId && `campaign:${campaignId}`, handlers, options);
}

/**
 * Subscribe to a settlement and its structures.
 * @template {EventType} [Type=EventType]
 * @param {string | null | undefined} settlementId
 * @param {RoomHandlers<Type>} [handlers]
 * @param {SubscriptionOptions<Type> & {campaignId?: string}} [options]  with `campaignId`, the gateway need not look it up
 * @returns {RoomStatus}
 */
export function useSettlement(settlementId, handlers, options) {
  return useRoom("useSettlement", inCampaign("settlement", settlementId, options), handlers, options);
}

/**
 * Subscribe to a structure.
 * @template {EventType} [Type=EventType]
 * @param {string | null | undefined} structureId
 * @param {RoomHandlers<Type>} [handlers]
 * @param {SubscriptionOptions<Type> & {campaignId?: string}} [options]  with `campaignId`, the gateway need not look it up
 * @returns {RoomStatus}
 */
export function useStructure(structureId, handlers, options) {
  return useRoom("useStructure", inCampaign("structure", structureId, options), handlers, options);
}

/** @param {string} kind @param {string | null | undefined} id @param {{campaignId?: string}} [options] */
function inCampaign(kind, id, { campaignId } = {}) {
  if (!id) return null;
  return campaignId ? `campaign:${campaignId}/${kind}:${id}` : `${kind}:${id}`;
}

/**
 * @param {string} hook  the hook that asks, for errors
 * @param {string | null | undefined} room
 * @param {RoomHandlers<any>} [handlers]
 * @param {SubscriptionOptions<any>} [options]
 */
function useRoom(hook, room, handlers = {}, options = {}) {
  const { client } = useProvided(hook);
  const { enabled = true, types, cursor } = options;
  const latest = useLatest({ handlers, cursor });
  const wanted = types && JSON.stringify([...types].sort());
  const [subscription, setSubscription] = useState(/** @type {Subscription | null} */ (null));
  useEffect(() => {
    if (!room || !enabled) return;
    const { handlers, cursor } = latest.current;
    const joined = client.subscribe(room, handlers, { types: wanted && JSON.parse(wanted), cursor });
    setSubscription(joined);
    return () => {
      joined.unsubscribe();
      setSubscription(null);
    };
  }, [client, room, enabled, wanted]);
  const current = subscription?.room === room ? subscription : null; // not that of the room of the render before
  useInsertionEffect(() => current?.setHandlers(handlers));
  return useStatus(current);
}

/**
 * How a subscription's room stands.
 * @param {{status: import("@beaconfire/client").Store<RoomStatus>} | null} subscription
 * @returns {RoomStatus}
 */
export function useStatus(subscription) {
  return useStore(subscription?.status ?? null, IDLE);
}

/**
 * Return the value of one of the client's stores, such as `queue.pending`, and render again when it changes. Without a store, and
 * on a server, it is `otherwise`.
 * @template Value
 * @param {import("@beaconfire/client").Store<Value> | null} store
 * @param {Value} otherwise
 */
export function useStore(store, otherwise) {
  const getOther = () => otherwise;
  return useSyncExternalStore(store?.subscribe ?? NEVER, store?.getSnapshot ?? getOther, getOther);
}
