// Not a part of the page: what the compiler must know, and what it must refuse.
import { useApprovals, useCampaign, useRoomState, useSubscription, useWebSocket } from "@beaconfire/react";

export function useTypes(): "in_depot" | "in_transit" | "delivered" | string {
  let seen = "";
  useCampaign("c1", {
    on: {
      world_time_changed: ({ payload }) => {
        seen = payload.newTime;
        // @ts-expect-error The event has no such field.
        seen = payload.oldTime;
      },
    },
  });
  useSubscription("depot:d1", {
    on: {
      "parcel.moved": ({ payload }) => {
        // @ts-expect-error No parcel has this status.
        if (payload.status === "lost") seen = payload.status;
      },
    },
  });
  // @ts-expect-error There is no such type of event.
  useSubscription("depot:d1", { on: { "parcel.sold": () => {} } });
  // @ts-expect-error A room has no such state.
  if (useApprovals("w1").room.state === "open") seen = "open";
  // @ts-expect-error A connection has no such state.
  if (useWebSocket().state === "open") seen = "open";
  const { state } = useRoomState("campaign:c1", {
    initial: 0,
    types: ["settlement_updated"],
    change: (count, { payload }) => (payload.operation === "create" ? count + 1 : count),
  });
  return seen + state.toFixed();
}
