// Publish one event to Beaconfire from Node, and do not give up before it is on disk.
//
//   BEACONFIRE_NATS_USER=publisher BEACONFIRE_NATS_PASSWORD=… node publish.js CAMPAIGN SETTLEMENT FIELD…
//
// Ends with 0 when the broker has the event, with 1 and a sentence on standard error when it does not.
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { jetstream, JetStreamApiError } from "@nats-io/jetstream";
import { connect, errors } from "@nats-io/transport-node";

const ATTEMPT_MS = 5_000;
const PAUSE_MS = 250;
const MAX_BYTES = 65_536; // of the body: a larger one may be stored, and is delivered to nobody

const ID = /^[A-Za-z0-9_-]{1,64}$/; // one word of the subject

const { EVENT_ID, GIVE_UP_AFTER_S = "30" } = process.env;
const NATS_URL = process.env.BEACONFIRE_NATS_URL ?? "nats://127.0.0.1:4222";
const NATS_USER = process.env.BEACONFIRE_NATS_USER ?? "";
const NATS_PASSWORD = process.env.BEACONFIRE_NATS_PASSWORD ?? "";
const HOSTS = NATS_URL.replace(/[^,@]*@/g, ""); // without the password that may be in it

/** The event on its subject; the ids in both must be the same. PROTOCOL.md, "Publishing". */
function settlementUpdated(campaignId, settlementId, changedFields) {
  return {
    subject: `campaign.${campaignId}.settlement.${settlementId}`,
    event: {
      id: EVENT_ID ?? randomUUID(), // EVENT_ID: so that a run can be repeated
      type: "settlement_updated",
      version: 1,
      payload: { campaignId, settlementId, operation: "update", changedFields },
      metadata: { timestamp: new Date().toISOString(), source: "example-node" },
    },
  };
}

/** A broker that is not there yet, or not any more, is waited for. */
async function connected(deadline) {
  for (;;) {
    try {
      return await connect({
        servers: NATS_URL.split(","),
        name: "example-node",
        user: NATS_USER,
        pass: NATS_PASSWORD,
        // The shipped table lets a user hear answers to itself only under this prefix.
        inboxPrefix: `_INBOX_${NATS_USER}`,
        maxReconnectAttempts: -1,
        reconnectTimeWait: PAUSE_MS,
      });
    } catch (error) {
      if (error instanceof errors.AuthorizationError) {
        throw new Error(`no connection to ${HOSTS} as "${NATS_USER}": ${error.message}`);
      }
      if (Date.now() > deadline) throw new Error(`no broker answers at ${HOSTS}: ${error.message}`);
    }
    await pause(PAUSE_MS);
  }
}

/** "You may not publish there" comes on the connection, not as an answer to the message. */
function refusals(nc) {
  const seen = { error: undefined };
  (async () => {
    for await (const status of nc.status()) {
      if (status.error instanceof errors.PermissionViolationError) seen.error = status.error;
    }
  })();
  return seen;
}

/** Repeats the same message until the broker says that it is stored, or that it will not be. */
async function publish(nc, { subject, event }, deadline) {
  const js = jetstream(nc);
  const refused = refusals(nc);
  const body = JSON.stringify(event);
  const bytes = Buffer.byteLength(body);
  if (bytes > MAX_BYTES) throw new Error(`an event has at most ${MAX_BYTES} bytes, this one ${bytes}`);
  for (;;) {
    try {
      // By msgID (Nats-Msg-Id) the broker drops a repeat, for 15 minutes: that is what makes it safe to try again.
      return await js.publish(subject, body, {
        msgID: event.id,
        timeout: ATTEMPT_MS,
        expect: { streamName: "EVENTS" },
      });
    } catch (error) {
      const no = refused.error ?? (error instanceof JetStreamApiError ? error : undefined);
      if (no) throw new Error(`the broker refused the event: ${no.message}`);
      if (nc.isClosed()) throw new Error(`no connection to ${HOSTS} as "${NATS_USER}": it was closed`);
      if (Date.now() > deadline) throw new Error(outOfTime(error, subject));
    }
    await pause(PAUSE_MS);
  }
}

/** What the last attempt met, for who has to mend it. */
function outOfTime(error, subject) {
  if (error.cause?.isNoResponders?.()) {
    return `no stream takes ${subject}: has \`beaconfire setup\` been run on this broker?`;
  }
  return `not acknowledged in time, it may be stored all the same: ${error.message}`;
}

async function main([campaign, settlement, ...fields]) {
  if (fields.length === 0) throw new Error("usage: node publish.js CAMPAIGN SETTLEMENT FIELD…");
  for (const id of [campaign, settlement]) {
    if (!ID.test(id)) throw new Error(`"${id}" is no id: it has 1 to 64 letters, digits, _ and -`);
  }
  if (!/^[1-9][0-9]*$/.test(GIVE_UP_AFTER_S)) {
    throw new Error(`GIVE_UP_AFTER_S is "${GIVE_UP_AFTER_S}", and must be a number of seconds`);
  }
  const deadline = Date.now() + Number(GIVE_UP_AFTER_S) * 1000; // in all: waiting for a broker, and every attempt
  const nc = await connected(deadline);
  try {
    const ack = await publish(nc, settlementUpdated(campaign, settlement, fields), deadline);
    console.log(`published, offset ${ack.seq}`); // of a repeat it is the same; ack.duplicate would tell
  } finally {
    await nc.close();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`publish: ${error.message}`);
  process.exitCode = 1;
});
