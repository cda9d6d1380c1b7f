/** Outboxes: how long each root waits for the broker, and what the broker refused. */

import { h } from "../../dom.js";
import { call } from "../api.js";
import { failures, headline, table } from "../parts.js";
import { some, span, whole } from "../words.js";

export const outboxes = {
  title: "Outboxes",
  start() {
    let seen = /** @type {any} */ (null);
    return {
      everyMs: 5_000,
      async load() {
        seen = await call("outboxes");
      },
      render: () => [
        headline("Outboxes", "Events that are committed, and wait for the broker or were refused by it."),
        ...(seen ? [failures(seen.failed), ...seen.outboxes.map(outbox)] : [h("p", { class: "quiet loading" }, "Loading…")]),
        seen && !seen.outboxes.length ? h("p", { class: "empty" }, "No service with an outbox answers.") : null,
      ].filter(Boolean),
    };
  },
};

function outbox(one) {
  const waiting = one.waiting.map((root) => ({ key: root.root, cells: [h("span", { class: "id" }, root.root), whole(root.events), span(root.oldestS)] }));
  const refused = one.refused.map((event) => ({
    key: event.eventId,
    cells: [h("span", { class: "id" }, event.eventId), h("span", { class: "id" }, event.subject), event.reason, span(event.ageS)],
  }));
  const more = one.waitingRoots - one.waiting.length;
  return h(
    "section",
    { class: "card block", "data-key": `${one.service} ${one.address}` },
    h("h2", {}, one.service, " ", h("span", { class: "quiet" }, one.address.replace(/^https?:\/\//, ""))),
    h("p", { class: "quiet" }, sentence(one)),
    waiting.length ? table(`Roots that wait in the outbox of ${one.service}`, ["Root", "Events", "Oldest"], waiting, "") : null,
    more > 0 ? h("p", { class: "quiet" }, `And ${whole(more)} more roots.`) : null,
    refused.length ? table(`Events of ${one.service} that the broker refused`, ["Event", "Subject", "Reason", "Age"], refused, "") : null,
    refused.length ? h("p", { class: "quiet" }, "After a fix, send them again: ", h("code", {}, `beaconfire outbox ${one.service} --resend-all`)) : null,
  );
}

function sentence({ waitingEvents, waitingRoots, refusedEvents }) {
  if (!waitingEvents && !refusedEvents) return "No event waits, and none was refused.";
  return `Waiting: ${some(waitingEvents, "event")} of ${some(waitingRoots, "root")}. Refused: ${some(refusedEvents, "event")}.`;
}
