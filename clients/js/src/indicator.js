/** A small light that shows the state of the connection: green, yellow, red or grey, with a text and a Retry button. */

/** A shorter loss is not shown, since the light would only flicker. */
const GRACE_MS = 800;
/** How long "Connected" stays visible. */
const STABLE_MS = 3000;

/** @typedef {import("./client.js").Client} Client */
/** @typedef {{look: "green" | "yellow" | "red" | "grey", text: string, mayRetry?: boolean}} Face */

/** @typedef {(error: {code: string, message: string}) => string} Describe  an error in words for the users of the page */

/**
 * What the indicator shows for the client's current state.
 * @param {Pick<Client, "status" | "isDegraded">} client
 * @param {Describe} [describe]  by default the gateway's message, which is for developers
 * @returns {Face}
 */
export function faceOf({ status, isDegraded }, describe = ({ message }) => message) {
  const { state, attempt, maxAttempts, isReconnect, error, transport } = status;
  if (state === "connected" && isDegraded) return { look: "yellow", text: "Live updates delayed" };
  if (transport === "sse") return { look: "yellow", text: "Not live: connected without a WebSocket" };
  if (transport === "poll") return { look: "yellow", text: "Not live: asking for changes" };
  if (state === "connected") return { look: "green", text: "Connected" };
  if (state === "disconnected") return { look: "grey", text: "Not connected" };
  if (state === "error" && error?.code === "unreachable") {
    return { look: "red", text: "Connection lost (max retries reached)", mayRetry: true };
  }
  if (state === "error") return { look: "red", text: `Connection lost: ${error ? describe(error) : ""}`, mayRetry: true };
  if (attempt <= 1 && !isReconnect) return { look: "yellow", text: "Connecting…" };
  return { look: "yellow", text: `Reconnecting (${attempt} of ${maxAttempts})…` };
}

/**
 * Show the state of a client's connection in an element. If `isSignedIn` returns false, it shows nothing.
 * @param {HTMLElement} element
 * @param {Client} client
 * @param {{isSignedIn?: () => boolean, describe?: Describe | undefined}} [options]
 * @returns {() => void} removes it
 */
export function mountIndicator(element, client, { isSignedIn = () => true, describe } = {}) {
  const text = document.createElement("span");
  const retry = document.createElement("button");
  retry.type = "button";
  retry.textContent = "Retry";
  retry.addEventListener("click", () => client.retry());
  const light = document.createElement("span");
  light.className = "beaconfire-light";
  light.setAttribute("aria-hidden", "true");
  element.classList.add("beaconfire-indicator");
  element.setAttribute("role", "status");
  element.replaceChildren(light, text, retry);
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  const show = () => {
    const face = faceOf(client, describe);
    element.hidden = !isSignedIn();
    element.dataset["look"] = face.look;
    element.dataset["state"] = client.state;
    text.textContent = face.text;
    retry.hidden = !face.mayRetry;
    clearTimeout(timer);
    if (face.look === "green") timer = setTimeout(() => (element.hidden = true), STABLE_MS);
    else timer = undefined;
  };
  const update = () => {
    const isNews = element.hidden && client.state === "connecting";
    if (!isNews) return show();
    clearTimeout(timer);
    timer = setTimeout(show, GRACE_MS);
  };
  const offs = [client.on("state", update), client.on("degraded", show), client.on("live", show)];

  element.hidden = true;
  if (client.state !== "connected") update();
  return () => {
    for (const off of offs) off();
    clearTimeout(timer);
    element.replaceChildren();
    element.hidden = true;
  };
}
