/** Everything at a glance: problems first, then rates, gateways, services and the stream. */

import { h } from "../../dom.js";
import { call } from "../api.js";
import { chart } from "../charts.js";
import { badge, headline, statusBadge, table } from "../parts.js";
import { size, span, whole } from "../words.js";

const KEPT = 120;

export const overview = {
  title: "Overview",
  start() {
    let seen = /** @type {any} */ (null);
    return {
      everyMs: 2_500,
      async load() {
        seen = await call("overview");
      },
      render: () => (seen ? page(seen) : [h("p", { class: "quiet loading" }, "Loading…")]),
    };
  },
};

function page(seen) {
  return [
    headline("Overview", "All services, in the last ten minutes."),
    problems(seen.problems),
    h("section", { class: "charts", "aria-label": "Rates" }, ...charts(seen.points)),
    h("section", { class: "card block" }, h("h2", {}, "Gateways"), gateways(seen.gateways)),
    h("section", { class: "card block" }, h("h2", {}, "Services"), services(seen.services)),
    h("section", { class: "card block" }, h("h2", {}, "Stream"), stream(seen)),
  ];
}

function problems(found) {
  if (!found.length) return h("p", { class: "well", role: "status" }, badge("ok", "good"), " Everything answers and is ready.");
  return h("ul", { class: "problems", role: "status" }, ...found.map((text) => h("li", {}, text)));
}

function charts(points) {
  const kept = KEPT;
  return [
    chart({ title: "Events in", unit: "a second", points, kept, of: (one) => one.events }),
    chart({ title: "Deliveries", unit: "a second", points, kept, of: (one) => one.deliveries }),
    chart({ title: "Sessions", unit: "connected", points, kept, of: (one) => one.sessions }),
    chart({ title: "New connections", unit: "a second", points, kept, of: (one) => one.opened }),
    chart({ title: "Lag", unit: "offsets", points, kept, of: (one) => one.lag, note: "the slowest gateway" }),
    chart({ title: "Oldest in an outbox", unit: "s", points, kept, of: (one) => one.oldestS, note: "waits for the broker" }),
    chart({ title: "Stream to gateway", unit: "ms", points, kept, of: (one) => one.heardMs, note: "95 of 100 events" }),
    chart({ title: "Gateway to sockets", unit: "ms", points, kept, of: (one) => one.writtenMs, note: "95 of 100 writes" }),
  ];
}

function gateways(found) {
  const rows = found.map((one) => ({
    key: one.address,
    cells: [
      short(one.address),
      statusBadge(one.status),
      whole(one.sessions),
      whole(one.rooms),
      one.position === null ? "–" : whole(one.position),
      one.behind === null ? "–" : whole(one.behind),
      whole(one.workers),
    ],
  }));
  const columns = ["Gateway", "Status", "Sessions", "Rooms", "Position", "Behind", "Processes"];
  return table("Gateways", columns, rows, "No gateway answers.");
}

function services(found) {
  const rows = found.map((one) => ({
    key: `${one.name} ${one.address}`,
    cells: [
      h("span", {}, one.name, " ", h("span", { class: "quiet" }, short(one.address))),
      statusBadge(one.status),
      whole(one.waiting),
      one.waiting ? span(one.oldestS) : "–",
      one.setAside ? badge(whole(one.setAside), "bad") : "0",
    ],
  }));
  const columns = ["Service", "Status", "Events waiting", "Oldest", "Refused"];
  return table("Services with an outbox", columns, rows, "No service answers.");
}

function stream({ stream: state, catalogueRevision }) {
  if (!state) return h("p", { class: "empty" }, "The broker does not answer.");
  const letters = Object.entries(state.deadLetters);
  const count = letters.reduce((sum, [, one]) => sum + one, 0);
  const facts = [
    ["Last offset", whole(state.last)],
    ["First offset", whole(state.first)],
    ["Messages", whole(state.messages)],
    ["Size", size(state.bytes)],
    ["Replicas", state.leader ? `${state.replicas}, led by ${state.leader}` : whole(state.replicas)],
    ["Epoch", state.epoch],
    ["Catalogue revision", whole(catalogueRevision)],
    ["Dead letters", count ? h("a", { href: "#/letters" }, letters.map(([name, one]) => `${whole(one)} ${name}`).join(", ")) : "none"],
  ];
  return h("dl", { class: "facts" }, ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** @param {string} address */
const short = (address) => address.replace(/^https?:\/\//, "");
