/** Signing keys and service tokens: their age and use. Nothing secret is shown, because auth sends nothing secret. */

import { h } from "../../dom.js";
import { call } from "../api.js";
import { badge, headline, table } from "../parts.js";
import { moment, span, whole } from "../words.js";

const STATES = { signing: "good", next: "wait", verifying: "plain" };

export const keys = {
  title: "Keys",
  start() {
    let seen = /** @type {any} */ (null);
    return {
      everyMs: 15_000,
      async load() {
        seen = await call("keys");
      },
      render: () => [
        headline("Keys", "The keys that sign tokens, and the tokens of services. Times are UTC."),
        ...(seen
          ? [
              h("section", { class: "card block" }, h("h2", {}, "Signing keys"), signing(seen.keys)),
              h("section", { class: "card block" }, h("h2", {}, "Service tokens"), tokens(seen.serviceTokens)),
            ]
          : [h("p", { class: "quiet loading" }, "Loading…")]),
      ],
    };
  },
};

function signing(found) {
  const now = Date.now() / 1000;
  const rows = found.map((one) => ({
    key: one.kid,
    cells: [
      h("span", { class: "id" }, one.kid),
      badge(one.state, STATES[one.state] ?? "plain"),
      span(Math.max(0, now - one.createdAt)),
      moment(one.signsFrom),
      moment(one.verifiesUntil),
      whole(one.serviceTokens),
    ],
  }));
  return table("Signing keys", ["Key", "State", "Age", "Signs from", "Verifies until", "Service tokens"], rows, "There is no key.");
}

function tokens(found) {
  const rows = found.map((one) => ({
    key: one.id,
    cells: [
      h("span", { class: "id" }, one.id),
      one.service,
      h("ul", {}, ...one.publish.map((pattern) => h("li", { class: "id" }, pattern))),
      moment(one.expiresAt),
      one.usedAt ? moment(one.usedAt) : "never",
      one.revokedAt ? badge("revoked", "bad") : badge(new Date(one.expiresAt) < new Date() ? "expired" : "valid", "plain"),
    ],
  }));
  return table("Service tokens", ["Token", "Service", "May publish", "Expires", "Last used", "State"], rows, "No service has a token.");
}
