/**
 * A client of `beaconfire.v1.msgpack`: connects to a room, prints what comes as JSON with bytes as {bytes: [...]}, and ends
 * after so many events.
 *
 *     node client.mjs URL TOKEN ROOM EVENTS [CURSOR]
 */
import { decode, encode } from "@msgpack/msgpack";

const [url, token, room, events, cursor] = process.argv.slice(2);
const socket = new WebSocket(`${url}/ws`, "beaconfire.v1.msgpack");
socket.binaryType = "arraybuffer";
let left = Number(events);

socket.onopen = () => socket.send(encode({ type: "connect", id: 1, token, rooms: [room], ...(cursor && { cursor }) }));
socket.onmessage = ({ data }) => {
  const message = decode(data);
  console.log(JSON.stringify(message, (_key, value) => (value instanceof Uint8Array ? { bytes: [...value] } : value)));
  if (message.type === "event" && --left === 0) socket.close();
};
socket.onclose = ({ code }) => console.log(JSON.stringify({ type: "closed", code }));
