/** What fills the page: drawn from the state as often as it changes, with one place for everything a person does. */

import { h, patch } from "./dom.js";

/**
 * Show a screen. `draw()` brings it up to date with `render`. Elements name what they do by `data-action` (a click),
 * `data-change` (a choice) or `data-submit` (a form); the function of that name in `actions` is called with the
 * element. What it throws is told.
 *
 * @param {HTMLElement} host
 * @param {{title: () => string, render: () => unknown[], actions: Record<string, (element: any) => unknown>,
 *   onError: (error: Error) => void}} screen
 */
export function showScreen(host, { title, render, actions, onError }) {
  const root = h("div", { class: "screen" });
  listen(root, "click", "action", actions, onError);
  listen(root, "change", "change", actions, onError);
  listen(root, "submit", "submit", actions, onError);
  host.replaceChildren(root);
  window.scrollTo(0, 0);

  const draw = () => {
    if (!root.isConnected) return; // an answer that came after the screen was left
    document.title = title() ? `${title()} · Beaconfire` : "Beaconfire";
    patch(root, h("div", { class: "screen" }, ...render()));
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
