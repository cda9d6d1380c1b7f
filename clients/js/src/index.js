/**
 * Beaconfire's client for browsers, and for Node.
 *
 * This is the core. `package.json` names the other entries. The core loads what asks for rooms with the first subscription. It
 * loads what it needs only at times (the fallbacks over HTTP, `seen`, the renewal of tokens) when it is needed.
 */

export { Client, connect } from "./client.js";
export { retryOf } from "./protocol.js";
export { Subscription } from "./room.js";
export { Store } from "./store.js";

/** @typedef {import("./client.js").ClientEvents} ClientEvents */
/** @typedef {import("./client.js").ClientOptions} ClientOptions */
/** @typedef {import("./client.js").Problem} Problem */
/** @typedef {import("./client.js").State} State */
/** @typedef {import("./client.js").Status} Status */
/** @typedef {import("./client.js").TokenReason} TokenReason */
/** @typedef {import("./events.d.ts").AnyEvent} AnyEvent */
/** @typedef {import("./events.d.ts").Events} Events */
/** @typedef {import("./events.d.ts").EventType} EventType */
/** @typedef {import("./messages.d.ts").LeaveReason} LeaveReason */
/** @typedef {import("./messages.d.ts").PresenceStatus} PresenceStatus */
/** @typedef {import("./messages.d.ts").PresentUser} PresentUser */
/** @typedef {import("./messages.d.ts").ResyncReason} ResyncReason */
/** @typedef {import("./messages.d.ts").RoomPresence} RoomPresence */
/** @typedef {import("./protocol.js").EventFrame} EventFrame */
/** @typedef {import("./protocol.js").Refusal} Refusal */
/** @typedef {import("./room.js").RoomStatus} RoomStatus */
/** @typedef {import("./ways.js").Transport} Transport */
/** @typedef {import("./ways.js").Way} Way */
/**
 * @template {EventType} Type
 * @typedef {import("./protocol.js").EventOf<Type>} EventOf
 */
/**
 * @template {EventType} [Type=EventType]
 * @typedef {import("./room.js").RoomHandlers<Type>} RoomHandlers
 */
/**
 * @template {EventType} [Type=EventType]
 * @typedef {import("./room.js").RoomOptions<Type>} RoomOptions
 */
