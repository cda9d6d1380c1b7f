/**
 * Who is signed in, in this window only: two windows can be two people. Kept in sessionStorage, so that a reload stays
 * signed in; a window that was duplicated has the same session, and both share its renewals.
 */

const KEY = "beaconfire-session";
/** A token that has less than this left, (half its life, where that is shorter), is renewed before it is used. */
const SPARE_MS = 30_000;
/** How long the news of a renewal may take from the window that made it. */
const NEWS_MS = 100;

/** Thrown where the session has ended. `retry` tells the socket's client that trying again is of no use. */
export class SignedOut extends Error {
  retry = "no";
  status = 401;
  code = "signed_out";
}

export class Session {
  #auth;
  #data;
  #onEnd;
  #channel = new BroadcastChannel(KEY);
  #renewal = null;

  /**
   * @param {import("./api.js").SignInApi} auth
   * @param {{family: string, user: any, accessToken: string, refreshToken: string, renewAt: number}} data
   */
  constructor(auth, data) {
    this.#auth = auth;
    this.#data = data;
    this.#channel.onmessage = ({ data: news }) => this.#hear(news);
    this.#save();
  }

  /** The session of this window before its reload, or null. */
  static restored(auth) {
    try {
      const data = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
      return data && new Session(auth, data);
    } catch {
      return null;
    }
  }

  /** A new session from the answer to a sign-in or sign-up. */
  static begun(auth, answer) {
    return new Session(auth, { family: randomName(), ...kept(answer) });
  }

  get user() {
    return this.#data.user;
  }

  /** Called once when the session ends, by whatever, with a sentence why. */
  set onEnd(handler) {
    this.#onEnd = handler;
  }

  /** An access token that is good for a while. Throws SignedOut. */
  async token() {
    const { accessToken, renewAt } = this.#living();
    return Date.now() < renewAt ? accessToken : this.renewed(accessToken);
  }

  /** Another access token than `old`. Throws SignedOut. */
  async renewed(old = this.#living().accessToken) {
    this.#renewal ??= this.#renew(old).finally(() => (this.#renewal = null));
    await this.#renewal;
    return this.#living().accessToken;
  }

  /** Sign out here and, as far as it can be reached, at auth. */
  async signOut() {
    const { refreshToken } = this.#living();
    this.#end({ tellOthers: true, why: "You are signed out." });
    await this.#auth.signOut(refreshToken).catch(() => {});
  }

  async #renew(old) {
    // One window at a time: a refresh token that is used twice ends the session for everybody.
    await alone(`${KEY}-${this.#data?.family}`, async () => {
      const { accessToken, refreshToken } = this.#living();
      if (accessToken !== old) return; // another window was faster
      try {
        Object.assign(this.#living(), kept(await this.#auth.refresh(refreshToken)));
      } catch (error) {
        if (error.status === 401) this.#end({ tellOthers: true });
        throw error.status === 401 ? new SignedOut("Your session has ended. Please sign in again.") : error;
      }
      this.#save();
      this.#channel.postMessage({ family: this.#data.family, renewed: kept(this.#data) });
    });
  }

  #hear({ family, renewed, ended }) {
    if (!this.#data || family !== this.#data.family) return;
    if (ended) return this.#end({ tellOthers: false, why: ended });
    Object.assign(this.#data, renewed);
    this.#save();
  }

  #end({ tellOthers, why = "Your session has ended. Please sign in again." }) {
    if (!this.#data) return;
    if (tellOthers) this.#channel.postMessage({ family: this.#data.family, ended: why });
    this.#data = null;
    this.#channel.close();
    sessionStorage.removeItem(KEY);
    this.#onEnd?.(why);
  }

  #living() {
    if (!this.#data) throw new SignedOut("You are signed out.");
    return this.#data;
  }

  #save() {
    sessionStorage.setItem(KEY, JSON.stringify(this.#data));
  }
}

/** What is kept of an answer of auth, or of a session. */
function kept({ user, accessToken, refreshToken, expiresInS, renewAt }) {
  const spareMs = Math.min(SPARE_MS, expiresInS * 500);
  return { user, accessToken, refreshToken, renewAt: renewAt ?? Date.now() + expiresInS * 1000 - spareMs };
}

/** Run while no other window of this session does. Without Web Locks (no HTTPS, no localhost) there is no waiting. */
async function alone(name, run) {
  if (!navigator.locks) return run();
  const isFree = await navigator.locks.request(name, { ifAvailable: true }, (lock) => lock && run().then(() => true));
  if (isFree) return undefined;
  return navigator.locks.request(name, async () => {
    await new Promise((resolve) => setTimeout(resolve, NEWS_MS));
    return run();
  });
}

function randomName() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(36)).join("");
}
