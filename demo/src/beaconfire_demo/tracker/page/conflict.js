/** Asks what to do when another user has changed the same field: both values beside one another. */

import { openChoice } from "../../page/dialog.js";
import { h } from "../../page/dom.js";

import { fieldWord, valueWord } from "./words.js";

/**
 * Ask which values shall stay. Resolves with true for those of this user.
 * @param {{title: string, fields: string[], current: any, mine: object, tracker: import("./tracker.js").Tracker}} conflict
 *   `current`: the thing as it is now; `fields`: those that both have changed
 * @returns {Promise<boolean>}
 */
export function askWhoseStays({ title, fields, current, mine, tracker }) {
  return new Promise((resolve) => {
    openChoice({
      title,
      body: [
        h("p", {}, "Someone else changed this at the same time. Which value shall stay?"),
        comparison(fields.filter((field) => field in mine), current, mine, tracker),
      ],
      choices: [
        { label: "Keep theirs", value: false },
        { label: "Use mine", value: true, isPrimary: true },
      ],
      onChoose: (value) => resolve(value ?? false),
    });
  });
}

/** Each field that both have changed, with both values. */
function comparison(fields, current, mine, tracker) {
  const row = (field) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, fieldWord(field)),
      h("td", { class: "theirs" }, valueWord(field, current[field], tracker)),
      h("td", { class: "mine" }, valueWord(field, mine[field], tracker)),
    );
  const head = ["Field", "Theirs", "Yours"].map((text) => h("th", { scope: "col" }, text));
  return h("table", { class: "conflict" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, fields.map(row)));
}
