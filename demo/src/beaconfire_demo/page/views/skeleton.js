/** Grey shapes of what is being loaded. They fade in, so that a quick answer shows none. */

import { h } from "../dom.js";

/** Blocks of a screen, with their height in lines. @type {Record<string, {main: number[], side: number[]}>} */
const SHAPES = {
  list: { main: [3, 3, 3], side: [] },
  campaign: { main: [6, 6, 6], side: [5, 4] },
  workspace: { main: [3, 3, 3, 5], side: [8, 4] },
  part: { main: [2], side: [] },
};

/** @param {keyof typeof SHAPES} shape */
export function skeleton(shape) {
  const { main, side } = SHAPES[shape];
  const blocks = (lines) => lines.map((count) => h("div", { class: `bones bones-${count}`, "aria-hidden": "true" }, h("i"), h("i"), h("i")));
  return h(
    "div",
    { class: "skeleton", role: "status", "data-key": `skeleton-${shape}` },
    h("span", { class: "unseen" }, "Loading…"),
    side.length === 0
      ? h("div", { class: "column" }, blocks(main))
      : h("div", { class: "columns" }, h("div", { class: "column" }, blocks(main)), h("div", { class: "column side" }, blocks(side))),
  );
}
