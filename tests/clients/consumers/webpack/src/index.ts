import { connect } from "@beaconfire/client";
import { mountIndicator } from "@beaconfire/client/indicator";
import { watchPresence } from "@beaconfire/client/people";
import "@beaconfire/client/styles.css";

const client = connect({ url: "wss://live.example/ws", getToken: () => Promise.resolve("token") });
mountIndicator(document.body, client);
client.subscribe("campaign:c1", { onEvent: ({ payload }) => console.log(payload.operation) }, { types: ["settlement_updated"] });
watchPresence(client, "campaign:c1").users.subscribe(() => console.log(client.status.attempt));
