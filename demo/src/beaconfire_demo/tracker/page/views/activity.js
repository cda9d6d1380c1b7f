/** The activity feed: who did what, with the old and the new values. */

import { h } from "../../../page/dom.js";
import { valueList } from "../../../page/views/values.js";
import { ago, deed, subjectWord, valuesOf, valueWord } from "../words.js";
import { avatar } from "../../../page/views/people.js";

/** @param {{tracker: any, me: any}} shown */
export function activity({ tracker, me }) {
  return h(
    "section",
    { class: "card panel feed-panel", "aria-labelledby": "feed-title" },
    h("div", { class: "section-head" }, h("h2", { id: "feed-title" }, "Activity")),
    entryList(tracker.entries, tracker, me),
    tracker.olderEntries !== null && h("button", { type: "button", class: "small", "data-action": "older" }, "Show older"),
  );
}

/** @param {any[]} entries @param {any} tracker @param {any} me @param {{isShort?: boolean}} [options]  `isShort`: without the name of the issue */
export function entryList(entries, tracker, me, { isShort = false } = {}) {
  if (entries.length === 0) return h("p", { class: "quiet" }, "Nothing yet.");
  const list = h("ol", { class: "entries history" }, entries.map((entry) => row(entry, tracker, me, isShort)));
  return h("div", { class: "log", role: "log", tabindex: 0, "aria-label": "Activity" }, list);
}

/** An entry in one line, for the board. */
export function entryLine(entry, tracker, me) {
  const changes = Object.entries(entry.changes);
  const [first] = changes;
  const values = first && changes.length === 1 && !["description", "body"].includes(first[0]) ? `: ${oldAndNew(first, tracker)}` : "";
  return `${whoOf(entry, tracker, me)} ${deed(entry, tracker)} ${subjectWord(entry)}${values}`;
}

function row(entry, tracker, me, isShort) {
  const { id, actorId, issueId, createdAt } = entry;
  const isThere = tracker.issues.has(issueId);
  const subject = isShort ? (entry.kind === "comment" ? "this" : "it") : subjectWord(entry);
  const link = isThere && !isShort ? h("a", { href: `#/workspace/${tracker.id}/issue/${issueId}` }, subject) : h("span", {}, subject);
  return h(
    "li",
    { "data-key": `entry-${id}`, class: entry.isFresh ? "fresh" : null },
    h("div", { class: "entry" }, avatar(actorId, tracker.nameOf(actorId)), h("div", { class: "entry-words" },
      h("p", { class: "entry-text" }, h("strong", {}, whoOf(entry, tracker, me)), ` ${deed(entry, tracker)} `, link),
      valueList(valuesOf(entry, tracker)),
      h("time", { class: "quiet", datetime: createdAt }, ago(createdAt)))),
  );
}

function whoOf({ actorId }, tracker, me) {
  return actorId === me.id ? "You" : tracker.nameOf(actorId);
}

function oldAndNew([field, { from, to }], tracker) {
  return `${valueWord(field, from, tracker)} → ${valueWord(field, to, tracker)}`;
}
