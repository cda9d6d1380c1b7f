/** What just happened, newest first, each with its offset in the stream. */

import { h } from "../../../page/dom.js";
import { clockTime } from "../../../page/sentences.js";
import { valueList } from "../../../page/views/values.js";

const MOST = 100;

/**
 * `cause`: its correlation id. `values`: the changed fields, if they are known.
 * @typedef {{offset: number, text: string, at: Date, cause?: string, values: import("../../../page/away.js").Value[]}} Entry
 */

/**
 * Add an entry, ordered by offset: answers may overtake each other, offsets do not.
 * @param {Entry[]} entries @param {Entry} entry
 */
export function withEntry(entries, entry) {
  const others = entries.filter(({ offset }) => offset !== entry.offset); // after a reload an event may come again
  return [...others, entry].sort((one, other) => other.offset - one.offset).slice(0, MOST);
}

/**
 * Add a note, by the correlation id of its entry. It may come before the entry.
 * @param {Map<string, string>} notes @param {string | undefined} cause @param {string} text
 */
export function withNote(notes, cause, text) {
  return cause ? new Map([...notes, [cause, text]].slice(-MOST)) : notes;
}

/** The feed of this window before a reload, as it was kept. @param {{entries: any[], notes: [string, string][]}} kept */
export function readFeed({ entries, notes }) {
  return { entries: entries.map((entry) => ({ ...entry, at: new Date(entry.at) })), notes: new Map(notes) };
}

/** @param {Entry[]} entries @param {Map<string, string>} notes */
export function feedPanel(entries, notes) {
  return h(
    "section",
    { class: "card panel feed", "aria-labelledby": "feed-title", "data-key": "feed" },
    h("div", { class: "section-head" }, h("h2", { id: "feed-title" }, "What just happened")),
    entries.length === 0 && h("p", { class: "quiet" }, "Nothing yet. Every change appears here immediately."),
    h(
      "div",
      { class: "log", role: "log", "aria-labelledby": "feed-title", tabindex: entries.length > 0 ? 0 : null },
      h("ol", { class: "entries" }, entries.map((entry) => row(entry, notes.get(entry.cause)))),
    ),
  );
}

function row({ offset, text, at, values }, note) {
  return h(
    "li",
    { "data-key": `entry-${offset}` },
    h("span", { class: "entry-text" }, text),
    valueList(values),
    note && h("span", { class: "entry-note" }, note),
    h("span", { class: "entry-foot" }, h("time", { datetime: at.toISOString() }, clockTime(at)), h("span", { title: "Offset in the stream" }, `#${offset}`)),
  );
}
