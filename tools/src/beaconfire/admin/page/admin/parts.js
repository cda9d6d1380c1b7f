/** What several views have: tables that become cards on a phone, searches, badges, and buttons that ask twice. */

import { h } from "../dom.js";

/**
 * A table with headers. On a narrow window each row becomes a card, whose values name their column.
 * @param {string} caption  what the table shows, for people who do not see it
 * @param {string[]} columns
 * @param {{key: string, cells: unknown[]}[]} rows
 * @param {string} empty  what to say if there is no row
 */
export function table(caption, columns, rows, empty) {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  return h(
    "table",
    { class: "table" },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, ...columns.map((name) => h("th", { scope: "col" }, name)))),
    h(
      "tbody",
      {},
      ...rows.map(({ key, cells }) =>
        h(
          "tr",
          { "data-key": key },
          ...cells.map((cell, index) =>
            h(index ? "td" : "th", { ...(index ? {} : { scope: "row" }), "data-label": columns[index] }, h("div", {}, cell)),
          ),
        ),
      ),
    ),
  );
}

/** @param {string} title @param {string} text */
export function headline(title, text, ...more) {
  return h("div", { class: "headline" }, h("div", {}, h("h1", {}, title), h("p", { class: "lead" }, text)), ...more);
}

/**
 * A form of one line. Its fields have these names and labels.
 * @param {string} action
 * @param {[name: string, label: string, placeholder: string, value: string][]} fields
 * @param {string} button
 */
export function search(action, fields, button) {
  return h(
    "form",
    { class: "search card", "data-submit": action, role: "search" },
    ...fields.map(([name, label, placeholder, value]) =>
      h(
        "label",
        { class: "field" },
        h("span", {}, label),
        h("input", { name, placeholder, value, autocomplete: "off", autocapitalize: "none", spellcheck: "false" }),
      ),
    ),
    h("button", { class: "primary" }, button),
  );
}

/** @param {string} text @param {"good" | "bad" | "wait" | "plain"} kind */
export const badge = (text, kind) => h("span", { class: `badge badge-${kind}` }, text);

/** @param {string} status */
export const statusBadge = (status) => badge(status, status === "ready" ? "good" : "bad");

/** @param {Record<string, string>} failed */
export function failures(failed) {
  const entries = Object.entries(failed ?? {});
  if (!entries.length) return null;
  return h("ul", { class: "problems" }, ...entries.map(([address, why]) => h("li", { "data-key": address }, `${address}: ${why}`)));
}

/** The buttons whose second click acts. */
const armed = new Set();

/**
 * A button that acts at its second click within five seconds.
 * @param {{key: string, action: string, text: string, sure: string, label?: string, danger?: boolean}} button
 */
export function careful({ key, action, text, sure, label, danger }) {
  const isArmed = armed.has(key);
  const name = label ? `${isArmed ? sure : text}: ${label}` : null;
  return h(
    "button",
    { type: "button", class: isArmed && danger ? "danger small" : "small", "data-key": key, "data-action": action, "aria-label": name },
    isArmed ? sure : text,
  );
}

/**
 * @param {string} key
 * @param {() => void} draw
 * @returns {boolean}  whether this was the second click
 */
export function isSure(key, draw) {
  if (armed.delete(key)) return true;
  armed.add(key);
  setTimeout(() => {
    armed.delete(key);
    draw();
  }, 5000);
  draw();
  return false;
}
