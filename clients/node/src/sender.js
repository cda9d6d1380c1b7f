/**
 * Senders: each sends an ephemeral event to any rooms, users and sessions. Every session in them gets it once.
 *
 * @typedef {object} Send
 * @property {string} type  ephemeral in the catalogue
 * @property {object} payload
 * @property {string[]} to  up to 100 rooms, like `workspace:w1/team:m1`, and sessions (`sessionRoom`)
 * @property {number} [version]  1 if it is left out
 * @property {string} [id]  a random one if it is left out
 * @property {string} [userId]  the user who caused it
 * @property {string} [correlationId]
 * @property {("owner" | "editor" | "viewer")[]} [audience]  the roles that may see it; all members if it is left out
 *
 * @typedef {object} Sent
 * @property {string} id
 * @property {number} rooms  how many rooms and sessions it was sent to. Some may have no connected client
 *
 * @typedef {object} Sender
 * @property {(event: Send) => Promise<Sent>} send  rejects with NotSent. It does not repeat, because a session could
 *   get a repeat, too
 */

const TIMEOUT_MS = 5_000;
const SUBJECT = "$BEACONFIRE.send";
const TEMPORARY = new Set(["unavailable", "broker_unavailable", "too_many", "timeout", "internal"]);

/** The event was refused, or it is not known whether it was sent. The message says why. */
export class NotSent extends Error {
  name = "NotSent";

  /** @param {string} message @param {boolean} isTemporary  whether the same call may succeed later */
  constructor(message, isTemporary = false) {
    super(message);
    this.isTemporary = isTemporary;
  }
}

/** The room that means one session of a user. The client has its `sessionId` from the gateway. */
export function sessionRoom(userId, sessionId) {
  return `user:${userId}/session:${sessionId}`;
}

/**
 * Send over `POST /v1/send` of the publisher service.
 *
 * @param {object} options
 * @param {string} options.url  the publisher's address
 * @param {string} options.token  a service token. Its service is the source of the events
 * @param {typeof globalThis.fetch} [options.fetch]
 * @param {number} [options.timeoutMs]
 * @returns {Sender}
 */
export function httpSender({ url, token, fetch = globalThis.fetch, timeoutMs = TIMEOUT_MS }) {
  const address = `${url.replace(/\/+$/, "")}/v1/send`;
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  return {
    async send(event) {
      const body = JSON.stringify(given(event));
      try {
        const answer = await fetch(address, { method: "POST", headers, body, signal: AbortSignal.timeout(timeoutMs) });
        return read(await answer.text());
      } catch (error) {
        if (error instanceof NotSent) throw error;
        throw new NotSent(`the publisher did not answer: ${error.cause?.message ?? error.message}`, true);
      }
    },
  };
}

/**
 * Send by a request to the publisher service over the broker.
 *
 * @param {object} options
 * @param {any} options.nc  a connection of `@nats-io/transport-node` or of `nats`. The shipped permissions need its
 *   `inboxPrefix`, `_INBOX_<user>`
 * @param {string} options.token  a service token. Its service is the source of the events
 * @param {number} [options.timeoutMs]
 * @returns {Sender}
 */
export function natsSender({ nc, token, timeoutMs = TIMEOUT_MS }) {
  return {
    async send(event) {
      const body = JSON.stringify({ serviceToken: token, ...given(event) });
      let answer;
      try {
        answer = await nc.request(SUBJECT, body, { timeout: timeoutMs });
      } catch (error) {
        throw new NotSent(`the publisher did not answer: ${error.message}`, true);
      }
      return read(new TextDecoder().decode(answer.data));
    },
  };
}

/** What both ways send. */
function given({ type, payload, to, version = 1, id, userId, correlationId, audience, ...others }) {
  const unknown = Object.keys(others);
  if (unknown.length > 0) throw new TypeError(`an event that is sent has no ${unknown.join(", ")}`);
  return { type, version, payload, to, id, metadata: { userId, correlationId, audience } };
}

/** The publisher's answer. */
function read(text) {
  let said;
  try {
    said = JSON.parse(text);
  } catch {
    throw new NotSent("the answer is not the publisher's: check the address");
  }
  const { id, rooms, error } = said ?? {};
  if (error) throw new NotSent(`the publisher refused the event: ${error.message}`, TEMPORARY.has(error.code));
  if (id === undefined) throw new NotSent("the answer is not the publisher's: check the address");
  return { id, rooms };
}
