/** Asks what to do when another user has changed the same fields: for each of them, both values beside one another. */

import { valueAt } from "./changes.js";
import { openDecision } from "./dialog.js";
import { h } from "./dom.js";
import { capital } from "./sentences.js";

/**
 * Ask which values shall stay. Resolves with the fields that keep the value of the other user.
 * @param {{fields: string[], current: any, mine: object, view: import("./outgoing.js").Showing}} conflict
 *   `current`: the thing as it is now; `mine`: the changes of this user
 * @returns {Promise<string[]>}
 */
export function askWhichStay({ fields, current, mine, view }) {
  const name = current.identifier ?? current.name ?? "This";
  const question = h("p", {}, "Another user changed the same. Choose what shall stay.");
  const choices = fields.map((field) => choice(field, valueAt(current, field), valueAt(mine, field), view));
  choices[0].querySelector(":checked").autofocus = true;
  return new Promise((resolve) => {
    openDecision({
      title: `${name} was changed`,
      body: [question, ...choices],
      submit: "Save",
      onSubmit: (form) => resolve(fields.filter((field) => form.get(field) === "theirs")),
    });
  });
}

/**
 * Ask whether a thing shall still be deleted that another user has changed. Resolves with the answer.
 * @param {{fields: string[], current: any, view: import("./outgoing.js").Showing}} conflict
 */
export function askWhetherDeleted({ fields, current, view }) {
  const name = current.identifier ?? current.name ?? current.title ?? "this";
  const row = (field) => h("li", {}, `${capital(view.fieldWord(field))} is now “${view.valueWord(field, valueAt(current, field))}”.`);
  return new Promise((resolve) => {
    openDecision({
      title: `Delete ${name}?`,
      body: [h("p", {}, "Another user changed it in the meantime."), h("ul", { class: "conflict-news" }, fields.map(row))],
      submit: "Delete it",
      onSubmit: () => resolve(true),
      otherwise: { text: "Keep it", onChoice: () => resolve(false) },
    });
  });
}

/** Both values of a field. The user's own is chosen. */
function choice(field, theirs, mine, { fieldWord, valueWord }) {
  const option = (value, words, shown) =>
    h(
      "label",
      { class: `conflict-choice ${value}` },
      h("input", { type: "radio", name: field, value, checked: value === "mine" }),
      h("span", {}, h("span", { class: "quiet" }, words), h("span", { class: "conflict-value" }, valueWord(field, shown))),
    );
  return h("fieldset", { class: "conflict" }, h("legend", {}, fieldWord(field)), option("theirs", "Theirs", theirs), option("mine", "Yours", mine));
}
