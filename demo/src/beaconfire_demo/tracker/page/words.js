/** States, priorities, names and entries as text. */

import { capital } from "../../page/sentences.js";

/** The columns of the board, in order. `canceled` is shown only if there is such an issue. */
export const STATUSES = ["backlog", "todo", "started", "review", "done", "canceled"];
const STATUS_WORDS = {
  backlog: "Backlog",
  todo: "To do",
  started: "In progress",
  review: "In review",
  done: "Done",
  canceled: "Canceled",
};
export const PRIORITIES = ["none", "low", "medium", "high", "urgent"];
export const PROJECT_STATUSES = ["planned", "started", "paused", "completed", "canceled"];

/** @param {string} status */
export const statusWord = (status) => STATUS_WORDS[status] ?? status;
/** @param {string} priority */
export const priorityWord = (priority) => (priority === "none" ? "No priority" : capital(priority));

/** What people call each field. */
const FIELDS = {
  assigneeId: "assignee",
  projectId: "project",
  cycleId: "cycle",
  targetOn: "target date",
  startsOn: "start",
  endsOn: "end",
};
export const fieldWord = (field) => FIELDS[field] ?? field;

/** A day for reading, "7 Jan 2030". @param {string} day */
export function dayWord(day) {
  const format = { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" };
  return new Intl.DateTimeFormat("en-GB", format).format(new Date(`${day}T00:00:00Z`));
}

/** How long ago something was, "3 min ago". @param {string | Date} at @param {number} [now] */
export function ago(at, now = Date.now()) {
  const seconds = Math.max(0, Math.round((now - new Date(at).getTime()) / 1000));
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return dayWord(new Date(at).toISOString().slice(0, 10));
}

/**
 * The value of a field as people read it. Ids become names.
 * @param {string} field @param {any} value @param {import("./tracker.js").Tracker} tracker
 */
export function valueWord(field, value, tracker) {
  if (value === null || value === "" || value === undefined) return "none";
  if (field === "status") return statusWord(value);
  if (field === "priority") return priorityWord(value);
  if (field === "assigneeId") return tracker.nameOf(value);
  if (field === "projectId") return tracker.projects.get(value)?.name ?? "a deleted project";
  if (field === "cycleId") return tracker.cycles.get(value)?.name ?? "a deleted cycle";
  if (field === "archived") return value ? "yes" : "no";
  if (["targetOn", "startsOn", "endsOn"].includes(field)) return dayWord(value);
  return String(value);
}

/**
 * An entry of the activity feed: who did what to what.
 * @param {any} entry @param {import("./tracker.js").Tracker} tracker
 */
export function deed({ kind, action, about, changes }, tracker) {
  if (kind === "comment") return action === "created" ? "commented on" : `${action} a comment on`;
  if (action === "created") return kind === "issue" ? "opened" : "created";
  if (action === "updated" && Object.keys(changes).join() === "status" && kind === "issue") return "moved";
  if (action === "updated" && changes.archived) return "took back from the archive";
  if (action === "updated" && changes.assigneeId && Object.keys(changes).length === 1) {
    return changes.assigneeId.to === null ? "unassigned" : `assigned to ${tracker.nameOf(changes.assigneeId.to)}:`;
  }
  return action === "updated" ? "changed" : action;
}

/**
 * What happened to a change that was refused.
 * @param {import("../../page/outgoing.js").Unconfirmed} change @param {Error} error @param {import("./tracker.js").Tracker} tracker
 */
export function undone({ kind, thing, method, isNew, changes }, { message }, tracker) {
  if (kind === "comment") return `Your comment was not ${isNew ? "added" : method === "DELETE" ? "deleted" : "changed"}. ${message}`;
  if (isNew) return `${changes.title ?? changes.name} was not created. ${message}`;
  const { identifier, name } = (kind === "root" ? tracker.root : tracker.thing(kind, thing)) ?? { name: `the ${kind}` };
  return method === "DELETE" ? `${identifier ?? name} was not deleted. ${message}` : `Your change to ${identifier ?? name} was undone. ${message}`;
}

/** What an entry is about, as text. @param {any} entry */
export function subjectWord({ kind, about }) {
  if (about.identifier) return `${about.identifier} ${about.title}`;
  return kind === "workspace" ? "the workspace" : `the ${kind} ${about.name}`;
}

/**
 * The changed fields of an entry, with their old and new values as people read them.
 * @param {any} entry @param {import("./tracker.js").Tracker} tracker @returns {import("../../page/away.js").Value[]}
 */
export function valuesOf({ changes }, tracker) {
  return Object.entries(changes).map(([field, { from, to }]) => ({
    field: fieldWord(field),
    from: valueWord(field, from, tracker),
    to: valueWord(field, to, tracker),
  }));
}

/** An entry as news. @param {any} entry @param {import("./tracker.js").Tracker} tracker @returns {import("../../page/away.js").News} */
export function newsOf(entry, tracker) {
  const { actorId, id, issueId, about, kind, action } = entry;
  const isChange = action === "updated" && kind !== "comment";
  const thing = issueId ?? `${kind} ${about.name}`;
  const values = isChange ? valuesOf(entry, tracker) : [];
  return { who: tracker.nameOf(actorId), thing, what: subjectWord(entry), values, ...(!isChange && { deed: deed(entry, tracker), thing: id }) };
}
