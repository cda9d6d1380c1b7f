/** Sign in, sign up, or be one of the demo's people with one click. */

import { h } from "../dom.js";
import { showScreen } from "../screen.js";

/**
 * @param {HTMLElement} host
 * @param {{auth: import("../api.js").SignInApi, people: any[], notice: string, onSession: (answer: any) => void}} page
 */
export function signInView(host, { auth, people, notice, onSession }) {
  const state = { isNew: false, problem: "", isBusy: false };

  const attempt = async (answer) => {
    Object.assign(state, { isBusy: true, problem: "" });
    screen.draw();
    try {
      onSession(await answer());
    } catch (error) {
      Object.assign(state, { isBusy: false, problem: error.message });
      screen.draw();
    }
  };
  const actions = {
    demo: ({ dataset }) => attempt(() => auth.signIn(credentials(people[Number(dataset.index)]))),
    turn: () => {
      Object.assign(state, { isNew: !state.isNew, problem: "" });
      screen.draw();
    },
    submit: (form) => {
      const values = Object.fromEntries(new FormData(form));
      return attempt(() => (state.isNew ? auth.signUp(values) : auth.signIn(values)));
    },
  };
  const screen = showScreen(host, {
    title: () => (state.isNew ? "Sign up" : "Sign in"),
    render: () => [
      h(
        "div",
        { class: "sign-in" },
        h("div", { class: "welcome" },
          h("h1", {}, "Everyone at the table sees what just changed."),
          h("p", { class: "lead" }, "Open this page in two windows, be somebody else in each, and change something."),
        ),
        notice && h("p", { class: "notice", role: "status" }, notice),
        state.problem && h("p", { class: "problem", role: "alert" }, state.problem),
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

function demoPeople(people, { isBusy }) {
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
    h("div", { class: "people-grid" }, people.map(button)),
  );
}

function signForm({ isNew, isBusy }, isSecond) {
  const input = (label, attributes) => h("label", { class: "field" }, h("span", {}, label), h("input", attributes));
  return h(
    "section",
    { class: "card", "aria-labelledby": "form-title" },
    h("h2", { id: "form-title" }, isNew ? "Make an account" : isSecond ? "Or with your own account" : "Sign in"),
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
      h(
        "div",
        { class: "form-foot" },
        h("button", { class: "primary", disabled: isBusy }, isNew ? "Sign up" : "Sign in"),
        h("button", { type: "button", class: "link", "data-action": "turn" }, isNew ? "I have an account" : "Sign up instead"),
      ),
    ),
  );
}
