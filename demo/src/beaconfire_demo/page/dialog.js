/** Forms and questions in a dialog over the page. The dialog closes when its action is done. */

import { h, icon } from "./dom.js";
import { rememberFocus } from "./focus.js";
import { typed } from "./sentences.js";

/** How many dialogs were opened: one may lie over another, and each has its own title. */
let dialogs = 0;

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {string} label
 * @property {"text" | "email" | "textarea" | "number" | "select" | "variables"} [type]
 * @property {any} [value]
 * @property {(string | {value: any, label: string})[]} [options]  of a select: texts, or values of any type with their texts
 * @property {string} [hint]
 * @property {boolean} [required]
 * @property {number} [min] @property {number} [max] @property {number} [maxlength]
 */

/**
 * Show a form. `onSubmit` gets the values. If it throws, the form stays open and shows the error.
 * @param {{title: string, fields: Field[], submit: string, problem?: string, onSubmit: (values: any) => unknown}} form
 *   `problem`: why the form is shown again
 */
export function openForm({ title, fields, submit, problem, onSubmit }) {
  const readers = fields.map(fieldRow);
  const rows = readers.map(({ row }) => row);
  open({
    title,
    body: [h("div", { class: "fields" }, rows)],
    submit,
    problem,
    onSubmit: () => onSubmit(Object.fromEntries(readers.map(({ name, read }) => [name, read()]))),
  });
}

/** @param {{title: string, text: string, submit: string, onSubmit: () => Promise<unknown>}} question */
export function openQuestion({ title, text, submit, onSubmit }) {
  open({ title, body: [h("p", {}, text)], submit, onSubmit, isDangerous: true });
}

/**
 * Ask for a decision that cannot be put off: the dialog has no way out but its buttons, and stays if the screen behind it changes.
 * @param {{title: string, body: any[], submit: string, onSubmit: (form: FormData) => void,
 *   otherwise?: {text: string, onChoice: () => void}}} decision  `otherwise`: a button for the other choice
 */
export function openDecision(decision) {
  open({ ...decision, isDecision: true, isDangerous: decision.otherwise !== undefined });
}

export function isDialogOpen() {
  return document.querySelector("dialog[open]") !== null; // a closed dialog stays in the document for a moment
}

/** Close the open dialog: the screen behind it has changed. @param {{withDecisions?: boolean}} [options] */
export function closeDialogs({ withDecisions = false } = {}) {
  for (const dialog of document.querySelectorAll(withDecisions ? "dialog" : "dialog:not(.decision)")) dialog.close();
}

function open({ title, body, submit, onSubmit, problem: why = "", isDangerous = false, isDecision = false, otherwise = undefined }) {
  const problem = h("p", { class: "problem", role: "alert", hidden: !why }, why);
  const button = h("button", { type: "submit", class: isDangerous ? "danger" : "primary" }, submit);
  const cancel = h("button", { type: "button", class: otherwise ? "" : "plain" }, otherwise?.text ?? "Cancel");
  // The error and the buttons stay visible however long the form is.
  const foot = h("div", { class: "dialog-foot" }, problem, h("div", { class: "dialog-buttons" }, (!isDecision || otherwise) && cancel, button));
  const heading = h("h2", { id: `dialog-title-${(dialogs += 1)}` }, title);
  const form = h("form", {}, h("div", { class: "dialog-body" }, heading, ...body), foot);
  const dialog = show(form, heading.id);
  if (isDecision) {
    dialog.classList.add("decision");
    dialog.addEventListener("cancel", (event) => event.preventDefault()); // the key Escape
  }

  cancel.addEventListener("click", () => {
    dialog.close();
    otherwise?.onChoice();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await onSubmit(new FormData(form));
      dialog.close();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
    button.disabled = false;
  });
}

/** Show a form in a dialog over the page, until the dialog is closed. @param {HTMLFormElement} form @param {string} title  an id */
function show(form, title) {
  const dialog = h("dialog", { "aria-labelledby": title }, form);
  const giveBack = rememberFocus(document.body);
  dialog.addEventListener("close", () => {
    if (toasts?.parentElement === dialog) document.body.append(toasts);
    dialog.remove();
    giveBack();
  });
  document.body.append(dialog);
  // Everything below an open dialog is blurred and inert, so the notices move into the dialog.
  const toasts = document.querySelector(".beaconfire-toasts");
  if (toasts) dialog.append(toasts);
  dialog.showModal();
  return dialog;
}

/** @param {Field} field */
function fieldRow(field) {
  if (field.type === "variables") return variablesRow(field);
  const control = controlOf(field);
  const hint = field.hint && h("span", { class: "hint" }, field.hint);
  const row = h("label", { class: `field field-${field.type ?? "text"}` }, h("span", {}, field.label), control, hint);
  return { name: field.name, row, read: () => valueOf(field, control) };
}

/** The value that was typed or chosen. @param {Field} field @param {any} control */
function valueOf({ type, options }, control) {
  if (type === "number") return Number(control.value);
  return type === "select" ? choices(options)[control.selectedIndex].value : control.value;
}

/** @param {Field["options"]} options */
function choices(options = []) {
  return options.map((option) => (typeof option === "string" ? { value: option, label: option } : option));
}

/** @param {Field} field */
function controlOf({ name, type = "text", value = "", options, required, min, max, maxlength }) {
  if (type === "select") {
    const row = (option) => h("option", { selected: option.value === value }, option.label);
    return h("select", { name }, choices(options).map(row));
  }
  if (type === "textarea") return h("textarea", { name, rows: 3, maxlength, required }, value);
  return h("input", { name, type, value, required, min, max, maxlength, step: type === "number" ? 1 : null, autocomplete: "off" });
}

/** Names with values, one row each. Rows can be added and removed. */
function variablesRow({ name, label, value = {} }) {
  const list = h("div", { class: "variable-rows" });
  const add = h("button", { type: "button", class: "plain small" }, icon("add"), "Add a variable");
  add.addEventListener("click", () => {
    list.append(variableRow("", ""));
    list.lastElementChild.querySelector("input").focus();
  });
  list.append(...Object.entries(value).map(([key, one]) => variableRow(key, String(one), one)));
  const hint = h("span", { class: "hint" }, "Numbers, true or false, or text");
  const row = h("fieldset", { class: "field" }, h("legend", {}, label), list, h("div", { class: "variables-foot" }, add, hint));
  const read = () => Object.fromEntries([...list.children].map((each) => each.readPair()).filter(([key]) => key));
  return { name, row, read };
}

function variableRow(key, text, original) {
  const keyInput = h("input", { value: key, "aria-label": "Name", placeholder: "name", pattern: "[A-Za-z0-9_\\-]{1,64}" });
  const valueInput = h("input", { value: text, "aria-label": "Value", placeholder: "value", maxlength: 1000 });
  const remove = h("button", { type: "button", class: "icon-button", "aria-label": "Remove the variable" }, icon("remove"));
  const row = h("div", { class: "variable-row" }, keyInput, valueInput, remove);
  remove.addEventListener("click", () => row.remove());
  // An untouched value keeps its type: the text "12" stays a text.
  row.readPair = () => [keyInput.value.trim(), valueInput.value === text && original !== undefined ? original : typed(valueInput.value)];
  return row;
}
