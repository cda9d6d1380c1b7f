/** The calls of the workspace's page to its service, as one function each. */

import { changed, ServiceApi } from "../../page/api.js";

export class Api extends ServiceApi {
  /** @param {{authUrl: string, workspaceUrl: string}} config @param {import("../../page/session.js").Session} session */
  constructor(config, session) {
    super(`${config.workspaceUrl}/v1`, "workspace", config, session);
  }

  workspaces = async () => (await this.send("GET", "/workspaces")).body.workspaces;
  createWorkspace = async (body, key) => (await this.send("POST", "/workspaces", body, undefined, key)).body.workspace;
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

  // Changes. Each answer has its `mark`.

  requestApproval = async (id, body, key) => changed(await this.send("POST", `/workspaces/${id}/approvals`, body, undefined, key));
  decide = async (id, approval, body, revision, key) =>
    changed(await this.send("POST", `/workspaces/${id}/approvals/${approval}/decision`, body, revision, key));
  deleteApproval = (id, approval) => this.send("DELETE", `/workspaces/${id}/approvals/${approval}`);
  addAgent = async (id, body, key) => changed(await this.send("POST", `/workspaces/${id}/agents`, body, undefined, key));
  report = async (id, agent, body) => changed(await this.send("PUT", `/workspaces/${id}/agents/${agent}/status`, body));
  write = async (id, chat, text, key) => changed(await this.send("POST", `/workspaces/${id}/chats/${chat}/messages`, { text }, undefined, key));
  markRead = (ids) => this.send("POST", "/notifications/read", { ids });
}
