import { Client, connect } from "@beaconfire/client";
import { ERRORS } from "@beaconfire/client/errors";
import { eventsOf } from "@beaconfire/client/loop";

const client: Client = connect({ url: "ws://127.0.0.1:9/ws", getToken: () => "token", transport: "websocket" });
const events = eventsOf(client, "campaign:c1", { types: ["world_time_changed"] });
void events.next().then(({ value }) => console.log(value?.payload.newTime));
client.close();
console.log(client.state, ERRORS["forbidden"]?.close);
process.exit();

declare const process: { exit(): never };
