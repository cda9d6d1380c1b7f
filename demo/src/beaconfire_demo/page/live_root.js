/**
 * The root that a view shows, such as a campaign. It is loaded, and then follows the events of its room. The user leaves it when
 * it is deleted, or when the membership ends.
 *
 *     loading ── loaded ──▶ open ── deleted, or no longer a member ──▶ left
 *        ├── not a member ──▶ refused
 *        └── no answer ──▶ failed ── loaded ──▶ open
 */

import { watchPresence } from "../client/people.js";

import { Away } from "./away.js";
import { isContained, placeOf } from "./cursors.js";
import { closeDialogs } from "./dialog.js";
import { h } from "./dom.js";
import { readKept, writeKept } from "./kept.js";
import { Loading } from "./loading.js";
import { withArticle } from "./sentences.js";
import { awayPanel } from "./views/away.js";
import { failure, refusal, tryNow } from "./views/refusal.js";
import { skeleton } from "./views/skeleton.js";

/**
 * @typedef {object} RootPage  what a view gets
 * @property {string} id
 * @property {any} me  the user
 * @property {import("../client/index.js").Client} client
 * @property {import("./resumes.js").Resumes} resumes
 * @property {import("./outgoing.js").Outgoing} outgoing
 * @property {import("../client/toasts.js").Toasts} toasts
 * @property {(hash: string) => void} go
 */

/**
 * @typedef {object} Handlers
 * @property {() => void} draw
 * @property {(cursor: string | null) => void} [onOpen]  it was loaded for the first time
 * @property {() => void} [onLoaded]  it was loaded, perhaps again
 * @property {(event: any, frame: EventFrame) => Promise<import("./away.js").News | undefined>} onEvent  resolves when the event is shown
 * @property {import("./outgoing.js").Showing} showing
 * @property {() => keyof typeof import("./views/skeleton.js").SHAPES} [shape]  of the page while it is loaded, if not that of its kind
 * @property {() => any} [kept]  what the view keeps over a reload, with the cursor
 */

/** @typedef {import("../client/index.js").EventFrame} EventFrame */

export class LiveRoot {
  /** @type {"loading" | "open" | "refused" | "failed"} */
  phase = "loading";
  /** Whether the user has left the view. */
  isLeft = false;
  room;
  /** What this window kept of the root before the reload. @type {import("./kept.js").Kept | undefined} */
  before;

  /** What happened while the user was away. */
  away;

  #page;
  #kind;
  #state;
  #handlers;
  #loading;
  #problem = "";
  /** The loaded state contains every event up to this cursor. */
  #loadedUpTo = "";
  /** @type {string | undefined} The role that the page last showed. */
  #notedRole;
  /** @type {import("../client/index.js").Subscription[]} */
  #subscriptions = [];
  /** The offsets of events that are not shown yet. */
  #underWay = new Set();
  #stop = new AbortController();
  #offRole;
  /** @type {ReturnType<typeof watchPresence> | undefined} */
  #people;

