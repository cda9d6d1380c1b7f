// Publish one event to Beaconfire from Node, and do not give up before it is on disk.
//
//   NATS_URL=nats://127.0.0.1:4222 NATS_USER=publisher NATS_PASSWORD=… node publish.js CAMPAIGN SETTLEMENT FIELD…
//
// Ends with 0 when the broker has the event, with 1 and a sentence on standard error when it does not.
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { jetstream, JetStreamApiError } from "@nats-io/jetstream";
import { connect, PermissionViolationError } from "@nats-io/transport-node";

const GIVE_UP_AFTER_MS = 30_000;
const ATTEMPT_MS = 5_000;
const PAUSE_MS = 250;

const { NATS_URL = "nats://127.0.0.1:4222", NATS_USER = "", NATS_PASSWORD = "", EVENT_ID } = process.env;

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

async function connected() {
  try {
    return await connect({
      servers: NATS_URL.split(","),
      name: "example-node",
      user: NATS_USER,
      pass: NATS_PASSWORD,
      // The shipped table lets a user hear answers to itself only under this prefix.
      inboxPrefix: `_INBOX_${NATS_USER}`,
    });
  } catch (error) {
    throw new Error(`no connection to ${NATS_URL} as "${NATS_USER}": ${error.message}`);
  }
}

/** "You may not publish there" comes on the connection, not as an answer to the message. */
function refusals(nc) {
  const seen = { error: undefined };
  (async () => {
    for await (const status of nc.status()) {
      if (status.error instanceof PermissionViolationError) seen.error = status.error;
    }
  })();
  return seen;
}

/** Repeats the same message until the broker says that it is stored, or that it will not be. */
async function publish(nc, { subject, event }) {
  const js = jetstream(nc);
  const refused = refusals(nc);
  const body = JSON.stringify(event);
  const deadline = Date.now() + GIVE_UP_AFTER_MS;
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
      if (Date.now() > deadline) {
        throw new Error(`not acknowledged within ${GIVE_UP_AFTER_MS / 1000} s: ${error.message}`);
      }
    }
    await pause(PAUSE_MS);
  }
}

async function main([campaign, settlement, ...fields]) {
  if (fields.length === 0) throw new Error("usage: node publish.js CAMPAIGN SETTLEMENT FIELD…");
  const nc = await connected();
  try {
    const ack = await publish(nc, settlementUpdated(campaign, settlement, fields));
    console.log(`published, offset ${ack.seq}`); // of a repeat it is the same; ack.duplicate would tell
  } finally {
    await nc.close();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`publish: ${error.message}`);
  process.exitCode = 1;
});
