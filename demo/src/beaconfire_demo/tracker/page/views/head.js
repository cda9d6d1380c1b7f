/** The top of a workspace: its name, who is here, and the ways to its parts. */

import { h, icon } from "../../../page/dom.js";
import { presentPeople } from "../../../page/views/people.js";

const TABS = [["", "Board"], ["/plans", "Plans"], ["/activity", "Activity"], ["/members", "Members"]];

/** @param {{tracker: import("../tracker.js").Tracker, place: {part: string}, presence: any, me: any}} shown */
export function head({ tracker, place, presence, me }) {
  const { id, name, role } = tracker.root;
  const tab = ([path, text]) =>
    h("a", { href: `#/workspace/${id}${path}`, "aria-current": place.part === path.slice(1) ? "page" : null }, text);
  return h(
    "div",
    { class: "workspace-head" },
    h(
      "div",
      { class: "workspace-line" },
      h("a", { class: "back", href: "#/" }, icon("back"), "Workspaces"),
      presentPeople(presence, tracker, me, "Here now"),
    ),
    h(
      "div",
      { class: "root-title" },
      h("h1", { "data-key": "workspace-name" }, name),
      h("span", { class: `role role-${role}` }, role),
      tracker.isOwner &&
        h("button", { type: "button", class: "icon-button", "data-action": "editWorkspace", "aria-label": "Edit the workspace", title: "Edit" }, icon("edit")),
    ),
    h("nav", { class: "tabs", "aria-label": "Parts of the workspace" }, TABS.map(tab)),
  );
}
