/** Sign in, sign up, or continue as one of the demo's people with one click. */

import { h } from "../dom.js";
import { showScreen } from "../screen.js";

/**
 * @param {HTMLElement} host
 * @param {{auth: import("../api.js").SignInApi, welcome: {title: string, lead: string}, people: any[], notice: string,
 *   onSession: (answer: any) => void}} page
 */
export function signInView(host, { auth, welcome, people, notice, onSession }) {
  /** @type {{isNew: boolean, isBusy: boolean, problem: string, place: "people" | "form"}} `place`: where the problem is shown */
  const state = { isNew: false, isBusy: false, problem: "", place: "form" };

  const attempt = async (place, answer) => {
    Object.assign(state, { isBusy: true, problem: "" });
    screen.draw();
    try {
      onSession(await answer());
    } catch (error) {
      Object.assign(state, { isBusy: false, problem: error.message, place });
      screen.draw();
      host.querySelector(".problem")?.scrollIntoView({ block: "nearest" });
    }
  };
  const actions = {
    demo: ({ dataset }) => attempt("people", () => auth.signIn(credentials(people[Number(dataset.index)]))),
    turn: () => {
      Object.assign(state, { isNew: !state.isNew, problem: "" });
      screen.draw();
    },
    submit: (form) => {
      const values = Object.fromEntries(new FormData(form));
      return attempt("form", () => (state.isNew ? auth.signUp(values) : auth.signIn(values)));
    },
  };
  const screen = showScreen(host, {
    title: () => (state.isNew ? "Sign up" : "Sign in"),
    render: () => [
      h(
        "div",
        { class: "sign-in" },
        h("div", { class: "welcome" },
          h("h1", {}, welcome.title),
          h("p", { class: "lead" }, welcome.lead),
        ),
        notice && h("p", { class: "notice", role: "status" }, notice),
        people.length > 0 && demoPeople(people, state),
        signForm(state, people.length > 0),
      ),
    ],
    actions,
    onError: (error) => console.error(error),
  });
  return { close() {} };
}

const credentials = ({ email, password }) => ({ email, password });

/** Shown next to the button that was pressed: elsewhere it may be off the screen of a phone. */
function problemIn(place, state) {
  return state.problem && state.place === place && h("p", { class: "problem", role: "alert", "data-key": "problem" }, state.problem);
}

function demoPeople(people, state) {
  const { isBusy } = state;
  const button = ({ name, hint }, index) =>
    h(
      "button",
      { type: "button", class: "person", "data-action": "demo", "data-index": index, disabled: isBusy },
      h("span", { class: `avatar avatar-${name.toLowerCase().replace(/\W/g, "")}`, "aria-hidden": "true" }, name.slice(0, 1)),
      h("span", { class: "person-words" }, h("strong", {}, name), h("span", {}, hint)),
    );
  return h(
    "section",
    { class: "card people", "aria-labelledby": "people-title" },
    h("h2", { id: "people-title" }, "Continue as"),
    problemIn("people", state),
    h("div", { class: "people-grid" }, people.map(button)),
  );
}

function signForm(state, isSecond) {
  const { isNew, isBusy } = state;
  const input = (label, attributes) => h("label", { class: "field" }, h("span", {}, label), h("input", attributes));
  return h(
    "section",
    { class: "card", "aria-labelledby": "form-title" },
    h("h2", { id: "form-title" }, isNew ? "Create an account" : isSecond ? "Or with your own account" : "Sign in"),
    h(
      "form",
      { "data-submit": "submit", class: "fields sign-fields", "data-key": isNew ? "sign-up" : "sign-in" },
      isNew && input("Your name", { name: "name", required: true, maxlength: 200, autocomplete: "name" }),
      input("E-mail", { name: "email", type: "email", required: true, autocomplete: "email" }),
      input("Password", {
        name: "password",
        type: "password",
        required: true,
        minlength: isNew ? 8 : null,
        maxlength: 200,
        autocomplete: isNew ? "new-password" : "current-password",
      }),
      problemIn("form", state),
      h(
        "div",
        { class: "form-foot" },
        h("button", { class: "primary", disabled: isBusy }, isNew ? "Sign up" : "Sign in"),
        h("button", { type: "button", class: "link", "data-action": "turn" }, isNew ? "I have an account" : "Sign up instead"),
      ),
    ),
  );
}
