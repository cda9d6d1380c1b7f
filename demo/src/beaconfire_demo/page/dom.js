/** Builds and updates the page. Data becomes text and attributes, never markup, so typed text is never executed. */

/**
 * An element: `h("p", {class: "quiet"}, "text", child, …)`. Children that are null, false or empty text are left out.
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes]  true sets an empty one; false, null and undefined set none
 * @param {...any} children
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.flat().filter((child) => child || child === 0));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  edit: "M4 16.5V20h3.5L18 9.5 14.5 6 4 16.5ZM16 4.5 19.5 8",
  remove: "M6 7h12M10 7V5h4v2M8 7l.8 12h6.4L16 7M10.5 10.5v5M13.5 10.5v5",
  add: "M12 5v14M5 12h14",
  up: "M12 6v12M6 12h12",
  down: "M6 12h12",
  back: "M15 5l-7 7 7 7",
  bell: "M6 16.5V11a6 6 0 0 1 12 0v5.5l1.5 1.5h-15L6 16.5ZM10 20.5h4",
  check: "M5 12.5l4.5 4.5L19 7.5",
  cross: "M6.5 6.5l11 11M17.5 6.5l-11 11",
  send: "M4.5 12h14M13 6.5l5.5 5.5-5.5 5.5",
  lock: "M7 11V8a5 5 0 0 1 10 0v3M6 11h12v9H6z",
};

/** @param {keyof typeof ICONS} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * Change `shown` in place until it equals `wanted`. Elements that stay keep focus, a click under way and typed text.
 * Details stay open or closed.
 * Children are matched by `data-key`, or by position without one.
 * @param {Element} shown
 * @param {Element} wanted
 */
export function patch(shown, wanted) {
  patchAttributes(shown, wanted);
  removeGone(shown, wanted);
  const byKey = new Map([...shown.children].map((child) => [keyOf(child), child]));
  let next = shown.firstChild;
  for (const child of [...wanted.childNodes]) {
    const key = keyOf(child);
    const match = key === undefined ? alike(next, child) : byKey.get(key);
    if (!match || match.nodeName !== child.nodeName) {
      shown.insertBefore(child, next);
      continue;
    }
    while (key === undefined && next !== match && keyOf(next) === undefined) next = removed(next);
    if (match === next) next = next.nextSibling;
    else shown.insertBefore(match, next);
    patchNode(match, child);
  }
  while (next) next = removed(next);
}

/** Remove children whose key is not wanted any more, first: what stays must not move, since it would lose the focus. */
function removeGone(shown, wanted) {
  const keys = new Set([...wanted.children].map(keyOf));
  for (const child of [...shown.children]) if (keyOf(child) !== undefined && !keys.has(keyOf(child))) child.remove();
}

/** The first node from `next` on that can become `child`, which has no key. @param {Node | null} next @param {Node} child */
function alike(next, child) {
  let node = next;
  while (node && (keyOf(node) !== undefined || node.nodeName !== child.nodeName)) node = node.nextSibling;
  return node;
}

/** Remove a node. Returns the one after it. @param {ChildNode} node */
function removed(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

/** @param {Node} shown @param {Node} wanted */
function patchNode(shown, wanted) {
  if (!(shown instanceof Element) || !(wanted instanceof Element)) {
    if (shown.nodeValue !== wanted.nodeValue) shown.nodeValue = wanted.nodeValue;
    return;
  }
  patch(shown, wanted);
  if (shown instanceof HTMLSelectElement && wanted instanceof HTMLSelectElement) shown.value = wanted.value;
}

/** @param {Element} shown @param {Element} wanted */
function patchAttributes(shown, wanted) {
  for (const { name } of [...shown.attributes]) {
    if (!wanted.hasAttribute(name) && !isOfUser(shown, name)) shown.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
}

/**
 * Whether an attribute is not the view's: users open and close details, and what has the focus keeps it (`focus.js`).
 * @param {Element} element @param {string} name
 */
const isOfUser = (element, name) =>
  (name === "open" && element.nodeName === "DETAILS") || (name === "tabindex" && element === document.activeElement);

/** @param {Node} node */
function keyOf(node) {
  return node instanceof HTMLElement ? node.dataset.key : undefined;
}

/**
 * Highlight an element briefly.
 * @param {Element | null} element
 */
export function flash(element) {
  if (!element || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const glow = getComputedStyle(document.documentElement).getPropertyValue("--glow");
  element.animate([{ backgroundColor: glow, boxShadow: `0 0 0 4px ${glow}` }, {}], { duration: 1800, easing: "ease-out" });
}
