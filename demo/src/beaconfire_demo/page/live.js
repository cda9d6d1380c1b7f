/** The page's one connection, open while a user is signed in, with its indicator and notices. */

import { Client } from "../client/index.js";
import { mountIndicator } from "../client/indicator.js";
import { announceConnection } from "../client/toasts.js";

import { mountFreshness } from "./freshness.js";
import { Outgoing } from "./outgoing.js";
import { socketUrl } from "./place.js";
import { connectionSentence } from "./refusals.js";
import { Resumes } from "./resumes.js";

/**
 * @param {{config: {socketUrl: string}, session: import("./session.js").Session, indicator: HTMLElement, details: HTMLElement,
 *   unsent: HTMLElement, toasts: any}} page
 */
export function openLive({ config, session, indicator, details, unsent, toasts }) {
  const client = new Client({
    url: socketUrl(config.socketUrl),
    getToken: ({ reason }) => (reason === "refused" || reason === "expiring" ? session.renewed() : session.token()),
    debug: new URLSearchParams(location.search).has("debug"),
  });
  const resumes = new Resumes(client);
  const outgoing = new Outgoing({ client, session, toasts });
  const takeDown = [
    mountIndicator(indicator, client, { describe: connectionSentence }),
    announceConnection(client, toasts, { describe: connectionSentence }),
    mountFreshness(details, client, resumes),
    mountUnsent(unsent, outgoing),
    () => resumes.close(),
    () => outgoing.close(),
  ];
  client.connect();
  return {
    client,
    resumes,
    outgoing,
    close() {
      client.close();
      for (const off of takeDown) off();
    },
  };
}

/** Show how many changes wait to be sent. @param {HTMLElement} element @param {Outgoing} outgoing */
function mountUnsent(element, outgoing) {
  const show = () => {
    const { held } = outgoing;
    element.textContent = held === 0 ? "" : held === 1 ? "1 change waits" : `${held} changes wait`;
  };
  const off = outgoing.unconfirmed.subscribe(show);
  return () => {
    off();
    element.textContent = "";
  };
}
