/** Events as they come, of all rooms or chosen ones. */

import { h } from "../../dom.js";
import { lines, Refused } from "../api.js";
import { badge, headline, search } from "../parts.js";
import { clock, whole } from "../words.js";

const MOST = 200;
const AGAIN_MS = 1_000;

export const events = {
  title: "Events",
  start({ query, go, draw }) {
    const wanted = Object.fromEntries(["room", "type", "user"].map((name) => [name, query.get(name) ?? ""]));
    const leaving = new AbortController();
    let shown = /** @type {any[]} */ ([]);
    let state = "connecting";
    let problem = "";
    let isPaused = false;
    let drawing = false;
    let last = "";

    const drawSoon = () => {
      if (drawing) return;
      drawing = true;
      requestAnimationFrame(() => {
        drawing = false;
        draw();
      });
    };

    /** @param {any} line */
    function take(line) {
      state = "live";
      problem = "";
      if (line?.offset) last = String(line.offset);
      if (line && !isPaused) shown = [{ at: new Date().toISOString(), ...line }, ...shown].slice(0, MOST);
      drawSoon();
    }

    async function follow() {
      while (!leaving.signal.aborted) {
        try {
          await lines("tail", { ...wanted, after: last }, leaving.signal, take);
        } catch (error) {
          if (leaving.signal.aborted) return;
          problem = error instanceof Refused ? error.message : "The connection was lost.";
        }
        state = "connecting";
        drawSoon();
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }

    void follow();
    return {
      stop: () => leaving.abort(),
      everyMs: 60_000,
      render: () => [
        headline("Events", "Every event of the stream, as gateways hear it."),
        search(
          "find",
          [["room", "Room", "campaign:c1", wanted.room], ["type", "Type", "settlement_updated", wanted.type], ["user", "Caused by user", "user id", wanted.user]],
          "Filter",
        ),
        problem ? h("p", { class: "problem", role: "alert" }, problem) : null,
        h(
          "section",
          { class: "card block" },
          h(
            "div",
            { class: "section-head" },
            h("p", { role: "status" }, isPaused ? badge("paused", "wait") : badge(state, state === "live" ? "good" : "wait")),
            h(
              "div",
              { class: "section-buttons" },
              h("button", { type: "button", class: "small", "data-action": "pause", "aria-pressed": String(isPaused) }, isPaused ? "Go on" : "Pause"),
              h("button", { type: "button", class: "small", "data-action": "clear" }, "Clear"),
            ),
          ),
          shown.length ? h("ol", { class: "tail" }, ...shown.map(entry)) : h("p", { class: "empty" }, "No event yet. New ones appear here."),
        ),
      ].filter(Boolean),
      actions: {
        find(form) {
          const data = new FormData(form);
          go(Object.fromEntries(["room", "type", "user"].map((name) => [name, String(data.get(name)).trim()])));
        },
        pause() {
          isPaused = !isPaused;
          draw();
        },
        clear() {
          shown = [];
          draw();
        },
      },
    };
  },
};

function entry(line) {
  if (line.skipped) return h("li", { class: "quiet", "data-key": `skipped ${line.at}` }, `${whole(line.skipped)} offsets came too fast to be shown.`);
  const body = JSON.stringify(line.event, null, 2);
  return h(
    "li",
    { "data-key": String(line.offset) },
    h(
      "details",
      {},
      h(
        "summary",
        {},
        h("span", { class: "tail-offset" }, whole(line.offset)),
        h("strong", {}, line.type),
        h("span", { class: "id tail-subject" }, line.subject),
        h("span", { class: "quiet tail-time" }, clock(line.at)),
      ),
      h("pre", { tabindex: "0" }, body),
    ),
  );
}
