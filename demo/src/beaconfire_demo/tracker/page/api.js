/** What the page reads from the tracker, as one function each. Its changes go through the offline queue. */

import { changed, ServiceApi } from "../../page/api.js";

export class Api extends ServiceApi {
  /** @param {{authUrl: string, trackerUrl: string}} config @param {import("../../page/session.js").Session} session */
  constructor(config, session) {
    super(`${config.trackerUrl}/v1/tracker/workspaces`, "workspace", config, session);
  }

  workspaces = async () => (await this.send("GET", "")).body.workspaces;
  /** With the cursor to continue from. Everything that is read afterwards contains at least as much. */
  workspaceAt = async (id) => {
    const { body, cursor } = await this.send("GET", `/${id}`);
    return { workspace: body.workspace, cursor };
  };
  /** The things at a path below a workspace: `teams`, `issues`, `teams/t1/issues/i1/comments`. */
  list = async (id, path) => Object.values((await this.send("GET", `/${id}/${path}`)).body)[0];
  /** A page of the activity feed, of the whole workspace or of an issue. `before`: the `next` of the page before. */
  activity = async (id, { issueId, before } = {}) => {
    const query = new URLSearchParams(Object.entries({ issueId, before }).filter(([, value]) => value));
    return (await this.send("GET", `/${id}/activity?${query}`)).body;
  };

  read = async (id, path) => changed(await this.send("GET", `/${id}/${path}`)).thing;
}
