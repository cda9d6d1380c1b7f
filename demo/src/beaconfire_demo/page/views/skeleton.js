/** Grey shapes of what is being loaded, where it will be. They fade in, so that a quick answer shows none. */

import { h } from "../dom.js";

/** Blocks of a screen, with their height in lines. @type {Record<string, {head?: string, main: number[], side?: number[], board?: boolean}>} */
export const SHAPES = {
  list: { main: [3, 3, 3] },
  campaign: { head: "root-head", main: [6, 6, 6], side: [5, 4] },
  workspace: { head: "root-head", main: [3, 3, 3, 5], side: [8, 4] },
  board: { head: "workspace-head", main: [8, 8, 8, 8, 8] },
  issue: { head: "workspace-head", main: [5, 4], side: [5, 4] },
  part: { main: [2] },
};

/** @param {keyof typeof SHAPES} shape */
export function skeleton(shape) {
  const { head, main, side } = SHAPES[shape];
  const blocks = (lines) => lines.map((count) => h("div", { class: `bones bones-${count}` }, h("i"), h("i"), h("i")));
  const body = side
    ? h("div", { class: "columns" }, h("div", { class: "column" }, blocks(main)), h("div", { class: "column side" }, blocks(side)))
    : h("div", { class: shape === "list" ? "roots" : shape === "board" ? "board-bones" : "column" }, blocks(main));
  return h(
    "div",
    { class: "skeleton", "data-key": `skeleton-${shape}` },
    h("p", { class: "unseen", role: "status" }, "Loading…"),
    h("div", { "aria-busy": "true", "aria-hidden": "true" }, head && headOf(head), body),
  );
}

/** The top of a root: the same lines as there, without their words. @param {string} kind  its class */
function headOf(kind) {
  const bone = (width) => h("span", { class: `bone ${width}` }, "\u00a0");
  const title = h("div", { class: "root-title" }, h("span", { class: "title-bone" }, bone("wide")));
  if (kind === "workspace-head") return h("div", { class: kind }, h("div", { class: "workspace-line" }, bone("narrow")), title, h("div", { class: "tabs tabs-bones" }, bone("wide")));
  return h("div", { class: kind }, h("div", { class: "root-words" }, h("div", { class: "root-line line-bone" }, bone("narrow")), title, h("p", { class: "description" }, bone("wide")), h("p", { class: "role-line" }, bone("narrow"))));
}
