/**
 * Publishers: each repeats an event until it is stored. The event's id makes a repeat harmless, so it is stored once.
 *
 * @typedef {object} Event
 * @property {string} type
 * @property {string} subject
 * @property {object} payload
 * @property {number} [version]  1 if it is left out
 * @property {boolean} [ephemeral]  sent to connected clients only, and never stored
 * @property {string} [id]  a random one if it is left out
 * @property {string} [userId]  the user who caused it
 * @property {string} [correlationId]
 * @property {("owner" | "editor" | "viewer")[]} [audience]  the roles that may see it; all members if it is left out
 *
 * @typedef {object} Published
 * @property {string} id
 * @property {number | null} offset  in the stream; null for an ephemeral event, and while it is not known yet
 *
 * @typedef {object} Publisher
 * @property {(event: Event) => Promise<Published>} publish  rejects with NotPublished
 * @property {(events: Event[]) => Promise<Published[]>} publishAll  publishes up to 500 events, such as one for each of
 *   several rooms. Events of one root keep their order. Rejects if any is refused; the others may be stored then
 */

import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";

const ATTEMPT_MS = 5_000;
const PAUSE_MS = 250;
const TIMEOUT_MS = 30_000;
const MAX_EVENTS = 500;
const MAX_BYTES = 65_536; // of the body: gateways set a larger one aside
const TEMPORARY = new Set([408, 429, 502, 503, 504]);

/** The event was refused, or it is not known whether it was stored. The message says why. */
export class NotPublished extends Error {
  name = "NotPublished";
}

/**
 * Publish onto the broker.
 *
 * @param {object} options
 * @param {any} options.nc  a connection of `@nats-io/transport-node` or of `nats`. The shipped permissions need its
 *   `inboxPrefix`, `_INBOX_<user>`
 * @param {any} [options.js]  `jetstream(nc)` of `@nats-io/jetstream`. Not needed with `nats`
 * @param {string} options.source  the name of the service, in the metadata of its events
 * @param {number} [options.timeoutMs]
 * @returns {Publisher}
 */
export function natsPublisher({ nc, js = nc.jetstream?.(), source, timeoutMs = TIMEOUT_MS }) {
  if (js === undefined) throw new TypeError("natsPublisher needs js: jetstream(nc) of @nats-io/jetstream");
  const publish = async ({ type, subject, payload, version = 1, ephemeral = false, id = randomUUID(), ...about }) => {
    const metadata = metadataOf(about, { timestamp: new Date().toISOString(), source });
    const body = JSON.stringify({ id, type, version, payload, metadata });
    const bytes = Buffer.byteLength(body);
    if (bytes > MAX_BYTES) throw new NotPublished(`an event has at most ${MAX_BYTES} bytes, this one ${bytes}`);
    if (ephemeral) {
      nc.publish(`ephemeral.${subject}`, body);
      await nc.flush();
      return { id, offset: null };
    }
    return { id, offset: await stored(nc, js, { id, subject, body }, Date.now() + timeoutMs) };
  };
  return {
    publish,
    async publishAll(events) {
      checkCount(events);
      const published = [];
      for (const event of events) published.push(await publish(event));
      return published;
    },
  };
}

/**
 * Publish over `POST /v1/events` of the publisher service. It takes no ephemeral events.
 *
 * @param {object} options
 * @param {string} options.url  the publisher's address
 * @param {string} options.token  a service token. Its service is the source of the events
 * @param {typeof globalThis.fetch} [options.fetch]
 * @param {number} [options.timeoutMs]
 * @returns {Publisher}
 */
