/** Where the keyboard is, kept while the page is drawn again or a dialog is open. */

/** What tells the controls of a thing apart. */
const NAMES = ["data-action", "data-change", "data-kind", "data-step", "data-status", "data-field", "name", "href"];

/**
 * Remember what has the focus. The result gives the focus back, if nothing else has it: to the same element, to its successor, or,
 * if it is gone, to the thing that it belonged to, or to the one beside that.
 * @param {HTMLElement} host
 * @returns {() => void}
 */
export function rememberFocus(host) {
  const element = document.activeElement;
  if (!(element instanceof HTMLElement) || element === host || !host.contains(element)) return () => {};
  const successor = selectorOf(element);
  const around = aroundOf(element, host);
  return () => {
    if (document.activeElement !== document.body && document.activeElement !== null) return;
    const places = [element, successor && host.querySelector(successor), ...around];
    places.some((place) => place?.isConnected && focusOn(place));
  };
}

/** @param {HTMLElement} element @returns {string | null} null: nothing tells it apart */
function selectorOf(element) {
  const names = NAMES.filter((name) => element.hasAttribute(name));
  if (names.length === 0) return null;
  const thing = element.closest("[data-key]");
  const own = element.tagName.toLowerCase() + names.map((name) => `[${name}="${CSS.escape(element.getAttribute(name) ?? "")}"]`).join("");
  return thing && thing !== element ? `[data-key="${CSS.escape(thing.dataset.key)}"] ${own}` : own;
}

/** The things that an element is in, from the innermost on, each with its neighbours. @param {HTMLElement} element @param {HTMLElement} host */
function aroundOf(element, host) {
  const things = [];
  for (let one = element; one && one !== host; one = one.parentElement) {
    if (one.dataset.key === undefined) continue;
    things.push(one, one.nextElementSibling, one.previousElementSibling);
  }
  return things;
}

/** @param {HTMLElement} element @returns {boolean} whether it could take the focus */
function focusOn(element) {
  element.focus({ preventScroll: true });
  if (document.activeElement !== element && !element.matches("button, a, input, select, textarea")) {
    element.tabIndex = -1;
    element.focus({ preventScroll: true });
  }
  return document.activeElement === element;
}
