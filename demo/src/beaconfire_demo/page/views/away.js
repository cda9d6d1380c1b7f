/** What others changed while the user was away, until the user dismisses it. */

import { h, icon } from "../dom.js";
import { resumeWords } from "../resumes.js";
import { valueList } from "./values.js";

const MOST = 8;

/** @param {import("../away.js").Away["shown"]} shown */
export function awayPanel(shown) {
  if (shown === null) return null;
  const { count, news, resumed } = shown;
  const more = news.length - MOST;
  return h(
    "section",
    { class: "card panel away", "aria-labelledby": "away-title", "data-key": "away" },
    h(
      "div",
      { class: "section-head" },
      h("h2", { id: "away-title" }, `While you were away: ${count} ${count === 1 ? "change" : "changes"}`),
      h("button", { type: "button", class: "icon-button", "data-action": "dismissAway", "aria-label": "Dismiss what happened while you were away", title: "Dismiss" }, icon("cross")),
    ),
    h("ul", { class: "away-list" }, news.slice(0, MOST).map(row)),
    more > 0 && h("p", { class: "quiet" }, `And changes of ${more} more.`),
    resumed && h("p", { class: "quiet" }, `The page ${resumeWords(resumed)}.`),
  );
}

/** @param {import("../away.js").News} news */
function row({ who, what, deed = "changed", values = [] }) {
  return h("li", {}, h("p", {}, h("strong", {}, who), ` ${deed} ${what}`), valueList(values));
}
