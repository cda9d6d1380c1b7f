// uWebSockets.js with its own topics, fed by Redis. Arguments: port, Redis URL.
const uws = require("@btc-vision/uwebsockets.js");
const Redis = require("ioredis");

const [port, redis] = process.argv.slice(2);
const subscriber = new Redis(redis);
const subscriptions = new Map();
const app = uws.App().ws("/ws", {
  compression: uws.DISABLED,
  idleTimeout: 120,
  message: (socket, message) => {
    const room = JSON.parse(Buffer.from(message).toString()).subscribe;
    socket.subscribe(room);
    if (!subscriptions.has(room)) subscriptions.set(room, subscriber.subscribe("room." + room));
    subscriptions.get(room).then(() => socket.send(JSON.stringify({ subscribed: room })));
  },
});
subscriber.on("messageBuffer", (channel, event) => app.publish(channel.toString().slice(5), event, false));
// Subscribe only when Redis is ready: ioredis drops a connection that subscribes during its readiness check.
subscriber.once("ready", () => app.listen("127.0.0.1", Number(port), () => console.log("ready")));
