/** Sessions of all gateways: found by user or room, disconnected, or given their limits back. */

import { h } from "../../dom.js";
import { call } from "../api.js";
import { badge, careful, failures, headline, isSure, search, table } from "../parts.js";
import { some, whole } from "../words.js";

const STATES = { live: "good", catching_up: "wait", held: "wait" };

export const sessions = {
  title: "Sessions",
  start({ query, go, draw, refresh, me }) {
    const wanted = { user: query.get("user") ?? "", room: query.get("room") ?? "" };
    let seen = /** @type {any} */ (null);
    let said = "";
    const act = async (element, what, done) => {
      const key = element.dataset.key;
      if (!isSure(key, draw)) return;
      await call(`sessions/${encodeURIComponent(key.slice(key.indexOf(" ") + 1))}/${what}`, { method: "POST" });
      said = done;
      await refresh();
    };
    return {
      everyMs: 5_000,
      async load() {
        seen = await call("sessions", { query: { ...wanted, after: query.get("after") ?? "" } });
      },
      render: () => [
        headline("Sessions", "Connected clients of all gateways."),
        search("find", [["user", "User", "user id or e-mail", wanted.user], ["room", "Room", "campaign:c1", wanted.room]], "Find"),
        said ? h("p", { class: "notice", role: "status" }, said) : null,
        seen ? failures(seen.failed) : null,
        h("section", { class: "card block" }, ...(seen ? found(seen, me, wanted) : [h("p", { class: "quiet loading" }, "Loading…")])),
      ].filter(Boolean),
      actions: {
        find(form) {
          const data = new FormData(form);
          go({ user: String(data.get("user")).trim(), room: String(data.get("room")).trim() });
        },
        disconnect: (element) => act(element, "disconnect", "The connection was closed. Its client connects again."),
        async "reset-user"(element) {
          if (!isSure(element.dataset.key, draw)) return;
          const { clients } = await call("reset-limits", { method: "POST", query: { user: wanted.user } });
          said = `The limits of this user start from zero, for ${some(clients, "client")}.`;
          await refresh();
        },
        reset: (element) => act(element, "reset-limits", "The limits of this client and its user start from zero."),
      },
    };
  },
};

function found(seen, me, wanted) {
  const columns = ["Session", "User", "State", "Behind", "Transport", "Rooms", "Address"];
  if (me.role === "act") columns.push("Actions");
  const rows = seen.sessions.map((one) => ({
    key: one.sessionId,
    cells: [
      h("span", { class: "id" }, one.sessionId),
      h("a", { class: "id", href: `#/sessions?${new URLSearchParams({ user: one.userId })}` }, one.userId),
      badge(one.state.replace("_", " "), STATES[one.state] ?? "plain"),
      whole(one.behind),
      h("span", {}, one.transport, " ", h("span", { class: "quiet" }, one.dialect)),
      roomsOf(one),
      one.address,
      ...(me.role === "act" ? [buttons(one)] : []),
    ],
  }));
  const last = seen.sessions.at(-1)?.sessionId;
  const more = seen.total > seen.sessions.length;
  return [
    h(
      "div",
      { class: "section-head" },
      h("p", { class: "quiet" }, `${some(seen.total, "session")}${more ? `, of which ${seen.sessions.length} are shown` : ""}.`),
      wanted.user && me.role === "act"
        ? careful({ key: "reset-user", action: "reset-user", text: "Reset the user's limits", sure: "Really reset them" })
        : null,
    ),
    table("Sessions", columns, rows, "No session matches."),
    more && last ? h("a", { class: "button more", href: `#/sessions?${new URLSearchParams({ ...wanted, after: last })}` }, "Next page") : null,
  ].filter(Boolean);
}

function roomsOf(one) {
  if (!one.rooms.length) return "none";
  const names = one.rooms.map((each) => h("li", {}, h("span", { class: "id" }, each.name), " ", h("span", { class: "quiet" }, each.role)));
  const left = one.roomCount - one.rooms.length;
  return h(
    "details",
    { "data-key": `rooms ${one.sessionId}`, class: "rooms" },
    h("summary", {}, whole(one.roomCount)),
    h("ul", {}, ...names, left > 0 ? h("li", { class: "quiet" }, `and ${left} more`) : null),
  );
}

function buttons(one) {
  const label = one.sessionId;
  return h(
    "div",
    { class: "buttons" },
    careful({ key: `reset ${one.sessionId}`, action: "reset", text: "Reset limits", sure: "Really reset", label }),
    careful({ key: `disconnect ${one.sessionId}`, action: "disconnect", text: "Disconnect", sure: "Really disconnect", label, danger: true }),
  );
}
