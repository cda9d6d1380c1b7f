/** The page's one connection, open while a user is signed in, with its indicator and notices. */

import { Client } from "../client/index.js";
import { mountIndicator } from "../client/indicator.js";
import { announceConnection } from "../client/toasts.js";

import { socketUrl } from "./place.js";

/**
 * @param {{config: {socketUrl: string}, session: import("./session.js").Session, indicator: HTMLElement, toasts: any}} page
 * @returns {{client: Client, close: () => void}}
 */
export function openLive({ config, session, indicator, toasts }) {
  const client = new Client({
    url: socketUrl(config.socketUrl),
    getToken: ({ reason }) => (reason === "refused" || reason === "expiring" ? session.renewed() : session.token()),
    debug: new URLSearchParams(location.search).has("debug"),
  });
  const takeDown = [mountIndicator(indicator, client), announceConnection(client, toasts)];
  client.connect();
  return {
    client,
    close() {
      client.close();
      for (const off of takeDown) off();
    },
  };
}
