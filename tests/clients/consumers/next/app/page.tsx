"use client";

import { connect, type Client } from "@beaconfire/client";
import { eventsOf } from "@beaconfire/client/loop";
import "@beaconfire/client/styles.css";

export async function follow(getToken: () => Promise<string>): Promise<Client> {
  const client = connect({ url: "wss://live.example/ws", getToken });
  client.subscribe("campaign:c1", { on: { settlement_updated: ({ payload }) => console.log(payload.operation) } });
  for await (const event of eventsOf(client, "campaign:c1")) console.log(event.type);
  return client;
}
