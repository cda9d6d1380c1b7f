/** Short notices in a corner that screen readers read out, and notices about a lost connection. */

const SHOWN_MS = 5000;
/** The largest number of notices. More would cover the page, so the oldest is removed. */
const MOST = 4;
/** The same delay as the indicator's: a very short loss is not worth a notice. */
const GRACE_MS = 800;

/** @typedef {"info" | "good" | "bad"} Kind */

export class Toasts {
  #list;

  /** @param {HTMLElement} element  becomes the list; style it with styles.css or your own */
  constructor(element) {
    this.#list = element;
    element.classList.add("beaconfire-toasts");
    element.setAttribute("role", "status");
    element.setAttribute("aria-live", "polite");
  }

  /**
   * Show a notice. It replaces one with the same text. With `ms: 0` it stays until it is dismissed.
   * @param {string} text
   * @param {{kind?: Kind, ms?: number}} [options]
   * @returns {() => void} dismisses it
   */
  show(text, { kind = "info", ms = SHOWN_MS } = {}) {
    for (const one of [...this.#list.children]) if (one.firstElementChild?.textContent === text) one.remove();
    while (this.#list.children.length >= MOST) this.#list.firstElementChild?.remove();
    const toast = document.createElement("div");
    toast.className = "beaconfire-toast";
    toast.dataset["kind"] = kind;
    const words = document.createElement("span");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "×";
    close.setAttribute("aria-label", "Dismiss");
    toast.append(words, close);
    this.#list.append(toast);
    const dismiss = () => toast.remove();
    close.addEventListener("click", dismiss);
    if (ms > 0) setTimeout(dismiss, ms);
    return dismiss;
  }
}

/** @param {string} words */
const ended = (words) => (/[.!?…]$/.test(words) ? words : `${words}.`);

/**
 * Show a notice when the connection is lost, and another one when it is back.
 * @param {import("./client.js").Client} client
 * @param {Toasts} toasts
 * @param {{describe?: import("./indicator.js").Describe}} [options]  by default the gateway's message, which is for developers
 * @returns {() => void} stops it
 */
export function announceConnection(client, toasts, { describe = ({ message }) => message } = {}) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let grace;
  /** @type {(() => void) | null} */
  let dismiss = null;

  /** @param {string} text @param {{kind: Kind, ms?: number}} options */
  const replace = (text, options) => {
    dismiss?.();
    dismiss = toasts.show(text, options);
  };
  const onLoss = () => {
    replace("The connection was lost. Trying to reconnect…", { kind: "bad", ms: 0 });
  };
  const off = client.on("state", ({ state, isReconnect, error }) => {
    if (state === "connecting" && isReconnect && !dismiss) grace ??= setTimeout(onLoss, GRACE_MS);
    if (state === "connecting") return;
    clearTimeout(grace);
    grace = undefined;
    if (state === "connected" && dismiss) {
      replace("Connected again.", { kind: "good", ms: 3000 });
      dismiss = null;
    } else if (state === "error") {
      replace(`Connection lost: ${ended(error ? describe(error) : "no reason given")}`, { kind: "bad", ms: 0 });
    } else if (state === "disconnected") {
      dismiss?.();
      dismiss = null;
    }
  });
  return () => {
    off();
    clearTimeout(grace);
    dismiss?.();
  };
}
