import { itemOf, newest, put } from "./items.js";
import { useStateOfRoom } from "./room_state.js";

/** The largest number of messages that are kept. */
const MOST = 500;

/** @type {readonly "chat.message"[]} */
const TYPES = ["chat.message"];

/**
 * The fields that your service gives a message, besides these.
 * @typedef {{id: string, senderId?: string | number | null, text?: string | null, [field: string]: unknown}} ChatMessage
 */

/**
 * @typedef {object} ChatOptions
 * @property {import("./room_state.js").Load<readonly ChatMessage[]>} [load]  the messages that there are, oldest first
 * @property {string} [workspaceId]  with it, the gateway need not look it up
 * @property {number} [most]  how many messages are kept, the newest; 500 by default
 * @property {boolean} [enabled]
 */

/**
 * Return the messages of a chat, oldest first, and keep them up to date. `useTyping` says who types.
 * @param {string | null | undefined} chatId
 * @param {ChatOptions} [options]
 * @returns {{messages: readonly ChatMessage[]} & import("./room_state.js").Progress}
 */
export function useChat(chatId, { load, workspaceId, most = MOST, enabled } = {}) {
  const room = chatId && (workspaceId ? `workspace:${workspaceId}/chat:${chatId}` : `chat:${chatId}`);
  const { state, isLoading, error, reload, room: status } = useStateOfRoom("useChat", room, {
    initial: /** @type {readonly ChatMessage[]} */ ([]),
    load,
    enabled,
    types: TYPES,
    take: (messages) => newest(messages, most),
    change: (messages, event) => newest(put(messages, itemOf(event.payload)), most),
  });
  return { messages: state, isLoading, error, reload, room: status };
}
