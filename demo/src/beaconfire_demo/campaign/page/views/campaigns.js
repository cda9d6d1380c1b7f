/** The user's campaigns. They are read on every visit, when the page becomes visible, and after an outage. */

import { openForm } from "../dialog.js";
import { h, icon } from "../dom.js";
import { Loading } from "../loading.js";
import { Once } from "../once.js";
import { showScreen } from "../screen.js";
import { failure, tryNow } from "./refusal.js";

/**
 * @param {HTMLElement} host
 * @param {{api: import("../api.js").Api, client: import("../../client/index.js").Client, go: (hash: string) => void,
 *   onError: (error: Error) => void}} page
 */
export function campaignsView(host, { api, client, go, onError }) {
  let campaigns = null;
  let problem = "";

  const load = async () => {
    campaigns = await api.campaigns();
    problem = "";
    screen.draw();
  };
  const onFailure = (error) => {
    if (error.code === "signed_out") return;
    problem = error.message;
    screen.draw();
  };
  const create = () => {
    const once = new Once();
    openForm({
      title: "New campaign",
      submit: "Create",
      fields: [
        { name: "name", label: "Name", required: true, maxlength: 200 },
        { name: "description", label: "Description", type: "textarea", maxlength: 10_000 },
      ],
      onSubmit: async (values) => go(`#/campaign/${(await api.createCampaign(values, once.keyFor(values))).id}`),
    });
  };
  const screen = showScreen(host, {
    title: () => "Campaigns",
    render: () => [
      h(
        "div",
        { class: "headline" },
        h("h1", {}, "Campaigns"),
        h("button", { type: "button", class: "primary", "data-action": "create" }, icon("add"), "New campaign"),
      ),
      bodyOf(campaigns, problem),
    ],
    actions: { create, reload: () => loading.run() },
    onError,
  });
  const loading = new Loading({ client, load, onFailure, isAlwaysRepeated: true });
  loading.run();
  return { close: () => loading.close() };
}

function bodyOf(campaigns, problem) {
  if (campaigns !== null) return listOf(campaigns); // an old list is better than none
  if (problem) return failure("The campaigns could not be loaded", problem, tryNow());
  return h("p", { class: "quiet" }, "Loading…");
}

function listOf(campaigns) {
  if (campaigns.length === 0) {
    const text = "You are not in a campaign yet. Create one, or ask an owner to add you by your e-mail address.";
    return h("p", { class: "card empty" }, text);
  }
  return h("ul", { class: "campaigns" }, campaigns.map(entry));
}

function entry({ id, name, description, role }) {
  return h(
    "li",
    { "data-key": id },
    h(
      "a",
      { class: "card campaign-link", href: `#/campaign/${id}` },
      h("span", { class: "campaign-top" }, h("strong", {}, name), h("span", { class: `role role-${role}` }, role)),
      h("span", { class: "quiet" }, description || "No description"),
    ),
  );
}
