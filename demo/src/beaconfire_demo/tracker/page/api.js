/** The page's calls to the tracker, as one function each. */

import { changed, ServiceApi } from "../../page/api.js";

export class Api extends ServiceApi {
  /** @param {{authUrl: string, trackerUrl: string}} config @param {import("../../page/session.js").Session} session */
  constructor(config, session) {
    super(`${config.trackerUrl}/v1/tracker/workspaces`, "workspace", config, session);
  }

  workspaces = async () => (await this.send("GET", "")).body.workspaces;
  createWorkspace = async (body, key) => (await this.send("POST", "", body, undefined, key)).body.workspace;
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

  // Changes. Each answer has its `mark`.

  create = async (id, path, body, key) => changed(await this.send("POST", `/${id}/${path}`, body, undefined, key));
  update = async (id, path, body, revision) => changed(await this.send("PATCH", `/${id}/${path}`, body, revision));
  remove = (id, path, revision) => this.send("DELETE", `/${id}/${path}`, undefined, revision);
}
