// Runs unmodified Socket.IO clients for a test: commands come as lines of JSON, and what happens goes back as lines.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
const packages = { 2: "socket.io-client-2", 3: "socket.io-client-3", 4: "socket.io-client" };
const clients = new Map();

function tell(client, got, fields = {}) {
  process.stdout.write(JSON.stringify({ client, got, ...fields }) + "\n");
}

const commands = {
  open({ client, url, version, auth, options }) {
    const state = { auth };
    const { io } = require(packages[version]);
    const socket = (io ?? require(packages[version]))(url, {
      auth: (give) => give(state.auth),
      forceNew: !options.multiplex,
      ...options,
    });
    clients.set(client, { socket, state });
    const emit = socket.onevent;
    socket.onevent = function (packet) {
      tell(client, "event", { name: packet.data[0], args: packet.data.slice(1) });
      emit.call(this, packet);
    };
    socket.on("connect", () => tell(client, "connect", { sid: socket.id, recovered: socket.recovered ?? false }));
    socket.on("disconnect", (reason) => tell(client, "disconnect", { reason }));
    socket.on("connect_error", (error) =>
      tell(client, "connect_error", {
        message: error.message,
        data: error.data ?? null,
        response: error.context?.responseText ?? error.description?.context?.responseText ?? null,
      }));
    socket.io.on("reconnect_attempt", () => tell(client, "reconnect_attempt"));
    socket.io.on("open", () => {
      tell(client, "open", { transport: socket.io.engine.transport.name });
      socket.io.engine.on("upgrade", (transport) => tell(client, "upgrade", { transport: transport.name }));
    });
  },
  emit({ client, name, args, ack }) {
    const { socket } = clients.get(client);
    if (ack === null) socket.emit(name, ...args);
    else socket.emit(name, ...args, (...answer) => tell(client, "ack", { ack, answer }));
  },
  emitBinary({ client, name, bytes, ack }) {
    clients.get(client).socket.emit(name, Buffer.from(bytes), (...answer) => tell(client, "ack", { ack, answer }));
  },
  auth({ client, auth }) {
    clients.get(client).state.auth = auth;
  },
  // What a client does by itself once it has connected, unless its option `upgrade` is false.
  upgrade: ({ client }) => clients.get(client).socket.io.engine._probe("websocket"),
  connect: ({ client }) => clients.get(client).socket.connect(),
  disconnect: ({ client }) => clients.get(client).socket.disconnect(),
  // End the connection below Socket.IO, as a lost network does: the client connects again by itself.
  drop: ({ client }) => clients.get(client).socket.io.engine.close(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  commands[command.do](command);
}
process.exit(0);
