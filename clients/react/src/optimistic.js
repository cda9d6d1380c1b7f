import { Optimistic } from "@beaconfire/client/optimistic";
import { useMemo } from "react";

import { useProvided } from "./provider.js";
import { useStore } from "./subscription.js";

/** @typedef {import("@beaconfire/client").Client} Client */

/** @type {WeakMap<Client, Optimistic>} The components of an application share them: a thing may be shown in several places. */
const made = new WeakMap();

/** @type {ReadonlyMap<string, any>} */
const NOTHING = new Map();

/**
 * What `useOptimistic` returns.
 * @template Value
 * @typedef {object} OptimisticValue
 * @property {Value} value  with the changes that are not settled yet
 * @property {boolean} isPending  whether there are such changes
 * @property {Make<Value>} make
 */

/**
 * Show a change, and make it. Resolves when the service has confirmed it. Rejects if `send` rejects, and the change is taken back.
 * @template Value
 * @typedef {(
 *   update: (value: NonNullable<Value>) => NonNullable<Value>,
 *   send: (change: {id: string}) => Promise<string | null>,
 *   options?: {until?: () => unknown},
 * ) => Promise<void>} Make
 */

/**
 * Show changes of a thing before its service has confirmed them. Components that name the same thing show the same changes.
 *
 *     const { value, isPending, make } = useOptimistic(`settlement:${id}`, settlement);
 *     make((settlement) => ({ ...settlement, level: 3 }), ({ id }) => patch(id), { until: () => refetch() });
 * @template Value
 * @param {string} thing  a name of your own
 * @param {Value} value  what the service says. Changes are not applied to `undefined` and `null`
 * @returns {OptimisticValue<Value>}
 */
export function useOptimistic(thing, value) {
  const { client } = useProvided("useOptimistic");
  const changes = useMemo(() => optimisticOf(client), [client]);
  const pending = useStore(changes.pending, NOTHING);
  const isPending = pending.has(thing);
  const shown = useMemo(() => (value == null ? value : changes.over(thing, value)), [changes, pending.get(thing), thing, value]);
  const make = useMemo(
    /** @returns {Make<Value>} */
    () => (update, send, options) => changes.make(thing, update, send, options),
    [changes, thing],
  );
  return { value: shown, isPending, make };
}

/** @param {Client} client */
function optimisticOf(client) {
  const before = made.get(client);
  if (before) return before;
  const changes = new Optimistic(client);
  made.set(client, changes);
  return changes;
}
