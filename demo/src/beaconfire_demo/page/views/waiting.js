/** How things look that have unconfirmed changes: marked, and with what they wait for. */

import { h } from "../dom.js";

/** @typedef {import("../edits.js").Shown} Shown */

/** The attributes of a thing that may have unconfirmed changes. @param {Shown} shown @param {string} id */
export function pending(shown, id) {
  if (!shown.isPending(id)) return {};
  const title = shown.heldOf(id) ? "Waits to be sent" : "Not confirmed yet";
  return { "aria-busy": "true", "data-fate": shown.fateOf(id)?.word, title };
}

/** What a thing waits for, with a button to take it back. Null if it does not wait. @param {Shown} shown @param {string} id @param {string} name */
export function waitingNote(shown, id, name) {
  const fate = shown.fateOf(id);
  return fate?.change.isHeld ? note(fate.change, `Waits to be ${fate.word}`, name) : null;
}

/**
 * @param {import("../outgoing.js").Unconfirmed} change @param {string} words @param {string} name  of the thing
 */
export function note({ place, isNew, mayDrop }, words, name) {
  const action = isNew ? "Discard" : "Undo";
  const button = { type: "button", class: "link small", "data-action": "takeBack", "data-place": place, "aria-label": `${action}: ${name}` };
  return h("p", { class: "waiting", "data-key": `waiting-${place}` }, h("span", {}, words), mayDrop && h("button", button, action));
}
