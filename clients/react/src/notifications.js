import { itemOf, newest, put } from "./items.js";
import { useProvided } from "./provider.js";
import { useStateOfRoom } from "./room_state.js";

/** The largest number of notifications that are kept. */
const MOST = 200;

/** @type {readonly "notification.new"[]} */
const TYPES = ["notification.new"];

/**
 * The fields that your service gives a notification, besides these.
 * @typedef {{id: string, title?: string | null, body?: string | null, isRead?: boolean, [field: string]: unknown}} Notification
 */

/**
 * @typedef {object} NotificationsOptions
 * @property {import("./room_state.js").Load<readonly Notification[]>} [load]  the notifications that there are, oldest first.
 *   Those without `isRead: true` count for the badge
 * @property {string} [userId]  by default the `user` of the provider
 * @property {number} [most]  how many are kept, the newest; 200 by default
 * @property {boolean} [enabled]
 */

/**
 * @typedef {object} Notifications
 * @property {readonly Notification[]} notifications
 * @property {number} unread  how many are unread
 * @property {(...ids: string[]) => void} markRead  mark some as read or, without ids, all of them
 */

/**
 * Return the user's notifications, oldest first, and the number of unread ones for a badge. `markRead` changes the page alone:
 * tell your service with a call of your own.
 * @param {NotificationsOptions} [options]
 * @returns {Notifications & import("./room_state.js").Progress}
 */
export function useNotifications({ load, userId, most = MOST, enabled } = {}) {
  const { user } = useProvided("useNotifications");
  const id = userId ?? user;
  const { state, isLoading, error, reload, room, update } = useStateOfRoom("useNotifications", id && `user:${id}`, {
    initial: /** @type {readonly Notification[]} */ ([]),
    load,
    enabled,
    types: TYPES,
    take: (notifications) => newest(notifications, most),
    change: (notifications, event) => newest(put(notifications, itemOf(event.payload)), most),
  });
  return {
    notifications: state,
    unread: state.filter(({ isRead }) => !isRead).length,
    markRead: (...ids) =>
      update((all) => all.map((one) => (ids.length === 0 || ids.includes(one.id) ? { ...one, isRead: true } : one))),
    isLoading,
    error,
    reload,
    room,
  };
}
