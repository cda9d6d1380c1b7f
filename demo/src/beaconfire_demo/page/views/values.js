/** Changed fields, each with its old value, an arrow, and its new value. */

import { h } from "../dom.js";

/** @param {import("../away.js").Value[]} values */
export function valueList(values) {
  return values.length > 0 && h("dl", { class: "changes" }, values.map(row));
}

/** @param {import("../away.js").Value} value */
function row({ field, from, to }) {
  const old = from !== undefined && [
    h("span", { class: "unseen" }, "from "),
    h("del", {}, from),
    h("span", { class: "arrow", "aria-hidden": "true" }, "→"),
  ];
  return h("div", { class: "change" }, h("dt", {}, field), h("dd", {}, ...(old || []), h("span", { class: "unseen" }, old ? " to " : "now "), h("ins", {}, to)));
}
