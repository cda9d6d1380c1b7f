"use client";

import { useOfflineQueue, usePresence, useRoomState, useWebSocket } from "@beaconfire/react";

export function Members({ id }) {
  const { state } = useWebSocket();
  const { count } = usePresence(`workspace:${id}`);
  const { pending } = useOfflineQueue();
  const { isLoading } = useRoomState(`workspace:${id}`, { initial: [], load: async () => ({ data: [] }), change: (list) => list });
  return (
    <p>
      {state}, {isLoading ? "loading" : "loaded"}, {count} here, {pending.length} changes wait
    </p>
  );
}
