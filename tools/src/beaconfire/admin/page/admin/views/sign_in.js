/** Ask for a token. */

import { h } from "../../dom.js";
import { showScreen } from "../../screen.js";
import { keepToken, Refused } from "../api.js";

/**
 * @param {HTMLElement} host
 * @param {string} why  why the operator is asked again, or empty
 * @param {() => Promise<void>} enter
 */
export function signIn(host, why, enter) {
  let problem = why;
  const fail = (error) => {
    keepToken("");
    problem = error instanceof Refused ? error.message : String(error);
    screen.draw();
    /** @type {HTMLElement | null} */ (host.querySelector("[name=token]"))?.focus();
  };
  const screen = showScreen(host, {
    title: () => "Sign in",
    render: () => [
      h(
        "div",
        { class: "sign-in" },
        h(
          "div",
          { class: "welcome" },
          h("h1", {}, "Operate Beaconfire"),
          h("p", { class: "lead" }, "Sessions, rates, outboxes and dead letters of all services."),
        ),
        h(
          "form",
          { class: "card fields", "data-submit": "sign-in" },
          problem ? h("p", { class: "problem", role: "alert" }, problem) : null,
          h("input", { class: "visually-hidden", name: "username", autocomplete: "username", value: "operator", tabindex: "-1", "aria-hidden": "true" }),
          h(
            "label",
            { class: "field" },
            h("span", {}, "Token"),
            h("input", { name: "token", type: "password", required: true, autocomplete: "current-password" }),
            h("span", { class: "hint" }, "BEACONFIRE_OPERATOR_TOKEN may act. BEACONFIRE_OPERATOR_READ_TOKEN may only look."),
          ),
          h("div", { class: "form-foot" }, h("button", { class: "primary" }, "Sign in")),
        ),
      ),
    ],
    actions: {
      async "sign-in"(form) {
        keepToken(String(new FormData(form).get("token")).trim());
        await enter();
      },
    },
    onError: fail,
  });
}
