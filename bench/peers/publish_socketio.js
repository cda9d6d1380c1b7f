// Publish for Socket.IO like a separate service: read lines "room event" from stdin, and use its emitter. Argument: Redis URL.
const { Emitter } = require("@socket.io/redis-emitter");
const Redis = require("ioredis");

const emitter = new Emitter(new Redis(process.argv[2]));
let rest = "";
process.stdin.setEncoding("utf8");
process.stdin.on("data", (text) => {
  const lines = (rest + text).split("\n");
  rest = lines.pop();
  for (const line of lines) {
    const space = line.indexOf(" ");
    emitter.to(line.slice(0, space)).emit("event", JSON.parse(line.slice(space + 1)));
  }
});
process.stdin.on("end", () => process.exit());
console.log("ready");
