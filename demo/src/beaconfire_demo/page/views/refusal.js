/** Shown instead of a root that the user may not see, or of something that could not be loaded. */

import { h, icon } from "../dom.js";

/**
 * The same for a root that does not exist, as in the services.
 * @param {{email: string}} me @param {{thing: string, home: string}} words  what it is, and the link to those of the user
 */
export function refusal({ email }, { thing, home }) {
  return h(
    "section",
    { class: "card refusal" },
    h("span", { class: "refusal-sign" }, icon("lock")),
    h("h1", {}, `You cannot open this ${thing}`),
    h("p", {}, "You are not a member of it, or it does not exist."),
    h("p", { class: "quiet" }, "Its owner can add you by your e-mail address, ", h("strong", {}, email), "."),
    h(
      "div",
      { class: "form-foot" },
      h("button", { type: "button", class: "primary", "data-action": "reload" }, "Try again"),
      h("a", { class: "button", href: "#/" }, home),
    ),
  );
}

/**
 * A thing that could not be loaded. The page keeps trying.
 * @param {string} title @param {string} why  a sentence @param {any} [action]  what the user can do in the meantime
 */
export function failure(title, why, action) {
  return h(
    "section",
    { class: "card refusal", role: "status" },
    h("h1", {}, title),
    h("p", {}, why),
    h("p", { class: "quiet" }, "The page tries again until it works."),
    action && h("div", { class: "form-foot" }, action),
  );
}

/** A button for `failure`. */
export function tryNow() {
  return h("button", { type: "button", class: "primary", "data-action": "reload" }, "Try now");
}
