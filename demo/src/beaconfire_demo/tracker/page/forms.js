/** The form fields of things. */

import { capital } from "../../page/sentences.js";
import { PRIORITIES, priorityWord, PROJECT_STATUSES, STATUSES, statusWord } from "./words.js";

const NONE = { value: null, label: "None" };

/** The words of an issue. @param {any} [issue] @returns {import("../../page/dialog.js").Field[]} */
export function issueFields(issue) {
  return [
    { name: "title", label: "Title", value: issue?.title, required: true, maxlength: 200 },
    { name: "description", label: "Description", type: "textarea", value: issue?.description, maxlength: 10_000 },
  ];
}

/**
 * @param {import("./tracker.js").Tracker} tracker @param {any} [typed]  what was typed before
 * @returns {import("../../page/dialog.js").Field[]}
 */
export function newIssueFields(tracker, typed = {}) {
  const choice = (name, label, options, value = null) => ({ name, label, type: "select", value: typed[name] ?? value, options });
  return [
    ...issueFields(typed),
    choice("status", "Status", STATUSES.map((value) => ({ value, label: statusWord(value) })), "todo"),
    choice("priority", "Priority", PRIORITIES.map((value) => ({ value, label: priorityWord(value) })), "none"),
    choice("assigneeId", "Assignee", people(tracker)),
    choice("projectId", "Project", named(tracker.projects)),
    choice("cycleId", "Cycle", named(tracker.cycles)),
  ];
}

/** @param {any} workspace @returns {import("../../page/dialog.js").Field[]} */
export function rootFields(workspace) {
  return [
    { name: "name", label: "Name", value: workspace.name, required: true, maxlength: 200 },
    { name: "description", label: "Description", type: "textarea", value: workspace.description, maxlength: 10_000 },
  ];
}

/** The team of a new issue, if there is a choice. */
export function teamField(tracker, chosen) {
  const options = [...tracker.teams.values()].map(({ id, name }) => ({ value: id, label: name }));
  return { name: "teamId", label: "Team", type: "select", value: tracker.teams.has(chosen) ? chosen : options[0]?.value, options };
}

/** @param {any} [typed]  what was typed before */
export function teamFields(typed) {
  return [
    { name: "name", label: "Name", value: typed?.name, required: true, maxlength: 200 },
    { name: "key", label: "Key", value: typed?.key, required: true, maxlength: 8, hint: "Begins the names of its issues: ENG for ENG-12" },
  ];
}

/** @param {"project" | "cycle"} kind @param {any} [plan] */
export function planFields(kind, plan) {
  const name = { name: "name", label: "Name", value: plan?.name, required: true, maxlength: 200 };
  const description = { name: "description", label: "Description", type: "textarea", value: plan?.description, maxlength: 10_000 };
  const day = (field, label, required) => ({ name: field, label, type: "date", value: plan?.[field] ?? "", required });
  if (kind === "cycle") return [name, day("startsOn", "Starts on", true), day("endsOn", "Ends on", true), description];
  const options = PROJECT_STATUSES.map((value) => ({ value, label: capital(value) }));
  return [
    name,
    { name: "status", label: "Status", type: "select", value: plan?.status ?? "planned", options },
    day("targetOn", "Target date", false),
    description,
  ];
}

/** The values of a form as a body: an empty day is no day. */
export function bodyOf(values) {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, name.endsWith("On") && value === "" ? null : value]));
}

/** The choices of an assignee. */
export function people(tracker) {
  return [NONE, ...[...tracker.members.values()].map(({ userId, name }) => ({ value: userId, label: name }))];
}

/** The choices of a project or a cycle. @param {Map<string, any>} plans */
export function named(plans) {
  return [NONE, ...[...plans.values()].map(({ id, name }) => ({ value: id, label: name }))];
}
