/** The campaign's page. */

import { openApplication } from "../../page/application.js";
import { rootsView } from "../../page/views/roots.js";

import { Api } from "./api.js";
import { campaignView } from "./views/campaign.js";

openApplication({
  name: "campaign",
  welcome: {
    title: "Everyone at the table sees what just changed.",
    lead: "Open this page in two windows, sign in as a different user in each, and change something.",
  },
  view: ({ host, config, session, ...page }) => {
    const api = new Api(config, session);
    const [, id] = location.hash.match(/^#\/campaign\/([A-Za-z0-9_-]{1,64})$/) ?? [];
    if (id) return campaignView(host, { id, api, me: session.user, ...page });
    return rootsView(host, { word: "campaign", list: api.campaigns, url: api.urlOf(), ...page });
  },
});
