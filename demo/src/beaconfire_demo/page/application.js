/** What every application's page does: the signed-in user, the current view, and the one connection. */

import { Toasts } from "../client/toasts.js";

import { SignInApi, call } from "./api.js";
import { closeDialogs, openQuestion } from "./dialog.js";
import { h } from "./dom.js";
import { forgetKept } from "./kept.js";
import { openLive } from "./live.js";
import { HOME, serviceUrl } from "./place.js";
import { Session } from "./session.js";
import { failure } from "./views/refusal.js";
import { signInView } from "./views/sign_in.js";

const CONFIG_PAUSE_MS = 2000;

/**
 * What a view gets. It must not keep `client` after `close`.
 * @typedef {object} Place
 * @property {HTMLElement} host
 * @property {any} config  with the address of each service
 * @property {Session} session
 * @property {import("../client/index.js").Client} client
 * @property {import("./resumes.js").Resumes} resumes
 * @property {import("./outgoing.js").Outgoing} outgoing
 * @property {Toasts} toasts
 * @property {(hash: string) => void} go
 * @property {(error: any) => void} onError
 */

/** @typedef {{close: () => void, follow?: () => boolean}} View */

/**
 * Run an application's page. `view` is called for each address (`location.hash`) while a user is signed in. A view with
 * `follow` is asked first whether it shows the new address itself.
 * @param {{name: string, welcome: {title: string, lead: string}, view: (place: Place) => View}} application  `name`: that of its folder
 */
export async function openApplication({ name, welcome, view: viewOf }) {
  const main = document.getElementById("main");
  const account = document.getElementById("account");
  const toasts = new Toasts(document.getElementById("toasts"));
  const config = await loadConfig(main);
  const auth = new SignInApi(config.authUrl);

  /** @type {{session: Session, live: ReturnType<typeof openLive>} | null} */
  let signedIn = null;
  /** @type {View | null} */
  let view = null;

  const go = (hash) => (location.hash = hash);
  const onError = (error) => {
    if (error.code !== "signed_out") toasts.show(error.message, { kind: "bad" });
  };

  function begin(session) {
    const [indicator, details, unsent] = ["connection", "freshness", "unsent"].map((id) => document.getElementById(id));
    const live = openLive({ config, session, toasts, indicator, details, unsent });
    signedIn = { session, live };
    session.onEnd = end;
    showAccount(session.user);
    show();
  }

  function end(notice) {
    signedIn?.live.close();
    signedIn = null;
    showAccount(null);
    show(notice);
    forgetKept();
  }

  function show(notice = "") {
    view?.close();
    closeDialogs({ withDecisions: !signedIn });
    view = signedIn ? openView(signedIn) : signIn(notice);
  }

  function openView({ session, live: { client, resumes, outgoing } }) {
    return viewOf({ host: main, config, session, client, resumes, outgoing, toasts, go, onError });
  }

  function signIn(notice) {
    const onSession = (answer) => begin(Session.begun(auth, answer));
    return signInView(main, { auth, welcome, people: config.demo ?? [], notice, onSession });
  }

  function showAccount(user) {
    account.replaceChildren();
    if (!user) return;
    const button = h("button", { type: "button", class: "plain small" }, "Sign out");
    button.addEventListener("click", signOut);
    account.append(h("span", { class: "user", title: user.email }, user.name), button);
  }

  /** Sign out. Changes that were not sent are lost, so the user is asked first. */
  function signOut() {
    const unsent = signedIn?.live.outgoing.unsent ?? 0;
    if (unsent === 0) return leave();
    openQuestion({
      title: "Sign out now?",
      text: `${unsent === 1 ? "One change is" : `${unsent} changes are`} not sent yet. If you sign out now, you lose this work.`,
      submit: "Sign out",
      onSubmit: leave,
    });
  }

  async function leave() {
    await signedIn?.live.outgoing.clear();
    location.hash = "";
    void signedIn?.session.signOut();
  }

  window.addEventListener("hashchange", () => {
    if (!signedIn || view?.follow?.()) return;
    show();
    if (document.activeElement === document.body) main.focus({ preventScroll: true }); // what had the focus is gone
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the hash is the page's route
    main.focus();
  });

  showApplications(config.applications, name);
  const restored = await Session.restored(auth);
  if (restored) begin(restored);
  else show();
}

/** Read the services' addresses. The page can do nothing without them, so it tries until it has them. */
async function loadConfig(main) {
  for (;;) {
    try {
      const config = await call("GET", new URL("config.json", HOME));
      const addresses = ["authUrl", "publisherUrl", "workspaceUrl", "trackerUrl"];
      return { ...config, ...Object.fromEntries(addresses.map((each) => [each, serviceUrl(config[each])])) };
    } catch (error) {
      main.replaceChildren(failure("The page could not be loaded", error.message));
      await new Promise((resolve) => setTimeout(resolve, CONFIG_PAUSE_MS));
    }
  }
}

/** Links to the other applications. The session is the same there, as it belongs to the window. */
function showApplications(applications = [], current) {
  if (applications.length < 2) return;
  const link = ({ name, title }) =>
    h("a", { href: new URL(`${name}/`, HOME), "aria-current": name === current ? "page" : null }, title);
  document.getElementById("applications").replaceChildren(...applications.map(link));
}
