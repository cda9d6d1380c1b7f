/** The campaign's calls to the publisher, as one function each. */

import { changed, ServiceApi } from "../../page/api.js";

export class Api extends ServiceApi {
  /** @param {{authUrl: string, publisherUrl: string}} config @param {import("../../page/session.js").Session} session */
  constructor(config, session) {
    super(`${config.publisherUrl}/v1/campaigns`, "campaign", config, session);
  }

  campaigns = async () => (await this.send("GET", "")).body.campaigns;
  campaign = async (id) => (await this.campaignAt(id)).campaign;
  /** With the cursor to continue from. Everything that is read afterwards contains at least as much. */
  campaignAt = async (id) => at(await this.send("GET", `/${id}`));
  kingdoms = async (id) => (await this.send("GET", `/${id}/kingdoms`)).body.kingdoms;
  settlements = async (id) => (await this.send("GET", `/${id}/settlements`)).body.settlements;
  structures = async (id, settlement) => (await this.send("GET", `/${id}/settlements/${settlement}/structures`)).body.structures;
  entities = async (id) => (await this.send("GET", `/${id}/entities`)).body.entities;

  // Changes that need an answer now. Each answer has its `mark`. All others go through the offline queue.

  advance = async (id, advanceSeconds) => {
    const { body, mark } = await this.send("POST", `/${id}/world-time`, { advanceSeconds });
    return { thing: body.campaign, mark };
  };
  setClock = async (id, clock) => changed(await this.send("PUT", `/${id}/clock`, clock));
  stopClock = (id) => this.send("DELETE", `/${id}/clock`);

  /** The `{thing}` at a path below a campaign: `settlements/s1`, `settlements/s1/structures/t1`, `entities/location/l1`. */
  read = async (id, path) => changed(await this.send("GET", `/${id}/${path}`)).thing;
}

const at = ({ body, cursor }) => ({ campaign: body.campaign, cursor });
