/** Dead letters: why each was set aside, and its replay after a fix. */

import { h } from "../../dom.js";
import { call } from "../api.js";
import { badge, careful, headline, isSure, table } from "../parts.js";
import { moment, whole } from "../words.js";

const WORDS = {
  replayed: "replayed",
  already_replayed: "was replayed before",
  still_invalid: "still invalid",
  not_replayable: "cannot be replayed",
  refused: "refused by the broker",
};

export const letters = {
  title: "Dead letters",
  start({ draw, refresh, me }) {
    let seen = /** @type {any[] | null} */ (null);
    let outcomes = /** @type {any[] | null} */ (null);
    let isBusy = false;

    async function replay(numbers) {
      isBusy = true;
      draw();
      const done = [];
      try {
        let after = 0;
        for (;;) {
          const answer = await call("letters/replay", { method: "POST", body: { numbers, after } });
          done.push(...answer.outcomes);
          if (answer.moreAfter === null) break;
          after = answer.moreAfter;
        }
      } finally {
        isBusy = false;
        outcomes = done;
        await refresh();
      }
    }

    return {
      everyMs: 5_000,
      async load() {
        seen = (await call("letters")).letters;
      },
      render: () => [
        headline(
          "Dead letters",
          "Events that were not delivered, because the catalogue did not allow them.",
          me.role === "act" && me.canReplay && seen?.length
            ? h("div", {}, isBusy ? badge("replaying …", "wait") : careful({ key: "all", action: "all", text: "Replay all", sure: "Really replay all" }))
            : null,
        ),
        outcomes ? results(outcomes) : null,
        h("section", { class: "card block" }, seen ? found(seen, me, isBusy) : h("p", { class: "quiet loading" }, "Loading…")),
        h("p", { class: "quiet" }, "A replay checks an event again, and gives it a new offset. It is stored once, however often you try."),
      ].filter(Boolean),
      actions: {
        one: (element) => replay([Number(element.dataset.number)]),
        async all(element) {
          if (isSure(element.dataset.key, draw)) await replay(null);
        },
        close() {
          outcomes = null;
          draw();
        },
      },
    };
  },
};

function results(outcomes) {
  const good = outcomes.filter((one) => one.offset !== null).length;
  const bad = outcomes.filter((one) => one.offset === null);
  const text = `${whole(good)} replayed, ${whole(bad.length)} not.`;
  return h(
    "div",
    { class: "card block", role: "status" },
    h("div", { class: "section-head" }, h("h2", {}, text), h("button", { type: "button", class: "small", "data-action": "close" }, "Close")),
    h(
      "ul",
      { class: "outcomes" },
      ...outcomes.slice(0, 100).map((one) =>
        h(
          "li",
          {},
          badge(WORDS[one.result] ?? one.result, one.offset === null ? "bad" : "good"),
          ` ${one.number} `,
          h("span", { class: "id" }, one.subject),
          " ",
          one.offset === null ? one.why : `offset ${whole(one.offset)}`,
        ),
      ),
    ),
  );
}

function found(seen, me, isBusy) {
  const mayReplay = me.role === "act" && me.canReplay;
  const columns = ["Number", "Reason", "Subject", "Set aside", "Body", ...(mayReplay ? ["Action"] : [])];
  const rows = seen.map((one) => ({
    key: String(one.number),
    cells: [
      whole(one.number),
      h("span", {}, badge(one.reason, "bad"), h("span", { class: "detail" }, one.detail)),
      h("span", { class: "id" }, one.subject),
      h("span", {}, moment(one.time), " ", h("span", { class: "quiet" }, one.offset === null ? "ephemeral" : `offset ${whole(one.offset)}`)),
      h("details", {}, h("summary", {}, `${whole(one.bytes)} bytes`), h("pre", { tabindex: "0" }, one.body)),
      ...(mayReplay ? [button(one, isBusy)] : []),
    ],
  }));
  return table("Dead letters, the newest first", columns, rows, "There are no dead letters.");
}

function button(one, isBusy) {
  if (one.offset === null) return h("span", { class: "quiet" }, "not replayable");
  const attributes = { type: "button", class: "small", "data-action": "one", "data-number": one.number, disabled: isBusy };
  return h("button", { ...attributes, "aria-label": `Replay dead letter ${one.number}` }, "Replay");
}
