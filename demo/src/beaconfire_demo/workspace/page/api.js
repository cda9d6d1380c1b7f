/** The calls of the workspace's page to its service, as one function each. */

import { ServiceApi } from "../../page/api.js";

export class Api extends ServiceApi {
  /** @param {{authUrl: string, workspaceUrl: string}} config @param {import("../../page/session.js").Session} session */
  constructor(config, session) {
    super(`${config.workspaceUrl}/v1`, "workspace", config, session);
  }

  workspaces = async () => (await this.send("GET", "/workspaces")).body.workspaces;
  /** With the cursor to continue from. Everything that is read afterwards contains at least as much. */
  workspaceAt = async (id) => {
    const { body, cursor } = await this.send("GET", `/workspaces/${id}`);
    return { workspace: body.workspace, cursor };
  };
  approvals = async (id) => (await this.send("GET", `/workspaces/${id}/approvals`)).body.approvals;
  agents = async (id) => (await this.send("GET", `/workspaces/${id}/agents`)).body.agents;
  messages = async (id, chat, before) => {
    const query = before === undefined ? "" : `?before=${before}`;
    return (await this.send("GET", `/workspaces/${id}/chats/${chat}/messages${query}`)).body.messages;
  };
  notifications = async () => (await this.send("GET", "/notifications")).body.notifications;

  /** Needs an answer now. All other changes go through the offline queue. */
  markRead = (ids) => this.send("POST", "/notifications/read", { ids });

  urlOf(id = "", path = "") {
    return super.urlOf("workspaces", [id, path].filter(Boolean).join("/"));
  }
}
