/** The connection's state, for components that show it. */

import { useMemo, useSyncExternalStore } from "react";

import { useProvided } from "./provider.js";

/** @typedef {import("@beaconfire/client").Client} Client */
/** @typedef {import("@beaconfire/client").Status} Status */

/**
 * @typedef {object} ConnectionState
 * @property {Client} connection  the client itself
 * @property {Status["state"]} state  `disconnected`, `connecting`, `connected` or `error`
 * @property {Status["error"]} error  why the state is `error`
 * @property {Status["reason"]} reason  in the state `connecting`, why the last connection or attempt ended
 * @property {number} attempts  the number of the current or next attempt, from 1; 0 if there is none
 * @property {number} maxAttempts
 * @property {boolean} isConnected
 * @property {boolean} isLive  whether a WebSocket connects it; without one, events may come some seconds late
 * @property {boolean} isDegraded  whether the gateway says that events may be late
 * @property {boolean} isReconnect  whether there was a connection before
 * @property {Status["transport"]} transport  what connects it, if it is connected
 * @property {() => void} retry  try now, after `error` or instead of waiting
 * @property {() => void} close
 */

/**
 * Return the connection's state, and render again when it changes.
 * @returns {ConnectionState}
 */
export function useWebSocket() {
  const { client } = useProvided("useWebSocket");
  const { subscribe, getSnapshot } = client.connection;
  const status = useSyncExternalStore(subscribe, getSnapshot, () => ON_SERVER);
  return useMemo(
    () => ({
      connection: client,
      state: status.state,
      error: status.error,
      reason: status.reason,
      attempts: status.attempt,
      maxAttempts: status.maxAttempts,
      isConnected: status.state === "connected",
      isLive: status.isLive,
      isDegraded: status.isDegraded,
      isReconnect: status.isReconnect,
      transport: status.transport,
      retry: () => client.retry(),
      close: () => client.close(),
    }),
    [client, status],
  );
}

/** @type {Status} What a server renders, and a browser before it has taken over the server's page. */
const ON_SERVER = {
  state: "disconnected",
  attempt: 0,
  maxAttempts: 0,
  isReconnect: false,
  isLive: false,
  isDegraded: false,
};
