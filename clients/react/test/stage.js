/** The services that the tests use, and people who do something there. tests/clients/stage.py starts them. */

import { WebSocket } from "ws"; // jsdom's own does not work under Vitest

/** @type {{gatewayUrl: string, publisherUrl: string, campaign: string, workspace: string, backend: string, people: any}} */
export const stage = JSON.parse(process.env["BEACONFIRE_STAGE"] ?? "null");
if (stage === null) throw new Error("Run these tests with `pytest tests/clients/test_react.py`, which starts the services.");

export const socketUrl = `${stage.gatewayUrl.replace("http", "ws")}/ws`;
export const { Owner: owner, Viewer: viewer } = stage.people;
export const room = `campaign:${stage.campaign}`;
export const workspaceRoom = `workspace:${stage.workspace}`;

/** The options of a provider whose user is signed in. */
export const signedIn = (person = owner) => ({ url: socketUrl, user: person.id, getToken: async () => person.token, WebSocket });

/** Call the publisher, as a person or as the backend. Resolves with the answer's JSON. */
export async function call(method, path, body, token = owner.token) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
  const answer = await fetch(`${stage.publisherUrl}/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return { cursor: answer.headers.get("X-Beaconfire-Cursor"), mark: answer.headers.get("X-Beaconfire-Offset"), ...(text && JSON.parse(text)) };
}

/** Publish an event of the workspace, or a notification. */
export const publish = (type, payload) => call("POST", "/events", { type, payload }, stage.backend);

export const campaignPath = `/campaigns/${stage.campaign}`;

/** Create a settlement in the campaign. */
export const createSettlement = async (name) => (await call("POST", `${campaignPath}/settlements`, { name })).settlement;

let last = 0;
/** An id that no other test uses. */
export const freshId = () => `x${process.pid}-${(last += 1)}`;
