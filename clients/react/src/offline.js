/** Changes that users make without a network: kept, and sent in order when the client is connected again. */

import { Store } from "@beaconfire/client";
import { openQueue } from "@beaconfire/client/offline";
import { useEffect, useInsertionEffect, useMemo } from "react";

import { useProvided } from "./provider.js";
import { useStore } from "./subscription.js";

/** @typedef {import("@beaconfire/client").Client} Client */
/** @typedef {import("@beaconfire/client/offline").Change} Change */
/** @typedef {import("@beaconfire/client/offline").ChangeRequest} ChangeRequest */
/** @typedef {import("@beaconfire/client/offline").OfflineQueue} OfflineQueue */
/** @typedef {import("@beaconfire/client/offline").Pending} Pending */
/** @typedef {Omit<import("@beaconfire/client/offline").QueueOptions, "client" | "user">} OfflineOptions */

/**
 * @typedef {object} OfflineChanges
 * @property {readonly Pending[]} pending  the changes that are not settled, oldest first
 * @property {boolean} isLasting  whether changes outlive the page. False until the queue is open, and without IndexedDB
 * @property {(request: ChangeRequest) => Promise<Change>} add  keep a change, and send it as soon as possible. Resolves when it is
 *   kept. Rejects with `QueueFull`
 * @property {() => Promise<void>} clear  forget all changes of this user, at sign-out
 */

/** @type {readonly Pending[]} */
const NOTHING = Object.freeze([]);

/**
 * Keep the changes of the provider's `user`, and send them in order while the client is connected.
 *
 *     const { pending, add } = useOfflineQueue({ headers, onConflict: (change, response) => ask(change, response) });
 *     await add({ method: "PATCH", url, body: { level: 3 }, ifMatch: '"5"', thing: "settlement:s1" });
 *
 * All components below a provider have one queue. One of them passes the options, and the others call it without.
 * @param {OfflineOptions} [options]  a handler may be another function in each render. The other options count when the first
 *   component opens the queue
 * @returns {OfflineChanges}
 */
export function useOfflineQueue(options) {
  const { client, user } = useProvided("useOfflineQueue");
  const shared = useMemo(() => sharedOf(client, user), [client, user]);
  useInsertionEffect(() => {
    if (options) shared.options = options; // before any component opens the queue
  });
  useEffect(() => shared.hold(), [shared]);
  const pending = useStore(shared.pending, NOTHING);
  const isLasting = useStore(shared.isLasting, false);
  return useMemo(
    () => ({
      pending,
      isLasting,
      add: async (request) => (await shared.queue()).add(request),
      clear: async () => (await shared.queue()).clear(),
    }),
    [shared, pending, isLasting],
  );
}

/** The queue of a user, open while a component uses it. */
class SharedQueue {
  #client;
  #user;
  #holders = 0;
  /** @type {Promise<OfflineQueue> | null} */
  #opening = null;
  /** @type {OfflineOptions} Those of the newest render. */
  options = {};
  /** @type {Store<readonly Pending[]>} */
  pending = new Store(NOTHING);
  /** @type {Store<boolean>} */
  isLasting = new Store(false);

  /** @param {Client} client @param {string | undefined} user */
  constructor(client, user) {
    this.#client = client;
    this.#user = user;
  }

  /** A component uses the queue, until it calls what this returns. */
  hold() {
    if (this.#user === undefined) return () => {}; // nobody is signed in
    this.#holders += 1;
    this.#opening ??= this.#open(this.#user);
    return () => {
      this.#holders -= 1;
      if (this.#holders > 0) return;
      void this.#opening?.then((queue) => queue.close());
      this.#opening = null;
    };
  }

  /** @returns {Promise<OfflineQueue>} */
  async queue() {
    if (this.#opening) return this.#opening;
    if (this.#user !== undefined) throw new Error("The component that keeps this change is no longer on the page");
    throw new Error("useOfflineQueue needs the id of the signed-in user. Pass it to <BeaconfireProvider user={…}>");
  }

  /** @param {string} user */
  async #open(user) {
    const { headers, onConflict, onRefused, onSent, ...limits } = this.options;
    const queue = await openQueue({
      ...limits,
      client: this.#client,
      user,
      headers: () => this.options.headers?.() ?? {},
      onConflict: (change, response) => this.options.onConflict?.(change, response),
      onRefused: (change, response) => this.options.onRefused?.(change, response),
      onSent: (change, response) => this.options.onSent?.(change, response),
    });
    const show = () => this.pending.set(queue.pending.getSnapshot());
    queue.pending.subscribe(show);
    show();
    this.isLasting.set(queue.isLasting);
    return queue;
  }
}

/** @type {WeakMap<Client, Map<string | undefined, SharedQueue>>} */
const queues = new WeakMap();

/** @param {Client} client @param {string | undefined} user */
function sharedOf(client, user) {
  const ofClient = queues.get(client) ?? new Map();
  queues.set(client, ofClient);
  const shared = ofClient.get(user) ?? new SharedQueue(client, user);
  ofClient.set(user, shared);
  return shared;
}
