/** The calls of the workspace's page to its service, as one function each. */

import { ServiceApi } from "../../page/api.js";

export class Api extends ServiceApi {
  /** @param {{authUrl: string, workspaceUrl: string}} config @param {import("../../page/session.js").Session} session */
  constructor(config, session) {
    super(`${config.workspaceUrl}/v1/workspaces`, "workspace", config, session);
  }

  workspaces = async () => (await this.send("GET", "")).body.workspaces;
  createWorkspace = async (body, key) => (await this.send("POST", "", body, undefined, key)).body.workspace;
  workspace = async (id) => (await this.send("GET", `/${id}`)).body.workspace;
}
