/** The user's roots: campaigns or workspaces. They are read on every visit, when the page becomes visible, and after an outage. */

import { h, icon } from "../dom.js";
import { Edits } from "../edits.js";
import { openSent } from "../forms.js";
import { Loading } from "../loading.js";
import { RootState } from "../root_state.js";
import { showScreen } from "../screen.js";
import { failure, tryNow } from "./refusal.js";
import { skeleton } from "./skeleton.js";
import { pending, waitingNote } from "./waiting.js";

/** What was read on the last visit: without a connection, an old list is better than none. @type {WeakMap<object, Roots>} */
const lists = new WeakMap();

/**
 * @param {HTMLElement} host
 * @param {{word: string, list: () => Promise<any[]>, url: string, client: import("../../client/index.js").Client,
 *   outgoing: import("../outgoing.js").Outgoing, go: (hash: string) => void, onError: (error: Error) => void}} page
 *   `word`: what a root is, like `campaign`; its address is `#/campaign/ID`. `url`: the service's address of all of them
 */
export function rootsView(host, { word, list, url, client, outgoing, go, onError }) {
  const title = `${word[0].toUpperCase()}${word.slice(1)}s`;
  let isLeft = false;
  let problem = "";
  const known = lists.get(client) ?? new Roots();
  lists.set(client, known);
  const edits = new Edits({ client, outgoing, url, onChange: () => screen.draw() });

  const load = async () => {
    known.roots = new Map((await list()).map((root) => [root.id, root]));
    problem = "";
    screen.draw();
  };
  const onFailure = (error) => {
    if (error.code === "signed_out") return;
    problem = error.message;
    screen.draw();
  };
  /** Opens the new root, unless it is made later. */
  const create = async (body) => {
    const isNow = client.state === "connected";
    const { thing, error } = await outgoing.make({ method: "POST", kind: "root", url, body });
    if (thing && isNow && !isLeft) go(`#/${word}/${thing.id}`);
    return { error };
  };
  const openNew = () =>
    openSent({
      title: `New ${word}`,
      submit: "Create",
      fields: (values) => [
        { name: "name", label: "Name", required: true, maxlength: 200, value: values?.name },
        { name: "description", label: "Description", type: "textarea", maxlength: 10_000, value: values?.description },
      ],
      send: create,
      isLeft: () => isLeft,
    });
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
    actions: {
      create: openNew,
      reload: () => loading.run(),
      takeBack: ({ dataset }) => outgoing.drop(Number(dataset.place)),
    },
    onError,
  });
  outgoing.showing = {
    url,
    fieldWord: (field) => field,
    valueWord: (_, value) => String(value ?? "none"),
    put: (kind, thing) => kind === "root" && known.roots?.set(thing.id, { role: "owner", ...known.roots.get(thing.id), ...thing }),
    drop: (kind, id) => kind === "root" && known.roots?.delete(id),
    undone: ({ kind, thing, isNew, changes, method }, { message }) => {
      if (kind !== "root") return `A change that you made earlier was refused. ${message}`;
      const name = isNew ? changes.name : (known.roots?.get(thing)?.name ?? `The ${word}`);
      return `${name} was not ${isNew ? "created" : method === "DELETE" ? "deleted" : "changed"}. ${message}`;
    },
    minor: ["worldTime"],
  };
  const loading = new Loading({ client, load, onFailure, isAlwaysRepeated: true });
  loading.run();
  return {
    close() {
      isLeft = true;
      outgoing.showing = null;
      edits.close();
      loading.close();
    },
  };

  function bodyOf() {
    if (known.roots !== null) return listOf(edits.shown(known, { roots: "root" }), word); // an old list is better than none
    if (problem) return failure(`The ${word}s could not be loaded`, problem, tryNow());
    return skeleton("list");
  }
}

/** The user's roots, as this page knows them. */
class Roots {
  /** @type {Map<string, any> | null} null: not loaded yet */
  roots = null;
  canEdit = true;

  draft(change) {
    return { ...RootState.prototype.draft(change), role: "owner" };
  }
}

function listOf(shown, word) {
  if (shown.roots.size === 0) {
    const text = `You are not in a ${word} yet. Create one, or ask an owner to add you by your e-mail address.`;
    return h("p", { class: "card empty", "data-key": "none" }, text);
  }
  return h("ul", { class: "roots", "data-key": "roots" }, [...shown.roots.values()].map((root) => entry(root, shown, word)));
}

/** A root that is about to be created or deleted cannot be opened. */
function entry({ id, name, description, role }, shown, word) {
  const fate = shown.fateOf(id);
  const words = [
    h("span", { class: "root-top" }, h("strong", {}, name), h("span", { class: `role role-${role}` }, role)),
    h("span", { class: "quiet" }, description || "No description"),
  ];
  return h(
    "li",
    { "data-key": id },
    fate
      ? h("div", { class: "card root-link", "data-key": "fate", ...pending(shown, id) }, words, waitingNote(shown, id, name))
      : h("a", { class: "card root-link", "data-key": "link", href: `#/${word}/${id}` }, words),
  );
}
