/** The admin page: sign-in, navigation, and the view that the address names. Each view is loaded again while it is seen. */

import { h } from "../dom.js";
import { showScreen } from "../screen.js";
import { call, hasToken, keepToken, Refused, takeTokenOfAddress } from "./api.js";
import { events } from "./views/events.js";
import { keys } from "./views/keys.js";
import { letters } from "./views/letters.js";
import { outboxes } from "./views/outboxes.js";
import { overview } from "./views/overview.js";
import { rooms } from "./views/rooms.js";
import { sessions } from "./views/sessions.js";
import { signIn } from "./views/sign_in.js";

/**
 * @typedef {{draw: () => void, refresh: () => Promise<void>, me: {role: string, canReplay: boolean},
 *   query: URLSearchParams, go: (query: Record<string, string>) => void}} Context
 * @typedef {{render: () => unknown[], actions?: Record<string, (element: any) => unknown>, load?: () => Promise<void>,
 *   everyMs?: number, stop?: () => void}} View
 */

/** @type {Record<string, {title: string, start: (context: any) => any}>} */
const VIEWS = { overview, sessions, rooms, events, letters, outboxes, keys };

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const places = /** @type {HTMLElement} */ (document.getElementById("places"));
const account = /** @type {HTMLElement} */ (document.getElementById("account"));
let leave = () => {};

function show() {
  leave();
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const name = Object.hasOwn(VIEWS, path) ? path : "overview";
  const { title, start } = VIEWS[name];
  let stopped = false;
  let timer = 0;
  let problem = "";
  let draw = () => {};

  async function refresh() {
    try {
      await view.load?.();
      problem = "";
    } catch (error) {
      fail(error);
    }
    draw();
  }

  /** @param {any} error */
  function fail(error) {
    if (stopped) return;
    if (error instanceof Refused && error.code === "token_invalid") return signOut(error.message);
    problem = error instanceof Refused ? error.message : String(error);
    draw();
  }

  async function loop() {
    if (!document.hidden) await refresh();
    if (!stopped) timer = window.setTimeout(loop, view.everyMs ?? 10_000);
  }

  const context = {
    me,
    query: new URLSearchParams(search ?? ""),
    draw: () => draw(),
    refresh,
    go(query) {
      const given = Object.entries(query).filter(([, value]) => value);
      location.hash = `#/${name}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
    },
  };
  const view = start(context);
  const screen = showScreen(main, {
    title: () => title,
    render: () => [problem ? h("p", { class: "problem", role: "alert" }, problem) : null, ...view.render()].filter(Boolean),
    actions: view.actions ?? {},
    onError: fail,
  });
  draw = () => !stopped && screen.draw();
  leave = () => {
    stopped = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
    view.stop?.();
  };
  const seen = () => {
    if (!document.hidden) void refresh();
  };
  document.addEventListener("visibilitychange", seen);
  navigate(name);
  void loop();
}

/** @param {string} name  the view that is seen */
function navigate(name) {
  places.replaceChildren(
    ...Object.entries(VIEWS).map(([path, { title }]) =>
      h("a", { href: `#/${path}`, "aria-current": path === name ? "page" : null }, title),
    ),
  );
  places.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  const button = h("button", { type: "button", class: "plain" }, "Sign out");
  button.addEventListener("click", () => signOut(""));
  account.replaceChildren(
    h("span", { class: `role role-${me.role === "act" ? "owner" : "viewer"}` }, me.role === "act" ? "may act" : "read only"),
    button,
  );
}

let me = { role: "read", canReplay: false };

/** @param {string} why  shown above the form */
function signOut(why) {
  keepToken("");
  leave();
  leave = () => {};
  places.replaceChildren();
  account.replaceChildren();
  signIn(main, why, enter);
}

async function enter() {
  me = await call("me");
  show();
}

async function begin() {
  takeTokenOfAddress();
  if (!hasToken()) return signOut("");
  try {
    await enter();
  } catch (error) {
    signOut(error instanceof Refused ? error.message : String(error));
  }
}

window.addEventListener("hashchange", () => {
  if (location.hash.startsWith("#token=")) void begin();
  else if (hasToken()) show();
});
await begin();