  /**
   * @param {RootPage} page
   * @param {"campaign" | "workspace"} kind
   * @param {import("./root_state.js").RootState} state
   * @param {Handlers} handlers
   */
  constructor(page, kind, state, handlers) {
    this.#page = page;
    this.#kind = kind;
    this.#state = state;
    this.#handlers = handlers;
    this.room = `${kind}:${page.id}`;
    page.outgoing.showing = handlers.showing;
    this.before = readKept(page.me.id, this.room);
    this.away = new Away(page.resumes, this.before !== undefined, (isNew) => this.#showAway(isNew));
    const { signal } = this.#stop;
    window.addEventListener("pagehide", () => this.#keep(), { signal });
    document.addEventListener("visibilitychange", () => this.#keep(), { signal });
    const load = () => this.#load();
    this.#loading = new Loading({ client: page.client, load, onFailure: (error, willRetry) => this.#failed(error, willRetry) });
    this.#offRole = page.client.on("role", ({ root, role }) => {
      if (root !== this.room || this.phase !== "open") return;
      state.setRole(role);
      this.#noteRole();
    });
  }

  /** The page's title. @param {string} [name]  instead of that of the root */
  title(name) {
    return this.phase === "open" ? (name ?? this.#state.root.name) : this.#kind[0].toUpperCase() + this.#kind.slice(1);
  }

  /** What the page shows: `content`, once there is something. @param {() => any[]} content */
  body(content) {
    const kind = this.#kind;
    if (this.phase === "loading") return [skeleton(this.#handlers.shape?.() ?? kind)];
    if (this.phase === "refused") return [refusal(this.#page.me, { thing: kind, home: `My ${kind}s` })];
    if (this.phase === "failed") return [failure(`The ${kind} could not be loaded`, this.#problem, tryNow())];
    return [h("div", { "data-key": "away-place", role: "status" }, awayPanel(this.away.shown)), ...content()];
  }

  /** Who has the root open. Undefined until it is known. */
  get presence() {
    return this.#people?.users.getSnapshot();
  }

  /** What the buttons do that `body` shows. */
  get actions() {
    return {
      reload: () => this.load(),
      dismissAway: () => this.away.dismiss(),
      takeBack: ({ dataset }) => this.#page.outgoing.drop(Number(dataset.place)),
    };
  }

  /** Load everything, until it works. */
  load() {
    return this.#loading.run();
  }

  /** Whether the loaded state contains an event. @param {EventFrame} frame */
  contains({ offset }) {
    return isContained(offset, this.#loadedUpTo);
  }

  /**
   * Follow another room of the page from the loaded state on. If events were missed, everything is loaded again.
   * @param {string} room @param {(event: any, frame: any) => void} onEvent @param {string | null} cursor @param {string[]} types
   */
  followAlso(room, onEvent, cursor, types) {
    const { client } = this.#page;
    this.#subscriptions.push(client.subscribe(room, { onEvent, onResync: () => this.#reload() }, { cursor, types }));
  }

  /** Go back to the list, with a notice. @param {string} text */
  leave(text) {
    if (this.isLeft) return;
    this.isLeft = true;
    closeDialogs();
    this.#page.toasts.show(text, { kind: "bad", ms: 10_000 });
    this.#page.go("#/");
  }

  close() {
    this.#keep();
    this.#stop.abort();
    this.#page.outgoing.showing = null;
    this.isLeft = true;
    this.#loading.close();
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    this.#people?.close();
    this.away.close();
    this.#offRole();
    closeDialogs();
  }

  async #load() {
    const cursor = await this.#state.load();
    if (this.isLeft) return;
    const isFirst = this.phase !== "open";
    this.#loadedUpTo = cursor ?? "";
    this.#problem = "";
    this.phase = "open";
    this.#noteRole();
    if (isFirst) {
      this.#subscribe(cursor);
      this.#people = watchPresence(this.#page.client, this.room);
      this.#people.users.subscribe(() => this.isLeft || this.#handlers.draw());
      this.#handlers.onOpen?.(cursor);
    }
    this.#handlers.onLoaded?.();
    this.#handlers.draw();
  }

  #failed(error, willRetry) {
    if (error.code === "signed_out") return;
    const isOpen = this.phase === "open";
    if (!willRetry && isOpen) return this.#leaveAsStranger();
    const isNews = this.#problem !== error.message;
    this.#problem = error.message;
    if (!isOpen) this.phase = willRetry ? "failed" : "refused";
    else if (isNews) this.#page.toasts.show(`Some of this may be out of date. ${error.message}`, { kind: "bad" });
    this.#handlers.draw();
  }

  /** @param {string | null} cursor  of the loaded state: changes between loading and subscribing are restored */
  #subscribe(cursor) {
    const handlers = {
      onEvent: (event, frame) => void this.#take(event, frame),
      onReady: () => {
        this.away.returned();
        if (cursor === null) this.load(); // loaded before the stream existed: there is no cursor to continue from
      },
      onResync: () => this.#reload(),
      onLeft: ({ reason }) => reason === "lease_expired" || this.#leaveAsStranger(), // else the client joins again
      onError: (error, { willRetry }) => {
        if (willRetry) return;
        // The user was removed between loading and subscribing, or a limit was reached: then the page does not update itself.
        if (error.code === "forbidden") return this.#leaveAsStranger();
        this.#page.toasts.show("You do not see other users' changes here. Reload the page to try again.", { kind: "bad", ms: 0 });
      },
    };
    this.#subscriptions.push(this.#page.client.subscribe(this.room, handlers, { cursor: this.#cursorBefore(cursor) }));
  }

  /** Continue from where this window left off, if the stream is the same. The loaded state may be newer. */
  #cursorBefore(cursor) {
    if (cursor === null || this.before === undefined) return cursor;
    const [[epoch, offset], [keptEpoch, keptOffset]] = [placeOf(cursor), placeOf(this.before.cursor)];
    if (epoch === keptEpoch) return keptOffset < offset ? this.before.cursor : cursor;
    this.before = undefined;
    return cursor;
  }

  async #take(event, frame) {
    const isMissed = this.away.isAway && event.metadata?.userId !== this.#page.me.id;
    if (frame.offset !== undefined) this.#underWay.add(frame.offset);
    const news = await this.#handlers.onEvent(event, frame);
    this.#underWay.delete(frame.offset);
    this.#page.outgoing.noticed(event);
    if (isMissed && news) this.away.add(news);
  }

  /** Keep how far the page has come, before it is left. */
  #keep() {
    const [epoch, offset] = placeOf(this.#page.client.cursor ?? "");
    if (this.phase !== "open" || this.isLeft || epoch === "") return;
    const shown = Math.min(offset, ...[...this.#underWay].map((each) => each - 1));
    writeKept(this.#page.me.id, this.room, { cursor: `${epoch}:${shown}`, more: this.#handlers.kept?.() });
  }

  /** @param {boolean} isNew  whether the list has just appeared: the user may be further down */
  #showAway(isNew) {
    if (this.phase !== "open") return;
    this.#handlers.draw();
    if (isNew && window.scrollY > 0) this.#page.toasts.show("The top of the page lists what happened while you were away.");
  }

  #reload() {
    this.#loadedUpTo = ""; // perhaps another stream, with new offsets
    this.#page.toasts.show("Some changes may be missing. Everything is loaded again.");
    this.load();
  }

  #leaveAsStranger() {
    this.leave(`You are no longer a member of ${this.#state.root.name}.`);
  }

  /** Show a notice if the role differs from the one that the page last showed. */
  #noteRole() {
    const { role, name } = this.#state.root;
    if (this.#notedRole !== undefined && this.#notedRole !== role) {
      closeDialogs();
      this.#page.toasts.show(`You are now ${withArticle(role)} of ${name}.`);
    }
    this.#notedRole = role;
  }
}
