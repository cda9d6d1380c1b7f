import { change, itemOf, put, remove } from "./items.js";
import { useStateOfRoom } from "./room_state.js";

/** @type {readonly ("approval.created" | "approval.updated" | "approval.deleted")[]} */
const TYPES = ["approval.created", "approval.updated", "approval.deleted"];

/**
 * The fields that your service gives an approval, besides these.
 * @typedef {{id: string, title?: string | null, status?: string | null, [field: string]: unknown}} Approval
 */

/**
 * @typedef {object} ApprovalsOptions
 * @property {import("./room_state.js").Load<readonly Approval[]>} [load]  the approvals that there are. Without it, the list has
 *   those that were created since
 * @property {boolean} [enabled]
 */

/**
 * Return the approvals of a workspace, oldest first, and keep them up to date.
 * @param {string | null | undefined} workspaceId
 * @param {ApprovalsOptions} [options]
 * @returns {{approvals: readonly Approval[]} & import("./room_state.js").Progress}
 */
export function useApprovals(workspaceId, { load, enabled } = {}) {
  const room = workspaceId && `workspace:${workspaceId}`;
  const { state, isLoading, error, reload, room: status } = useStateOfRoom("useApprovals", room, {
    initial: /** @type {readonly Approval[]} */ ([]),
    load,
    enabled,
    types: TYPES,
    change: (approvals, event) => {
      const item = itemOf(event.payload);
      if (event.type === "approval.deleted") return remove(approvals, item.id);
      return event.type === "approval.created" ? put(approvals, item) : change(approvals, item);
    },
  });
  return { approvals: state, isLoading, error, reload, room: status };
}
