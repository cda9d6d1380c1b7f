/** Publish events to Beaconfire from a service in Node: over NATS or over HTTP, any event, or one line for each of ours. */

export { httpPublisher, natsPublisher, NotPublished } from "./publisher.js";
export * from "./broadcast.js";
