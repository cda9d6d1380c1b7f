/**
 * Publish and send events to Beaconfire from a service in Node, over NATS or HTTP. Each event of ours has a one-line
 * helper.
 */

export { httpPublisher, natsPublisher, NotPublished } from "./publisher.js";
export { httpSender, natsSender, NotSent, sessionRoom } from "./sender.js";
export * from "./broadcast.js";
