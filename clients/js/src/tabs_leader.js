/**
 * One connection for all tabs without a SharedWorker: in one of the tabs, the leader. The leader holds a Web Lock. The other tabs
 * wait for the lock, and reach the leader's hub over BroadcastChannels.
 *
 *     following ── the lock is free, or the leader hangs ──▶ leading ── closed, frozen, or it has lost the lock ──▶ following
 *
 * When another tab leads, every tab joins its hub, and goes on from where it was (`TabClient`). What the hub before has still sent
 * does not count, since each leader has channels of its own.
 */

import { Hub } from "./tabs_hub.js";
import { held, uniqueName } from "./tabs_lines.js";

/** How often a visible tab asks whether the leader still answers. */
const ASK_MS = 10_000;
/** How long a leader may take to answer. Then it hangs, and the tab that asked takes its place. */
const ANSWER_MS = 3000;
/** How long it may take until a new tab has a hub. If the leader hangs, this includes taking its place. */
const OPEN_MS = 2 * ANSWER_MS;

/** @typedef {import("./tabs_hub.js").Port} Port */
/** @typedef {import("./tabs_lines.js").OnPort} OnPort */

/** @typedef {import("./tabs_lines.js").Line} Line */

/** @implements {Line} */
export class LeaderLine {
  #name;
  #makeHub;
  /** @type {OnPort} */
  #onPort = () => {};
  #isOpen = false;
  /** @type {BroadcastChannel | null} For all tabs, while this one takes part. */
  #channel = null;
  /** @type {Port | null} To the hub of the leader. */
  #port = null;
  /** @type {BroadcastChannel | null} A port whose hub does not listen yet. */
  #next = null;
  /** The name of the leader that this tab has joined, or joins. Each time that a tab begins to lead, it has another name. */
  #leader = "";
  #alive = "";
  #releaseAlive = () => {};
  /** @type {Hub | null} While this tab leads. */
  #hub = null;
  #releaseLead = () => {};
  /** Withdraws this tab's wish to lead. */
  #candidacy = new AbortController();
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #asking;
  /** @type {ReturnType<typeof setTimeout> | undefined} Set while this tab waits for an answer of the leader. */
  #patience;
  /** Ends listening to the page. */
  #unwatch = new AbortController();

  /** @param {string} name  tabs with the same name share a leader @param {() => Hub} [makeHub] */
  constructor(name, makeHub = () => new Hub()) {
    this.#name = `${name} leader`;
    this.#makeHub = makeHub;
  }

  /** @param {OnPort} onPort */
  async open(onPort) {
    this.#isOpen = true;
    this.#alive = uniqueName(this.#name);
    this.#releaseAlive = await held(this.#alive);
    if (!this.#isOpen) {
      this.#releaseAlive(); // it was closed in the meantime
      return false;
    }
    this.#watchPage();
    return new Promise((resolve) => {
      const late = setTimeout(() => resolve(false), OPEN_MS);
      this.#onPort = (port, alive) => {
        onPort(port, alive);
        if (port === null) return;
        clearTimeout(late);
        resolve(true);
      };
      this.#enter();
    });
  }

  close() {
    this.#isOpen = false;
    this.#unwatch.abort();
    this.#leave();
    this.#onPort = () => {};
    this.#releaseAlive();
  }

  #watchPage() {
    if (!globalThis.document?.addEventListener) return;
    this.#unwatch = new AbortController();
    const { signal } = this.#unwatch;
    const rest = () => this.#leave();
    const resume = () => this.#enter();
    const look = () => document.visibilityState === "visible" && this.#ask();
    // A frozen page can neither lead nor take in what it is sent.
    document.addEventListener("freeze", rest, { signal });
    document.addEventListener("resume", resume, { signal });
    window.addEventListener("pagehide", rest, { signal });
    window.addEventListener("pageshow", resume, { signal });
    document.addEventListener("visibilitychange", look, { signal });
    window.addEventListener("focus", look, { signal });
  }

  /** Take part: join the leader, or lead. */
  #enter() {
    if (this.#channel !== null) return;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    this.#stand();
    this.#ask();
    this.#asking = setInterval(() => globalThis.document?.visibilityState !== "hidden" && this.#ask(), ASK_MS);
  }

  /** Take part no longer. If this tab leads, the next one does. */
  #leave() {
    clearInterval(this.#asking);
    this.#hearAnswer();
    this.#candidacy.abort();
    this.#port?.postMessage({ kind: "bye" });
    this.#resign();
    this.#channel?.close();
    this.#channel = null;
  }

  /**
   * Lead as soon as the lock is free or, with `steal`, now.
   * @param {{steal?: boolean}} [options]
   */
  #stand({ steal = false } = {}) {
    this.#candidacy.abort();
    const candidacy = (this.#candidacy = new AbortController());
    const lead = () => (candidacy.signal.aborted ? undefined : this.#lead());
    const options = steal ? { steal } : { signal: candidacy.signal };
    navigator.locks.request(this.#name, options, lead).catch(() => {
      // It was withdrawn, or another tab has taken the lock: this one may have hung.
      if (candidacy.signal.aborted) return;
      this.#resign();
      this.#stand();
      this.#ask();
    });
  }

  /** @returns {Promise<void>} resolves when this tab leads no longer */
  #lead() {
    this.#hearAnswer();
    this.#hub = this.#makeHub();
    this.#leader = uniqueName(this.#name);
    this.#say({ kind: "leader", leader: this.#leader });
    const { port1, port2 } = new MessageChannel();
    this.#hub.attach(port2);
    this.#use(port1);
    return new Promise((resolve) => (this.#releaseLead = () => resolve(undefined)));
  }

  #resign() {
    this.#hub?.close();
    this.#hub = null;
    this.#releaseLead();
    this.#leader = "";
    this.#next?.close();
    this.#next = null;
    this.#use(null);
  }

  /** Find out who leads, and whether it still answers. */
  #ask() {
    if (this.#hub !== null || this.#channel === null) return;
    this.#say({ kind: "who" });
    this.#patience ??= setTimeout(() => {
      this.#hearAnswer();
      this.#stand({ steal: true });
    }, ANSWER_MS);
  }

  #hearAnswer() {
    clearTimeout(this.#patience);
    this.#patience = undefined;
  }

  /** @param {{kind: string, leader?: string, port?: string}} message  of another tab */
  #hear({ kind, leader = "", port = "" }) {
    if (this.#hub === null) {
      if (kind !== "leader") return;
      this.#hearAnswer();
      if (leader !== this.#leader) this.#join(leader);
    } else if (kind === "who") {
      this.#say({ kind: "leader", leader: this.#leader });
    } else if (kind === "join" && leader === this.#leader) {
      this.#hub.attach(new BroadcastChannel(port));
    }
  }

  /** @param {string} leader */
  #join(leader) {
    this.#leader = leader;
    const name = `${leader} ${this.#alive}`;
    const port = new BroadcastChannel(name);
    this.#next?.close();
    this.#next = port;
    port.onmessage = ({ data }) => data.kind === "welcome" && this.#use(port);
    this.#say({ kind: "join", leader, port: name });
  }

  /** @param {Port | null} port  to a hub that listens */
  #use(port) {
    if (port === this.#next) this.#next = null;
    this.#port?.close();
    this.#port = port;
    this.#onPort(port, this.#alive);
  }

  /** @param {object} message  to every other tab */
  #say(message) {
    this.#channel?.postMessage(message);
  }
}
