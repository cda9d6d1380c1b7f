/** The demo page: the signed-in user, the current view, and the one connection. */

import { Toasts } from "../client/toasts.js";

import { Api, SignInApi, call } from "./api.js";
import { closeDialogs } from "./dialog.js";
import { h } from "./dom.js";
import { forgetFeeds } from "./kept_feed.js";
import { openLive } from "./live.js";
import { HOME, serviceUrl } from "./place.js";
import { Session } from "./session.js";
import { campaignView } from "./views/campaign.js";
import { campaignsView } from "./views/campaigns.js";
import { failure } from "./views/refusal.js";
import { signInView } from "./views/sign_in.js";

const CONFIG_PAUSE_MS = 2000;

const main = document.getElementById("main");
const account = document.getElementById("account");
const toasts = new Toasts(document.getElementById("toasts"));

const config = await loadConfig();
const auth = new SignInApi(config.authUrl);

/** @type {{session: Session, api: Api, live: ReturnType<typeof openLive>} | null} */
let signedIn = null;
/** @type {{close: () => void} | null} */
let view = null;

const go = (hash) => (location.hash = hash);
const tell = (error) => {
  if (error.code !== "signed_out") toasts.show(error.message, { kind: "bad" });
};

/** Read the services' addresses. The page can do nothing without them, so it tries until it has them. */
async function loadConfig() {
  for (;;) {
    try {
      const { authUrl, publisherUrl, ...more } = await call("GET", new URL("config.json", HOME));
      return { ...more, authUrl: serviceUrl(authUrl), publisherUrl: serviceUrl(publisherUrl) };
    } catch (error) {
      main.replaceChildren(failure("The page could not be loaded", error.message));
      await new Promise((resolve) => setTimeout(resolve, CONFIG_PAUSE_MS));
    }
  }
}

function begin(session) {
  const live = openLive({ config, session, toasts, indicator: document.getElementById("connection") });
  signedIn = { session, api: new Api(config, session), live };
  session.onEnd = end;
  showAccount(session.user);
  show();
}

function end(notice) {
  signedIn?.live.close();
  signedIn = null;
  showAccount(null);
  show(notice);
  forgetFeeds();
}

function show(notice = "") {
  view?.close();
  closeDialogs();
  view = signedIn ? campaignsOrOne(signedIn) : signIn(notice);
}

function signIn(notice) {
  const onSession = (answer) => begin(Session.begun(auth, answer));
  return signInView(main, { auth, people: config.demo ?? [], notice, onSession });
}

function campaignsOrOne({ api, session, live: { client } }) {
  const [, id] = location.hash.match(/^#\/campaign\/([A-Za-z0-9_-]{1,64})$/) ?? [];
  if (!id) return campaignsView(main, { api, client, go, onError: tell });
  return campaignView(main, { id, api, client, me: session.user, toasts, go, onError: tell });
}

function showAccount(user) {
  account.replaceChildren();
  if (!user) return;
  const leave = h("button", { type: "button", class: "plain small" }, "Sign out");
  leave.addEventListener("click", () => {
    location.hash = "";
    signedIn?.session.signOut();
  });
  account.append(h("span", { class: "user", title: user.email }, user.name), leave);
}

window.addEventListener("hashchange", () => signedIn && show());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the page's route
  main.focus();
});

const restored = await Session.restored(auth);
if (restored) begin(restored);
else show();
