/** The connection's details: which gateway, how far behind, at which offset, and by which transport. From what was measured. */

import { placeOf } from "./cursors.js";
import { resumeWords } from "./resumes.js";

const TRANSPORTS = { websocket: "WebSocket", sse: "not live (server-sent events)", poll: "not live (long polling)" };

/**
 * Fill the details in the bar, and keep them up to date.
 * @param {HTMLElement} element  `<details>` @param {import("../client/index.js").Client} client
 * @param {import("./resumes.js").Resumes} resumes
 * @returns {() => void} removes them
 */
export function mountFreshness(element, client, resumes) {
  const [line, resumed] = element.querySelectorAll("p");
  /** From a change to its arrival, by the clocks of both machines. @type {number | undefined} */
  let behindMs;
  const show = () => {
    line.textContent = wordsOf(client, behindMs);
    const { last } = resumes.progress.getSnapshot();
    resumed.textContent = last ? resumeWords(last).replace("r", "R") : "";
    resumed.hidden = last === null;
  };
  const onEvent = ({ offset, event }) => {
    if (offset !== undefined && resumes.isLevel) behindMs = Date.now() - Date.parse(event.metadata?.timestamp);
    show();
  };
  const onKey = ({ key }) => key === "Escape" && element.removeAttribute("open");
  element.addEventListener("keydown", onKey);
  const offs = [
    ...["state", "degraded", "live", "position"].map((name) => client.on(name, show)),
    client.on("event", onEvent),
    resumes.progress.subscribe(show),
  ];
  element.hidden = false;
  show();
  return () => {
    for (const off of offs) off();
    element.removeEventListener("keydown", onKey);
    element.removeAttribute("open");
    element.hidden = true;
  };
}

/** @param {import("../client/index.js").Client} client @param {number | undefined} behindMs */
function wordsOf(client, behindMs) {
  const { state, transport } = client.status;
  if (state !== "connected") return "Not connected";
  const [, offset] = placeOf(client.cursor ?? "");
  const behind = behindMs === undefined ? "" : `${(Math.max(0, behindMs) / 1000).toFixed(1)} s behind`;
  const gateway = client.gateway?.startsWith("gateway") ? client.gateway : client.gateway && `gateway ${client.gateway}`;
  return [gateway, behind, `offset ${offset}`, TRANSPORTS[transport]].filter(Boolean).join(" · ");
}
