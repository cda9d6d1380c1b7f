/** The largest rooms, by clients and by users. */

import { h } from "../../dom.js";
import { call } from "../api.js";
import { failures, headline, search, table } from "../parts.js";
import { some, whole } from "../words.js";

export const rooms = {
  title: "Rooms",
  start({ query, go }) {
    const wanted = query.get("search") ?? "";
    let seen = /** @type {any} */ (null);
    return {
      everyMs: 5_000,
      async load() {
        seen = await call("rooms", { query: { search: wanted } });
      },
      render: () => [
        headline("Rooms", "Rooms that clients hear, the largest first."),
        search("find", [["search", "Name contains", "campaign:c1", wanted]], "Find"),
        seen ? failures(seen.failed) : null,
        h("section", { class: "card block" }, ...(seen ? found(seen) : [h("p", { class: "quiet loading" }, "Loading…")])),
      ].filter(Boolean),
      actions: {
        find: (form) => go({ search: String(new FormData(form).get("search")).trim() }),
      },
    };
  },
};

function found(seen) {
  const most = Math.max(1, ...seen.rooms.map((one) => one.clients));
  const rows = seen.rooms.map((one) => ({
    key: one.room,
    cells: [
      h("a", { class: "id", href: `#/sessions?${new URLSearchParams({ room: one.room })}` }, one.room),
      h("span", { class: "meter" }, h("meter", { min: 0, max: most, value: one.clients, "aria-hidden": "true" }), whole(one.clients)),
      one.users === null ? "–" : whole(one.users),
      h("a", { href: `#/events?${new URLSearchParams({ room: one.room })}` }, "Events"),
    ],
  }));
  const presence = seen.isCountingUsers ? "" : " Users are counted once a client or backend has asked for presence.";
  return [
    h("p", { class: "quiet" }, `${some(seen.total, "room")}.${presence}`),
    table("Rooms", ["Room", "Clients", "Users present", "Live"], rows, "No client is in such a room."),
  ];
}
