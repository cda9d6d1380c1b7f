/** Parts that several views show. */

import { h, icon } from "../../../page/dom.js";
import { shown } from "../sentences.js";

const LEAST = 0;
const MOST = 100;

/** A level, with buttons for users who may change it. */
export function levelStepper(kind, thing, mayChange) {
  const { level } = thing;
  const button = (step, name, label) =>
    h(
      "button",
      {
        type: "button",
        class: "step",
        "data-action": "step",
        "data-kind": kind,
        "data-id": thing.id,
        "data-step": step,
        "aria-label": `${label} the level of ${thing.name}`,
        disabled: level + step < LEAST || level + step > MOST,
      },
      icon(name),
    );
  return h(
    "span",
    { class: "figure level", "data-key": `${thing.id}-level` },
    h("span", { class: "figure-name" }, "Level"),
    mayChange && button(-1, "down", "Lower"),
    h("strong", { class: "level-value" }, level),
    mayChange && button(1, "up", "Raise"),
  );
}

/** Variables or data as small tags. */
export function variableList(id, variables) {
  const entries = Object.entries(variables);
  if (entries.length === 0) return null;
  const tag = ([key, value]) =>
    h("div", { class: "variable", "data-key": `${id}-variable-${key}` }, h("dt", {}, key), h("dd", {}, shown(value)));
  return h("dl", { class: "variables" }, entries.map(tag));
}

/** The buttons to edit and delete. */
export function actionButtons(kind, { id, name }) {
  const button = (action, label, picture) =>
    h(
      "button",
      { type: "button", class: "icon-button", "data-action": action, "data-kind": kind, "data-id": id, "aria-label": `${label} ${name}`, title: label },
      icon(picture),
    );
  return h("span", { class: "thing-actions" }, button("edit", "Edit", "edit"), button("remove", "Delete", "remove"));
}
