/** The user's roots: campaigns or workspaces. They are read on every visit, when the page becomes visible, and after an outage. */

import { openForm } from "../dialog.js";
import { h, icon } from "../dom.js";
import { Loading } from "../loading.js";
import { Once } from "../once.js";
import { showScreen } from "../screen.js";
import { failure, tryNow } from "./refusal.js";
import { skeleton } from "./skeleton.js";

/**
 * @param {HTMLElement} host
 * @param {{word: string, list: () => Promise<any[]>, create: (values: any, key: string) => Promise<{id: string}>,
 *   client: import("../../client/index.js").Client, go: (hash: string) => void, onError: (error: Error) => void}} page
 *   `word`: what a root is, like `campaign`; its address is `#/campaign/ID`
 */
export function rootsView(host, { word, list, create, client, go, onError }) {
  const title = `${word[0].toUpperCase()}${word.slice(1)}s`;
  let roots = null;
  let problem = "";

  const load = async () => {
    roots = await list();
    problem = "";
    screen.draw();
  };
  const onFailure = (error) => {
    if (error.code === "signed_out") return;
    problem = error.message;
    screen.draw();
  };
  const openNew = () => {
    const once = new Once();
    openForm({
      title: `New ${word}`,
      submit: "Create",
      fields: [
        { name: "name", label: "Name", required: true, maxlength: 200 },
        { name: "description", label: "Description", type: "textarea", maxlength: 10_000 },
      ],
      onSubmit: async (values) => go(`#/${word}/${(await create(values, once.keyFor(values))).id}`),
    });
  };
  const screen = showScreen(host, {
    title: () => title,
    render: () => [
      h(
        "div",
        { class: "headline" },
        h("h1", {}, title),
        h("button", { type: "button", class: "primary", "data-action": "create" }, icon("add"), `New ${word}`),
      ),
      bodyOf(),
    ],
    actions: { create: openNew, reload: () => loading.run() },
    onError,
  });
  const loading = new Loading({ client, load, onFailure, isAlwaysRepeated: true });
  loading.run();
  return { close: () => loading.close() };

  function bodyOf() {
    if (roots !== null) return listOf(roots, word); // an old list is better than none
    if (problem) return failure(`The ${word}s could not be loaded`, problem, tryNow());
    return skeleton("list");
  }
}

function listOf(roots, word) {
  if (roots.length === 0) {
    const text = `You are not in a ${word} yet. Create one, or ask an owner to add you by your e-mail address.`;
    return h("p", { class: "card empty" }, text);
  }
  return h("ul", { class: "roots" }, roots.map((root) => entry(root, word)));
}

function entry({ id, name, description, role }, word) {
  return h(
    "li",
    { "data-key": id },
    h(
      "a",
      { class: "card root-link", href: `#/${word}/${id}` },
      h("span", { class: "root-top" }, h("strong", {}, name), h("span", { class: `role role-${role}` }, role)),
      h("span", { class: "quiet" }, description || "No description"),
    ),
  );
}
