/** The workspace's page. */

import { openApplication } from "../../page/application.js";
import { rootsView } from "../../page/views/roots.js";

import { Api } from "./api.js";
import { workspaceView } from "./views/workspace.js";

openApplication({
  name: "workspace",
  welcome: {
    title: "People and agents, on the same page.",
    lead: "Open this page in two windows, sign in as a different user in each, and decide something.",
  },
  view: ({ host, config, session, ...page }) => {
    const api = new Api(config, session);
    const [, id] = location.hash.match(/^#\/workspace\/([A-Za-z0-9_-]{1,64})$/) ?? [];
    if (id) return workspaceView(host, { id, api, me: session.user, ...page });
    return rootsView(host, { word: "workspace", list: api.workspaces, url: api.urlOf(), ...page });
  },
});
