// A browser client in Node, over one way to the gateway. It prints what it is told, and subscribes to what it reads.

import readline from "node:readline";

import { Client } from "../../clients/js/src/index.js";

const [url, transport, ...tokens] = process.argv.slice(2);
const say = (line) => console.log(JSON.stringify(line));

const client = new Client({
  url,
  transport,
  getToken: async ({ reason }) => {
    say({ token: reason });
    return tokens.length > 1 ? tokens.shift() : tokens[0];
  },
});
client.on("state", ({ state, transport, error }) => say({ state, transport, error }));
client.on("error", (error) => say({ error }));

const subscribe = ({ room, cursor, types }) =>
  client.subscribe(
    room,
    {
      onReady: () => say({ ready: room }),
      onEvent: ({ payload }, { offset }) => say({ event: payload.settlementId, room, offset }),
      onLeft: ({ reason }) => say({ left: room, reason }),
      onError: ({ code }, { willRetry }) => say({ refused: room, code, willRetry }),
      onResync: ({ reason }) => say({ resync: room, reason }),
    },
    { cursor, types },
  );

readline.createInterface({ input: process.stdin }).on("line", (line) => subscribe(JSON.parse(line))).on("close", () => process.exit(0));
process.on("unhandledRejection", (reason) => say({ unhandled: String(reason) }));
client.connect();
