/** The campaigns one is a member of. Read again on every visit and when the window gets the focus. */

import { openForm } from "../dialog.js";
import { h, icon } from "../dom.js";
import { showScreen } from "../screen.js";

/** @param {HTMLElement} host @param {{api: import("../api.js").Api, go: (hash: string) => void, onError: (error: Error) => void}} page */
export function campaignsView(host, { api, go, onError }) {
  let campaigns = null;

  const load = async () => {
    try {
      campaigns = await api.campaigns();
      screen.draw();
    } catch (error) {
      onError(error);
    }
  };
  const create = () =>
    openForm({
      title: "New campaign",
      submit: "Create",
      fields: [
        { name: "name", label: "Name", required: true, maxlength: 200 },
        { name: "description", label: "Description", type: "textarea", maxlength: 10_000 },
      ],
      onSubmit: async (values) => go(`#/campaign/${(await api.createCampaign(values)).id}`),
    });
  const screen = showScreen(host, {
    title: () => "Campaigns",
    render: () => [
      h(
        "div",
        { class: "headline" },
        h("h1", {}, "Campaigns"),
        h("button", { type: "button", class: "primary", "data-action": "create" }, icon("add"), "New campaign"),
      ),
      campaigns === null ? h("p", { class: "quiet" }, "Loading…") : listOf(campaigns),
    ],
    actions: { create },
    onError,
  });
  window.addEventListener("focus", load);
  load();
  return { close: () => window.removeEventListener("focus", load) };
}

function listOf(campaigns) {
  if (campaigns.length === 0) {
    const text = "You are in no campaign yet. Start one, or ask an owner to add you by your e-mail address.";
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
