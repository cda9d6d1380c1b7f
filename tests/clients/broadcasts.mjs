// Publish one of each event with the helpers, as tests/clients/test_broadcast.py asks: `node broadcasts.mjs nats|http`.
import * as beaconfire from "./publisher/src/index.js";

const { ADDRESS, TOKEN, NATS_USER, NATS_PASSWORD, USER_ID, CALLS } = process.env;

async function connected() {
  const [{ connect }, { jetstream }] = await Promise.all([
    import("@nats-io/transport-node"),
    import("@nats-io/jetstream"),
  ]);
  const nc = await connect({ servers: ADDRESS, user: NATS_USER, pass: NATS_PASSWORD, inboxPrefix: `_INBOX_${NATS_USER}` });
  return { nc, publisher: beaconfire.natsPublisher({ nc, js: jetstream(nc), source: "theirs" }) };
}

const isNats = process.argv[2] === "nats";
const { nc, publisher } = isNats
  ? await connected()
  : { publisher: beaconfire.httpPublisher({ url: ADDRESS, token: TOKEN }) };
const results = [];
for (const [name, options] of JSON.parse(CALLS)) {
  try {
    results.push(await (beaconfire[name] ? beaconfire[name](publisher, options) : publisher[name](options)));
  } catch (error) {
    results.push({ error: `${error.name}: ${error.message}` });
  }
}
await nc?.close();
console.log(JSON.stringify(results));
