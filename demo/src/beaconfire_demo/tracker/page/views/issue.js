/** One issue: its fields, its comments, who looks at it, who types, and what was done to it. */

import { h, icon } from "../../../page/dom.js";
import { skeleton } from "../../../page/views/skeleton.js";
import { named, people } from "../forms.js";
import { ago, PRIORITIES, priorityWord, statusWord, STATUSES } from "../words.js";
import { entryList } from "./activity.js";
import { pending, waitingNote } from "../../../page/views/waiting.js";
import { avatar, presentPeople, typingLine } from "../../../page/views/people.js";

/** @param {{tracker: any, issue: any, presence: any, typing: readonly string[], me: any}} shown */
export function issueDetail({ tracker, issue, presence, typing, me }) {
  const { id, identifier, title, description, archived, creatorId, createdAt } = issue;
  const button = (action, label, picture) =>
    h("button", { type: "button", class: "icon-button", "data-action": action, "data-id": id, "aria-label": label, title: label }, icon(picture));
  return h(
    "div",
    { class: "columns issue-columns" },
    h(
      "div",
      { class: "column" },
      h(
        "article",
        { class: "card issue", "data-key": `issue-${id}`, "aria-labelledby": "issue-title", ...pending(tracker, id) },
        h(
          "div",
          { class: "issue-line" },
          h("a", { class: "back", href: `#/workspace/${tracker.id}` }, icon("back"), "Board"),
          h("span", { class: "identifier" }, identifier),
          archived && h("span", { class: "chip" }, "Archived"),
          presentPeople(presence, tracker, me, "Looking at this"),
        ),
        h(
          "div",
          { class: "thing-head" },
          h("h2", { id: "issue-title", "data-key": "issue-title" }, title),
          tracker.mayChange(id) && h("span", { class: "thing-actions" }, button("editIssue", "Edit the title and the description", "edit"), button("removeIssue", "Delete the issue", "remove")),
        ),
        description ? h("p", { class: "description" }, description) : h("p", { class: "quiet" }, "No description."),
        waitingNote(tracker, id, identifier),
        h("p", { class: "quiet" }, `Opened by ${creatorId === me.id ? "you" : tracker.nameOf(creatorId)}, ${ago(createdAt)}`),
      ),
      commentPanel(issue, tracker, typing, me),
    ),
    h(
      "aside",
      { class: "column side" },
      fieldPanel(issue, tracker),
      h("section", { class: "card panel", "aria-labelledby": "history-title" }, h("h2", { id: "history-title" }, "History"), tracker.reading.has(id) ? skeleton("part") : entryList(tracker.histories.get(id) ?? [], tracker, me, { isShort: true })),
    ),
  );
}

function fieldPanel(issue, tracker) {
  const rows = [
    ["status", "Status", STATUSES.map((value) => ({ value, label: statusWord(value) }))],
    ["priority", "Priority", PRIORITIES.map((value) => ({ value, label: priorityWord(value) }))],
    ["assigneeId", "Assignee", people(tracker)],
    ["projectId", "Project", named(tracker.projects)],
    ["cycleId", "Cycle", named(tracker.cycles)],
  ];
  return h(
    "section",
    { class: "card panel", "aria-labelledby": "fields-title" },
    h("h2", { id: "fields-title" }, "Details"),
    h("div", { class: "issue-fields" }, rows.map(([field, label, options]) => fieldRow(issue, field, label, options, tracker))),
    tracker.mayChange(issue.id) &&
      h("button", { type: "button", class: "small", "data-action": "archive", "data-id": issue.id }, issue.archived ? "Take back from the archive" : "Archive"),
  );
}

function fieldRow(issue, field, label, options, tracker) {
  const chosen = options.find(({ value }) => value === issue[field]) ?? { value: issue[field], label: field === "assigneeId" ? tracker.nameOf(issue[field]) : "Deleted" };
  const all = options.includes(chosen) ? options : [...options, chosen];
  const control = tracker.mayChange(issue.id)
    ? h("select", { "data-change": "setField", "data-id": issue.id, "data-field": field }, all.map(({ value, label: text }) => h("option", { value: value ?? "", selected: value === issue[field] }, text)))
    : h("span", { class: "field-value" }, chosen.label);
  return h("label", { class: "issue-field", "data-key": `field-${field}` }, h("span", {}, label), control);
}

function commentPanel(issue, tracker, typing, me) {
  const comments = tracker.comments.get(issue.id) ?? [];
  return h(
    "section",
    { class: "card panel comments", "aria-labelledby": "comments-title" },
    h("div", { class: "section-head" }, h("h2", { id: "comments-title" }, "Comments"), h("span", { class: "quiet" }, comments.length)),
    tracker.reading.has(issue.id) ? skeleton("part") : comments.length === 0 && h("p", { class: "quiet", "data-key": "none" }, "No comment yet."),
    h("ol", { class: "comment-list" }, comments.map((comment) => commentRow(comment, tracker, me))),
    typingLine(typing, tracker),
    tracker.mayChange(issue.id) && commentForm(issue),
  );
}

function commentRow({ id, authorId, body, createdAt, revision, isFresh }, tracker, me) {
  const isMine = authorId === me.id;
  const button = (action, label, picture) =>
    h("button", { type: "button", class: "icon-button", "data-action": action, "data-id": id, "aria-label": label, title: label }, icon(picture));
  return h(
    "li",
    { class: `comment${isFresh ? " fresh" : ""}`, "data-key": id, ...pending(tracker, id) },
    avatar(authorId, tracker.nameOf(authorId)),
    h(
      "div",
      { class: "comment-words" },
      h("p", { class: "comment-head" }, h("strong", {}, isMine ? "You" : tracker.nameOf(authorId)), h("span", { class: "quiet" }, `${ago(createdAt)}${revision > 1 ? ", edited" : ""}`)),
      h("p", { class: "comment-body" }, body),
      waitingNote(tracker, id, "the comment"),
    ),
    tracker.mayChange(id) && h("span", { class: "thing-actions" }, isMine && button("editComment", "Edit your comment", "edit"), (isMine || tracker.isOwner) && button("removeComment", "Delete the comment", "remove")),
  );
}

function commentForm(issue) {
  return h(
    "form",
    { class: "comment-form", "data-submit": "comment", "data-id": issue.id, "data-key": "comment-form" },
    h("textarea", { name: "body", rows: 2, required: true, maxlength: 5000, placeholder: "Write a comment", "aria-label": "Comment", "data-typing": true }),
    h("button", { class: "primary" }, "Comment"),
  );
}
