/** Projects and cycles, with how much of each is done. */

import { h, icon } from "../../../page/dom.js";
import { pending, waitingNote } from "../../../page/views/waiting.js";
import { capital } from "../../../page/sentences.js";
import { dayWord, statusWord } from "../words.js";

/** @param {any} tracker */
export function plans(tracker) {
  return h("div", { class: "plans" }, section("project", tracker.projects, tracker), section("cycle", tracker.cycles, tracker));
}

function section(kind, all, tracker) {
  const title = `${kind}s-title`;
  return h(
    "section",
    { class: "plan-section", "aria-labelledby": title },
    h(
      "div",
      { class: "section-head" },
      h("h2", { id: title }, `${capital(kind)}s`),
      tracker.canEdit && h("button", { type: "button", class: "small", "data-action": "addPlan", "data-kind": kind }, icon("add"), `New ${kind}`),
    ),
    all.size === 0 && h("p", { class: "card empty", "data-key": "none" }, `No ${kind} yet.`),
    h("div", { class: "plan-grid" }, [...all.values()].map((plan) => planCard(kind, plan, tracker))),
  );
}

function planCard(kind, plan, tracker) {
  const { id, name, description, progress } = plan;
  const issues = tracker.onBoard().filter((issue) => issue[`${kind}Id`] === id);
  const button = (action, label, picture) =>
    h("button", { type: "button", class: "icon-button", "data-action": action, "data-kind": kind, "data-id": id, "aria-label": `${label} ${name}`, title: label }, icon(picture));
  return h(
    "article",
    { class: "card plan", "data-key": id, "aria-label": name, ...pending(tracker, id) },
    h(
      "header",
      { class: "thing-head" },
      h("h3", {}, name),
      kind === "project" && h("span", { class: `chip project-${plan.status}` }, capital(plan.status)),
      tracker.mayChange(id) && h("span", { class: "thing-actions" }, button("editPlan", "Edit", "edit"), button("removePlan", "Delete", "remove")),
    ),
    waitingNote(tracker, id, name),
    h("p", { class: "quiet" }, datesOf(kind, plan)),
    progressBar(name, progress),
    description && h("p", { class: "description" }, description),
    issues.length > 0 && h("ul", { class: "plan-issues", tabindex: 0, "aria-label": `Issues in ${name}` }, issues.map((issue) => issueLine(issue, tracker))),
  );
}

function datesOf(kind, { startsOn, endsOn, targetOn }) {
  if (kind === "cycle") return `${dayWord(startsOn)} to ${dayWord(endsOn)}`;
  return targetOn ? `Target: ${dayWord(targetOn)}` : "No target date";
}

/** How much is done, as a bar and in words. */
export function progressBar(name, { total, started, done }) {
  const words = total === 0 ? "No issue yet" : `${done} of ${total} done${started > 0 ? `, ${started} in progress` : ""}`;
  return h(
    "div",
    { class: "progress-line" },
    h("progress", { max: Math.max(1, total), value: done, "aria-label": `Progress of ${name}` }, words),
    h("span", { class: "progress-words" }, words),
  );
}

function issueLine({ id, identifier, title, status }, tracker) {
  return h(
    "li",
    { "data-key": `line-${id}` },
    h("span", { class: `dot dot-${status}`, role: "img", "aria-label": statusWord(status), title: statusWord(status) }),
    h("a", { href: `#/workspace/${tracker.id}/issue/${id}` }, h("span", { class: "identifier" }, identifier), ` ${title}`),
  );
}
