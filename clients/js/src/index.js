/** Beaconfire's browser client. */

export { Client } from "./client.js";
export { ERRORS } from "./errors.js";
export { mountIndicator } from "./indicator.js";
export { retryOf } from "./protocol.js";
export { Subscription } from "./room.js";
export { NotSeen } from "./seen.js";
export { announceConnection, Toasts } from "./toasts.js";
