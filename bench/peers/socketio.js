// Socket.IO 4 with its Redis adapter, as its documentation sets it up. Arguments: port, Redis URL.
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");
const Redis = require("ioredis");

const [port, redis] = process.argv.slice(2);
const http = require("http").createServer();
const publisher = new Redis(redis);
const subscriber = new Redis(redis, { enableReadyCheck: false });
const io = new Server(http, {
  transports: ["websocket"],
  adapter: createAdapter(publisher, subscriber),
  perMessageDeflate: false,
  serveClient: false,
});
io.on("connection", (socket) =>
  socket.on("subscribe", (room) => {
    socket.join(room);
    socket.emit("subscribed", room);
  }),
);
publisher.once("ready", () => http.listen(Number(port), "127.0.0.1", 4096, () => console.log("ready")));
