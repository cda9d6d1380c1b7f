/** Dead letters: why each was set aside, its replay after a fix, and its deletion. */

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
  dropped: "dropped",
  gone: "is gone",
};
const DONE = ["replayed", "already_replayed", "dropped"];

export const letters = {
  title: "Dead letters",
  start({ draw, refresh, me }) {
    let seen = /** @type {any[] | null} */ (null);
    let outcomes = /** @type {{what: "replay" | "drop", done: any[]} | null} */ (null);
    let asked = /** @type {number[] | null | undefined} */ (undefined); // what to drop, while the page asks why
    let isBusy = false;

    /** @param {"replay" | "drop"} what @param {number[] | null} numbers  null means all @param {object} more */
    async function handle(what, numbers, more = {}) {
      isBusy = true;
      draw();
      const done = [];
      try {
        let after = 0;
        for (;;) {
          const answer = await call(`letters/${what}`, { method: "POST", body: { numbers, after, ...more } });
          done.push(...answer.outcomes);
          if (answer.moreAfter === null) break;
          after = answer.moreAfter;
        }
      } finally {
        isBusy = false;
        outcomes = { what, done };
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
          me.role === "act" && seen?.length ? buttonsOfAll(me, isBusy) : null,
        ),
        asked === undefined ? null : question(asked),
        outcomes ? results(outcomes) : null,
        h("section", { class: "card block" }, seen ? found(seen, me, isBusy) : h("p", { class: "quiet loading" }, "Loading…")),
        h("p", { class: "quiet" }, "A replay checks an event again, and gives it a new offset. It is stored once, however often you try. A dropped dead letter is deleted for good."),
      ].filter(Boolean),
      actions: {
        one: (element) => handle("replay", [Number(element.dataset.number)]),
        async all(element) {
          if (isSure(element.dataset.key, draw)) await handle("replay", null);
        },
        ask(element) {
          asked = element.dataset.number ? [Number(element.dataset.number)] : null;
          draw();
          document.querySelector("input[name=why]")?.focus();
        },
        async drop(form) {
          const numbers = asked;
          if (numbers === undefined) return;
          asked = undefined;
          await handle("drop", numbers, { why: String(new FormData(form).get("why")) });
        },
        cancel() {
          asked = undefined;
          draw();
        },
        close() {
          outcomes = null;
          draw();
        },
      },
    };
  },
};

function buttonsOfAll(me, isBusy) {
  if (isBusy) return badge("working …", "wait");
  return h(
    "div",
    { class: "buttons" },
    me.canReplay ? careful({ key: "all", action: "all", text: "Replay all", sure: "Really replay all" }) : null,
    h("button", { type: "button", class: "small", "data-action": "ask" }, "Drop all"),
  );
}

/** @param {number[] | null} numbers */
function question(numbers) {
  const what = numbers ? `dead letter ${numbers.join(", ")}` : "all dead letters";
  return h(
    "form",
    { class: "search card", "data-submit": "drop", "data-key": `drop ${what}` },
    h(
      "label",
      { class: "field" },
      h("span", {}, `Why do you drop ${what}?`),
      h("input", { name: "why", placeholder: "the log says it", required: "", maxlength: "200", autocomplete: "off" }),
    ),
    h("button", { class: "danger" }, "Drop"),
    h("button", { type: "button", "data-action": "cancel" }, "Cancel"),
  );
}

function results({ what, done }) {
  const good = done.filter((one) => DONE.includes(one.result)).length;
  const text = `${whole(good)} ${what === "drop" ? "dropped" : "replayed"}, ${whole(done.length - good)} not.`;
  return h(
    "div",
    { class: "card block", role: "status" },
    h("div", { class: "section-head" }, h("h2", {}, text), h("button", { type: "button", class: "small", "data-action": "close" }, "Close")),
    h(
      "ul",
      { class: "outcomes" },
      ...done.slice(0, 100).map((one) =>
        h(
          "li",
          {},
          badge(WORDS[one.result] ?? one.result, DONE.includes(one.result) ? "good" : "bad"),
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
  const mayAct = me.role === "act";
  const columns = ["Number", "Reason", "Subject", "Set aside", "Body", ...(mayAct ? ["Actions"] : [])];
  const rows = seen.map((one) => ({
    key: String(one.number),
    cells: [
      whole(one.number),
      h("span", {}, badge(one.reason, "bad"), h("span", { class: "detail" }, one.detail)),
      h("span", { class: "id" }, one.subject),
      h("span", {}, moment(one.time), " ", h("span", { class: "quiet" }, one.offset === null ? "ephemeral" : `offset ${whole(one.offset)}`)),
      h("details", {}, h("summary", {}, `${whole(one.bytes)} bytes`), h("pre", { tabindex: "0" }, one.body)),
      ...(mayAct ? [buttons(one, me, isBusy)] : []),
    ],
  }));
  return table("Dead letters, the newest first", columns, rows, "There are no dead letters.");
}

function buttons(one, me, isBusy) {
  const attributes = { type: "button", class: "small", "data-number": one.number, disabled: isBusy };
  return h(
    "div",
    { class: "buttons" },
    me.canReplay && one.offset !== null
      ? h("button", { ...attributes, "data-action": "one", "aria-label": `Replay dead letter ${one.number}` }, "Replay")
      : null,
    h("button", { ...attributes, "data-action": "ask", "aria-label": `Drop dead letter ${one.number}` }, "Drop"),
  );
}
