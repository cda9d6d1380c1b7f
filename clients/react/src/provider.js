/** The client of an application, for every hook below the provider. */

import { Client } from "@beaconfire/client";
import { createContext, createElement, useContext, useEffect, useMemo } from "react";

import { useLatest } from "./latest.js";

/** @typedef {import("@beaconfire/client").ClientOptions} ClientOptions */

/** @type {import("react").Context<{client: Client, user: string | undefined} | null>} */
const Connection = createContext(/** @type {{client: Client, user: string | undefined} | null} */ (null));

/**
 * @typedef {object} Own  the provider makes the client
 * @property {string} [user]  the id of the signed-in user: another one is another connection. For `useNotifications`, too
 * @property {boolean} [enabled]  false closes the connection, as after a sign-out; true by default
 * @property {undefined} [client]
 */

/**
 * @typedef {object} Given  the application makes, connects and closes the client
 * @property {Client} client
 * @property {string} [user]  the id of the signed-in user, for `useNotifications`
 */

/** @typedef {((ClientOptions & Own) | Given) & {children?: import("react").ReactNode}} BeaconfireProviderProps */

/**
 * Keep one connection for everything below. With `url` and `getToken` the provider makes the client: it connects while the
 * provider is on the page and `enabled`. Another `url` or `user` is another client, and a new `getToken` is used from the next
 * token on. The other options count when the client is made. With `client` the application connects and closes it.
 * @param {BeaconfireProviderProps} props
 */
export function BeaconfireProvider({ children, ...props }) {
  const client = useOwnClient(props);
  const { user } = props;
  const value = useMemo(() => ({ client, user }), [client, user]);
  return createElement(Connection.Provider, { value }, children);
}

/** @param {(ClientOptions & Own) | Given} props */
function useOwnClient(props) {
  const given = props.client;
  const options = /** @type {ClientOptions & Own} */ (props);
  const latest = useLatest(options);
  const { url, user, enabled = true } = options;
  const client = useMemo(() => {
    if (given) return given;
    const { enabled: _enabled, client: _client, user: _user, ...rest } = options;
    return new Client({ ...rest, getToken: (why) => latest.current.getToken(why) });
  }, [given, url, user]);
  useEffect(() => {
    if (given || !enabled) return;
    client.connect();
    return () => client.close();
  }, [client, given, enabled]);
  return client;
}

/**
 * Return the client, to act with it: `seen`, `on`, `retry`, `close`. It never renders again on its own. To show the
 * connection's state, use `useWebSocket`.
 * @returns {Client}
 */
export function useWebSocketConnection() {
  return useProvided("useWebSocketConnection").client;
}

/** @param {string} hook  the hook that asks, for the error */
export function useProvided(hook) {
  const provided = useContext(Connection);
  if (provided !== null) return provided;
  throw new Error(
    `${hook} was called outside <BeaconfireProvider>. Put <BeaconfireProvider url="wss://…/ws" getToken={…}> around your application.`,
  );
}
