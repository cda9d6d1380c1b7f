/** A screen fills the page. It is drawn from the state whenever that changes, and handles all user actions in one place. */

import { h, patch } from "./dom.js";
import { rememberFocus } from "./focus.js";

/**
 * Show a screen. `draw()` updates it with `render`. Elements name their action in `data-action` (a click),
 * `data-change` (a choice), `data-input` (each letter) or `data-submit` (a form). The function of that name in `actions` is called with the
 * element. `onError` gets what it throws.
 *
 * @param {HTMLElement} host
 * @param {{title: () => string, render: () => unknown[], actions: Record<string, (element: any) => unknown>,
 *   onError: (error: Error) => void}} screen
 */
export function showScreen(host, { title, render, actions, onError }) {
  const root = h("div", { class: "screen" });
  listen(root, "click", "action", actions, onError);
  listen(root, "change", "change", actions, onError);
  listen(root, "input", "input", actions, onError);
  listen(root, "submit", "submit", actions, onError);
  host.replaceChildren(root);
  window.scrollTo(0, 0);

  const draw = () => {
    if (!root.isConnected) return; // the answer came after the user left the screen
    document.title = title() ? `${title()} · Beaconfire` : "Beaconfire";
    const giveBack = rememberFocus(root);
    patch(root, h("div", { class: "screen" }, ...render()));
    giveBack();
  };
  draw();
  return { draw, find: (key) => root.querySelector(`[data-key="${CSS.escape(key)}"]`) };
}

function listen(root, type, attribute, actions, onError) {
  root.addEventListener(type, async (event) => {
    const element = event.target.closest(`[data-${attribute}]`);
    if (!element || !root.contains(element)) return;
    if (type === "submit") event.preventDefault();
    try {
      await actions[element.dataset[attribute]](element);
    } catch (error) {
      onError(error);
    }
  });
}
