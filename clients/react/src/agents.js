import { itemOf, newest, put } from "./items.js";
import { useStateOfRoom } from "./room_state.js";

/** The largest number of runs that are kept. */
const MOST_RUNS = 200;

/** @type {readonly ("agent.status.changed" | keyof typeof RUNS)[]} */
const TYPES = ["agent.status.changed", "ai.run.started", "ai.run.progress", "ai.run.completed", "ai.run.failed"];
const RUNS = /** @type {const} */ ({
  "ai.run.started": "running",
  "ai.run.progress": "running",
  "ai.run.completed": "completed",
  "ai.run.failed": "failed",
});

/**
 * @typedef {{id: string, status?: string, previousStatus?: string | null, [field: string]: unknown}} Agent
 * @typedef {{id: string, agentId?: string | number | null, state: "running" | "completed" | "failed", [field: string]: unknown}} Run
 * @typedef {{agents: readonly Agent[], runs: readonly Run[]}} Agents
 */

/**
 * @typedef {object} AgentsOptions
 * @property {import("./room_state.js").Load<{agents?: readonly Agent[], runs?: readonly Run[]}>} [load]  the agents and runs that
 *   there are. Without it, the lists have those that were heard of since
 * @property {boolean} [enabled]
 */

/** @type {Agents} */
const NONE = { agents: [], runs: [] };

/**
 * Return the agents of a workspace with their status, and the newest 200 runs of models, and keep both up to date. Each run
 * has the fields of all its events, and a `state`.
 * @param {string | null | undefined} workspaceId
 * @param {AgentsOptions} [options]
 * @returns {Agents & import("./room_state.js").Progress}
 */
export function useAgents(workspaceId, { load, enabled } = {}) {
  const room = workspaceId && `workspace:${workspaceId}`;
  const { state, isLoading, error, reload, room: status } = useStateOfRoom("useAgents", room, {
    initial: NONE,
    load,
    enabled,
    types: TYPES,
    take: (/** @type {Partial<Agents>} */ loaded) => ({ ...NONE, ...loaded }),
    change: ({ agents, runs }, event) => {
      if (event.type === "agent.status.changed") {
        return { agents: put(agents, itemOf({ ...event.payload, id: event.payload.agentId })), runs };
      }
      const run = { ...itemOf({ ...event.payload, id: event.payload.runId }), state: RUNS[event.type] };
      return { agents, runs: newest(put(runs, run), MOST_RUNS) };
    },
  });
  return { ...state, isLoading, error, reload, room: status };
}
