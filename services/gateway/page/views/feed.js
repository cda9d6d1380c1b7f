/** What just happened, newest first, each with its place in the stream. */

import { h } from "../dom.js";
import { clockTime } from "../sentences.js";

const MOST = 100;

/** @typedef {{offset: number, text: string, at: Date}} Entry */

/**
 * The entries with another one in its place: answers may overtake each other, offsets do not.
 * @param {Entry[]} entries @param {Entry} entry
 */
export function withEntry(entries, entry) {
  return [...entries, entry].sort((one, other) => other.offset - one.offset).slice(0, MOST);
}

/** @param {Entry[]} entries */
export function feedPanel(entries) {
  return h(
    "section",
    { class: "card panel feed", "aria-labelledby": "feed-title", "data-key": "feed" },
    h("div", { class: "section-head" }, h("h2", { id: "feed-title" }, "What just happened")),
    entries.length === 0 && h("p", { class: "quiet" }, "Nothing yet. Whatever anybody changes appears here at once."),
    h("ol", { class: "entries", role: "log", "aria-live": "polite", tabindex: entries.length > 0 ? 0 : null }, entries.map(row)),
  );
}

function row({ offset, text, at }) {
  return h(
    "li",
    { "data-key": `entry-${offset}` },
    h("span", { class: "entry-text" }, text),
    h("span", { class: "entry-foot" }, h("time", { datetime: at.toISOString() }, clockTime(at)), h("span", { title: "Offset in the stream" }, `#${offset}`)),
  );
}
