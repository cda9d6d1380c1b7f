/** One live workspace. */

import { h, icon } from "../../../page/dom.js";
import { Loading } from "../../../page/loading.js";
import { showScreen } from "../../../page/screen.js";
import { memberActions, memberPanel } from "../../../page/views/members.js";
import { failure, refusal, tryNow } from "../../../page/views/refusal.js";

/**
 * @param {HTMLElement} host
 * @param {{id: string, api: import("../api.js").Api, client: import("../../../client/index.js").Client, me: any, toasts: any,
 *   go: (hash: string) => void, onError: (error: Error) => void}} page
 */
export function workspaceView(host, { id, api, client, me, onError }) {
  /** @type {"loading" | "open" | "refused" | "failed"} */
  let phase = "loading";
  let problem = "";
  const world = { workspace: null, members: new Map(), get isOwner() { return this.workspace?.role === "owner"; } };

  const load = async () => {
    const [workspace, members] = await Promise.all([api.workspace(id), api.members(id)]);
    Object.assign(world, { workspace, members: new Map(members.map((member) => [member.userId, member])) });
    phase = "open";
    screen.draw();
  };
  const onFailure = (error, willRetry) => {
    if (error.code === "signed_out") return;
    problem = error.message;
    if (phase !== "open") phase = willRetry ? "failed" : "refused";
    screen.draw();
  };
  const screen = showScreen(host, {
    title: () => world.workspace?.name ?? "Workspace",
    render: () => {
      if (phase === "loading") return [h("p", { class: "quiet" }, "Loading…")];
      if (phase === "refused") return [refusal(me, { thing: "workspace", home: "My workspaces" })];
      if (phase === "failed") return [failure("The workspace could not be loaded", problem, tryNow())];
      return [headline(world.workspace), memberPanel(world, me)];
    },
    actions: {
      ...memberActions({ id, api, world, thing: "workspace", reload: () => loading.run() }),
      reload: () => loading.run(),
    },
    onError,
  });
  const loading = new Loading({ client, load, onFailure, isAlwaysRepeated: true });
  const subscription = client.subscribe(`workspace:${id}`, { onEvent: ({ type }) => type === "member_changed" && loading.run() });
  loading.run();
  return {
    close() {
      loading.close();
      subscription.unsubscribe();
    },
  };
}

function headline({ name, description, role }) {
  return h(
    "div",
    { class: "root-head" },
    h(
      "div",
      { class: "root-words" },
      h("a", { class: "back", href: "#/" }, icon("back"), "Workspaces"),
      h("div", { class: "root-title" }, h("h1", {}, name)),
      description && h("p", { class: "description" }, description),
      h("p", { class: "role-line" }, h("span", { class: `role role-${role}` }, role)),
    ),
  );
}
