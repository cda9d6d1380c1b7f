// Follow rooms with unmodified clients of socket.io, and print what happens to each: one JSON object a line.
//
// node followers.mjs '[{"name", "url", "path", "token", "transports", "rooms"}, …]'
//
// A client that was not recovered subscribes again, as an application does.

import { io } from "socket.io-client";

const OURS = "beaconfire:";
const ANSWER_MS = 5_000;

function follow({ name, url, token, transports, rooms }) {
  const print = (kind, more = {}) => process.stdout.write(`${JSON.stringify({ name, is: kind, ...more })}\n`);
  const socket = io(url, {
    transports,
    forceNew: true, // clients of one process would share a connection
    auth: { token },
    reconnectionDelay: 50,
    reconnectionDelayMax: 300,
    timeout: 5_000, // of one attempt
  });
  let subscribed = false;

  async function subscribe() {
    const connection = socket.id;
    while (socket.connected && socket.id === connection && !subscribed) {
      try {
        const answer = await socket.timeout(ANSWER_MS).emitWithAck("subscribe", { rooms });
        if (answer.success) {
          subscribed = true;
          print("subscribed", { cursor: answer.cursor });
        } else {
          print("refused", { why: answer.error });
        }
      } catch {
        // No answer in time, or the connection is lost: then the next one subscribes.
      }
    }
  }

  socket.on("connect", () => {
    print("connected", { recovered: socket.recovered });
    if (!socket.recovered) {
      subscribed = false;
    }
    subscribe();
  });
  socket.io.on("open", () => socket.io.engine.once("upgrade", () => print("upgraded")));
  socket.on("disconnect", (why) => print("lost", { why }));
  socket.on("connect_error", (error) => print("failed", { why: error.message, again: socket.active }));
  socket.onAny((type, payload, cursor) => {
    if (!type.startsWith(OURS)) {
      print("event", { payload, cursor });
    } else if (type === `${OURS}resync`) {
      print("resync", { payload });
    }
  });
}

for (const one of JSON.parse(process.argv[2])) {
  follow(one);
}
