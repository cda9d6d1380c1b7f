/** In place of a campaign: it may not be seen, or it could not be read. */

import { h, icon } from "../dom.js";

/**
 * The same whether the campaign exists or not, as the services do.
 * @param {{email: string}} me
 */
export function refusal({ email }) {
  return h(
    "section",
    { class: "card refusal" },
    h("span", { class: "refusal-sign" }, icon("lock")),
    h("h1", {}, "This campaign is not open to you"),
    h("p", {}, "You are not a member of it, or it does not exist."),
    h("p", { class: "quiet" }, "Its owner can add you by your e-mail address, ", h("strong", {}, email), "."),
    h(
      "div",
      { class: "form-foot" },
      h("button", { type: "button", class: "primary", "data-action": "reload" }, "Try again"),
      h("a", { class: "button", href: "#/" }, "My campaigns"),
    ),
  );
}

/**
 * What could not be loaded, and is loaded as soon as it can be.
 * @param {string} title @param {string} why  a sentence @param {any} [action]  what somebody may do meanwhile
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
