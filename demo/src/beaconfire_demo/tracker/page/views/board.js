/** The board: a column for each status, and a card for each issue. A card is moved with its choice of status, or dragged. */

import { h, icon } from "../../../page/dom.js";
import { capital } from "../../../page/sentences.js";
import { priorityWord, STATUSES, statusWord } from "../words.js";
import { entryLine } from "./activity.js";
import { avatar } from "../../../page/views/people.js";
import { pending, waitingNote } from "../../../page/views/waiting.js";

/** Chosen instead of a team. */
const ALL = "";
const ARCHIVED = "-archived";

/** @param {{tracker: any, team: string, entry: any, me: any}} shown  `team`: the id of the chosen one, or what was chosen instead */
export function board({ tracker, team, entry, me }) {
  const issues = team === ARCHIVED ? tracker.archived() : tracker.onBoard().filter(({ teamId }) => team === ALL || teamId === team);
  const columns = STATUSES.filter((status) => status !== "canceled" || issues.some((issue) => issue.status === status));
  return [
    h(
      "div",
      { class: "board-bar" },
      teamChoice(tracker, team),
      h("p", { class: "latest", role: "status", "aria-live": "polite", "data-key": "latest" }, entry ? entryLine(entry, tracker, me) : "Every change appears here immediately."),
      tracker.canEdit && tracker.teams.size > 0 &&
        h("button", { type: "button", class: "primary", "data-action": "addIssue" }, icon("add"), "New issue"),
    ),
    tracker.teams.size === 0
      ? noTeam(tracker)
      : h("div", { "data-key": "board", class: `board columns-${columns.length}`, tabindex: 0, role: "group", "aria-label": "Board" }, columns.map((status) => column(status, issues, tracker))),
  ];
}

function teamChoice(tracker, team) {
  const archive = { id: ARCHIVED, name: "Archived issues" };
  const teams = [{ id: ALL, name: "All teams" }, ...tracker.teams.values(), ...(tracker.archived().length > 0 ? [archive] : [])];
  const option = ({ id, name }) => h("option", { value: id, selected: id === team }, name);
  return h(
    "div",
    { class: "team-choice" },
    h("select", { "data-change": "chooseTeam", "aria-label": "Team" }, teams.map(option)),
    tracker.canEdit && h("button", { type: "button", class: "plain small", "data-action": "addTeam", "aria-label": "New team" }, icon("add"), h("span", {}, "Team")),
  );
}

function noTeam({ canEdit }) {
  const text = canEdit ? "Issues belong to a team. Create the first one." : "No team has been created yet.";
  return h("p", { class: "card empty", "data-key": "none" }, text);
}

function column(status, all, tracker) {
  const issues = all.filter((issue) => issue.status === status);
  const title = `column-${status}`;
  return h(
    "section",
    { class: "column-of-issues", "aria-labelledby": title, "data-key": title, "data-status": status },
    h("h2", { id: title, class: "column-title" }, h("span", { class: `dot dot-${status}`, "aria-hidden": "true" }), statusWord(status), h("span", { class: "count" }, h("span", { class: "unseen" }, "issues: "), issues.length)),
    h("ol", { class: "cards" }, issues.map((issue) => card(issue, tracker))),
    issues.length === 0 && h("p", { class: "quiet nothing", "data-key": "none" }, "No issue"),
  );
}

function card(issue, tracker) {
  const { id, identifier, title, priority, assigneeId, projectId, commentCount } = issue;
  const project = tracker.projects.get(projectId)?.name;
  const mayChange = tracker.mayChange(id);
  const isNew = tracker.fateOf(id)?.word === "added";
  return h(
    "li",
    { class: "issue-card", "data-key": id, "data-issue": id, draggable: mayChange ? "true" : null, ...pending(tracker, id) },
    h(
      "div",
      { class: "card-top" },
      h("span", { class: "identifier" }, identifier),
      priorityMark(priority),
      assigneeId && h("span", { class: "card-assignee", title: `Assigned to ${tracker.nameOf(assigneeId)}` }, h("span", { class: "unseen" }, `Assigned to ${tracker.nameOf(assigneeId)}`), avatar(assigneeId, tracker.nameOf(assigneeId))),
    ),
    isNew
      ? h("span", { class: "card-title" }, title)
      : h("a", { class: "card-title", href: `#/workspace/${tracker.id}/issue/${id}`, draggable: "false" }, title),
    h(
      "div",
      { class: "card-foot" },
      project && h("span", { class: "chip" }, project),
      commentCount > 0 && h("span", { class: "comment-count", title: `${commentCount} comments` }, h("span", { class: "unseen" }, "Comments: "), commentCount),
      mayChange && statusChoice(issue),
    ),
    waitingNote(tracker, id, title),
  );
}

/** The choice that moves an issue, for the keyboard, screen readers and fingers. */
export function statusChoice({ id, identifier, status }) {
  const option = (one) => h("option", { value: one, selected: one === status }, statusWord(one));
  return h("select", { class: "status-choice", "data-change": "move", "data-id": id, "aria-label": `Status of ${identifier}` }, STATUSES.map(option));
}

/** Three bars, as many of them dark as the priority is high. */
export function priorityMark(priority) {
  if (priority === "none") return null;
  const words = `${capital(priorityWord(priority))} priority`;
  return h("span", { class: `priority priority-${priority}`, role: "img", "aria-label": words, title: words }, h("i"), h("i"), h("i"));
}
