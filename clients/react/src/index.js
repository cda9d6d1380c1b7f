"use client";

/** React hooks and components for Beaconfire. Each of them works on the server, and under StrictMode. */

export { useAgents } from "./agents.js";
export { useApprovals } from "./approvals.js";
export { useCacheSync } from "./cache.js";
export { useChat } from "./chat.js";
export { useWebSocket } from "./connection.js";
export { ConnectionIndicator } from "./indicator.js";
export { useNotifications } from "./notifications.js";
export { useOfflineQueue } from "./offline.js";
export { useOptimistic } from "./optimistic.js";
export { usePresence, usePresenceStatus, useSelection, useTyping } from "./presence.js";
export { BeaconfireProvider, useWebSocketConnection } from "./provider.js";
export { useRoomState } from "./room_state.js";
export { useCampaign, useSettlement, useStore, useStructure, useSubscription } from "./subscription.js";
export { ToastProvider, useToasts } from "./toasts.js";

/** @typedef {import("./agents.js").Agent} Agent */
/** @typedef {import("./agents.js").Run} Run */
/** @typedef {import("./approvals.js").Approval} Approval */
/** @typedef {import("./chat.js").ChatMessage} ChatMessage */
/** @typedef {import("./connection.js").ConnectionState} ConnectionState */
/** @typedef {import("./notifications.js").Notification} Notification */
/** @typedef {import("./offline.js").OfflineChanges} OfflineChanges */
/** @typedef {import("./offline.js").OfflineOptions} OfflineOptions */
/**
 * @template Value
 * @typedef {import("./optimistic.js").OptimisticValue<Value>} OptimisticValue
 */
/** @typedef {import("./provider.js").BeaconfireProviderProps} BeaconfireProviderProps */
/** @typedef {import("./room_state.js").Progress} Progress */
/** @typedef {import("./toasts.js").EventToasts} EventToasts */
/**
 * @template Data
 * @typedef {import("@beaconfire/client/follow").Loaded<Data>} Loaded
 */
