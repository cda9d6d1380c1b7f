// Send events as tests/clients/test_sending.py asks: `node sends.mjs nats|http`.
import * as beaconfire from "./publisher/src/index.js";

const { ADDRESS, TOKEN, NATS_USER, NATS_PASSWORD, CALLS } = process.env;

async function connected() {
  const { connect } = await import("@nats-io/transport-node");
  return connect({ servers: ADDRESS, user: NATS_USER, pass: NATS_PASSWORD, inboxPrefix: `_INBOX_${NATS_USER}` });
}

const nc = process.argv[2] === "nats" ? await connected() : undefined;
const sender = nc
  ? beaconfire.natsSender({ nc, token: TOKEN })
  : beaconfire.httpSender({ url: ADDRESS, token: TOKEN });
const results = [];
for (const call of JSON.parse(CALLS)) {
  try {
    results.push(await sender.send(call));
  } catch (error) {
    results.push({ error: `${error.name}: ${error.message}`, isTemporary: error.isTemporary });
  }
}
await nc?.close();
console.log(JSON.stringify({ results, room: beaconfire.sessionRoom("u1", "s1") }));