export function httpPublisher({ url, token, fetch = globalThis.fetch, timeoutMs = TIMEOUT_MS }) {
  const address = `${url.replace(/\/+$/, "")}/v1/events`;
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  /** Send the request until it is taken or refused. */
  const post = async (given) => {
    const body = JSON.stringify(given);
    const deadline = Date.now() + timeoutMs;
    for (let last = "it did not answer"; ; ) {
      const left = deadline - Date.now();
      if (left <= 0) throw new NotPublished(`the publisher at ${url} did not take the event in time: ${last}`);
      let wait = PAUSE_MS;
      try {
        const signal = AbortSignal.timeout(left);
        const answer = await fetch(address, { method: "POST", headers, body, signal });
        const said = await answer.json().catch(() => ({}));
        if (answer.ok) return said;
        last = said.error?.message ?? `status ${answer.status}`;
        if (!TEMPORARY.has(answer.status)) throw new NotPublished(`the publisher refused the event: ${last}`);
        wait = Math.max(wait, said.error?.retryAfterMs ?? 0);
      } catch (error) {
        if (error instanceof NotPublished) throw error;
        last = error.cause?.message ?? error.message;
      }
      await pause(Math.max(0, Math.min(wait, deadline - Date.now())));
    }
  };
  return {
    async publish(event) {
      const given = givenOverHttp(event);
      return published(await post(given), given);
    },
    async publishAll(events) {
      checkCount(events);
      const given = events.map(givenOverHttp);
      const results = (await post(given)).events ?? [];
      const refused = results.filter(({ error }) => error);
      if (refused.length > 0) {
        const first = refused[0].error.message;
        throw new NotPublished(`the publisher refused ${refused.length} of ${events.length} events; the first: ${first}`);
      }
      return given.map((one, place) => published(results[place] ?? {}, one));
    },
  };
}

/** An event as the publisher service takes it. Its id makes a repeat harmless. */
function givenOverHttp({ type, subject, payload, version = 1, ephemeral = false, id = randomUUID(), ...about }) {
  if (ephemeral) throw new NotPublished(`${type} is ephemeral: publish it over NATS`);
  return { id, type, version, subject, payload, metadata: metadataOf(about, {}) };
}

function published({ id, offset }, given) {
  return { id: id ?? given.id, offset: offset ? Number(offset.split(":")[1]) : null };
}

function checkCount(events) {
  if (events.length >= 1 && events.length <= MAX_EVENTS) return;
  throw new RangeError(`publishAll takes 1 to ${MAX_EVENTS} events, not ${events.length}`);
}

function metadataOf({ userId, correlationId, audience, ...others }, metadata) {
  const unknown = Object.keys(others);
  if (unknown.length > 0) throw new TypeError(`an event has no ${unknown.join(", ")}`);
  return { ...metadata, userId, correlationId, audience };
}

/** Repeat the message until the broker says that it is stored, or that it will not be. */
async function stored(nc, js, { id, subject, body }, deadline) {
  const refused = refusals(nc, subject);
  for (;;) {
    try {
      // The broker drops a repeat with the same msgID (Nats-Msg-Id) for 15 minutes.
      const ack = await js.publish(subject, body, { msgID: id, timeout: ATTEMPT_MS, expect: { streamName: "EVENTS" } });
      return ack.seq;
    } catch (error) {
      const no = refused.error ?? (isRefusal(error) ? error : undefined);
      if (no !== undefined) throw new NotPublished(`the broker refused the event: ${no.message}`);
      if (nc.isClosed()) throw new NotPublished("the connection to the broker was closed");
      if (Date.now() > deadline) throw new NotPublished(`not acknowledged in time, it may be stored: ${error.message}`);
    }
    await pause(PAUSE_MS);
  }
}

/** Whether the broker will never take this message: it exceeds a limit of the stream, or breaks a condition. */
function isRefusal(error) {
  const code = error.api_error?.code ?? error.apiError?.().code ?? 0;
  return code >= 400 && code < 500 && code !== 404 && code !== 408;
}

/** Hear that the user may not publish on a subject. The broker says so on the connection, and does not answer. */
function refusals(nc, subject) {
  const seen = { error: undefined };
  (async () => {
    for await (const status of nc.status()) {
      const error = status.error ?? (status.permissionContext && new Error(String(status.data)));
      const about = error?.subject ?? status.permissionContext?.subject;
      if (about === subject) seen.error = error;
    }
  })();
  return seen;
}
