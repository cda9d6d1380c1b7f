/**
 * Who is signed in, in this window only: two windows can be two people. Kept in sessionStorage, so that a reload stays
 * signed in. A window that was duplicated, or restored from disk, has the same session with tokens of its own age: the
 * newest ones are shared (`newest.js`), and an older copy is never used over a newer one.
 */

import { Newest, newKey, sweep } from "./newest.js";
import { ofWindow } from "./storage.js";

const KEY = "beaconfire-session";
/** A token that has less than this left, (half its life, where that is shorter), is renewed before it is used. */
const SPARE_MS = 30_000;
/** How long a window waits for another one that renews the same session: longer than a renewal may take. */
const TURN_MS = 25_000;
const ENDED = "Your session has ended. Please sign in again.";
const SIGNED_OUT = "You are signed out.";

/** Thrown when the session has ended. `retry` tells the socket's client that trying again is of no use. */
export class SignedOut extends Error {
  retry = "no";
  status = 401;
  code = "signed_out";
}

export class Session {
  #auth;
  #data;
  #newest;
  #onEnd;
  #renewal = null;
  #unwatch;

  /**
   * @param {import("./api.js").SignInApi} auth
   * @param {{family: string, key: string, version: number, user: any, accessToken: string, refreshToken: string, renewAt: number}} data
   *   `version` counts renewals: the higher one has the newer tokens
   */
  constructor(auth, data) {
    this.#auth = auth;
    this.#data = data;
    this.#newest = new Newest(data.family, data.key);
    this.#unwatch = this.#newest.watch({ onNews: () => this.#catchUp(), onRemoved: () => this.#end(SIGNED_OUT) });
    this.#keep();
  }

  /** The session of this window before its reload, or null. */
  static async restored(auth) {
    const data = ofWindow.read(KEY);
    sweep(data?.family);
    if (!data?.refreshToken) return null;
    const session = new Session(auth, { family: randomName(), key: newKey(), version: 0, ...data });
    await session.#catchUp();
    void session.#share();
    return session;
  }

  /** A new session from the answer to a sign-in or sign-up. */
  static begun(auth, answer) {
    const session = new Session(auth, { family: randomName(), key: newKey(), version: 1, ...kept(answer) });
    void session.#share();
    return session;
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
    // Who comes while a renewal is under way waits for that one; it ends in time, as each of its steps does.
    while (this.#living().accessToken === old || Date.now() >= this.#living().renewAt) {
      this.#renewal ??= this.#renew(this.#living().accessToken).finally(() => (this.#renewal = null));
      await this.#renewal;
    }
    return this.#living().accessToken;
  }

  /** Sign out here and, as far as it can be reached, at auth. */
  async signOut() {
    const { refreshToken } = this.#living();
    this.#end(SIGNED_OUT);
    await this.#auth.signOut(refreshToken).catch(() => {});
  }

  async #renew(old) {
    await alone(`${KEY}-${this.#living().family}`, async () => {
      for (;;) {
        await this.#catchUp(); // another window was faster, or this one slept for days
        const { accessToken, refreshToken, renewAt, version } = this.#living();
        if (accessToken !== old && Date.now() < renewAt) return;
        try {
          const answer = await this.#auth.refresh(refreshToken);
          Object.assign(this.#living(), kept(answer), { version: Math.max(version, this.#living().version) + 1 });
          this.#keep();
          return await this.#share();
        } catch (error) {
          if (error.status !== 401) throw error;
          await this.#catchUp();
          if (this.#data?.version > version) continue; // refused, as another window has renewed meanwhile
          this.#end(ENDED);
          throw new SignedOut(ENDED);
        }
      }
    });
  }

  /** Take over what another window has renewed. */
  async #catchUp() {
    const newest = await this.#newest.read();
    if (!this.#data || !newest || !(newest.version > this.#data.version)) return;
    Object.assign(this.#data, newest);
    this.#keep();
  }

  /** Give the other windows of this session what this one has renewed. */
  async #share() {
    const { user, accessToken, refreshToken, renewAt, version } = this.#data;
    await this.#newest.write({ user, accessToken, refreshToken, renewAt, version });
    if (!this.#data) this.#newest.remove(); // signed out meanwhile
  }

  #end(why) {
    if (!this.#data) return;
    this.#data = null;
    this.#unwatch();
    this.#newest.remove(); // the other windows hear that
    ofWindow.remove(KEY);
    this.#onEnd?.(why);
  }

  #living() {
    if (!this.#data) throw new SignedOut(SIGNED_OUT);
    return this.#data;
  }

  #keep() {
    ofWindow.write(KEY, this.#data);
  }
}

/** What is kept of an answer of auth. */
function kept({ user, accessToken, refreshToken, expiresInS }) {
  const spareMs = Math.min(SPARE_MS, expiresInS * 500);
  return { user, accessToken, refreshToken, renewAt: Date.now() + expiresInS * 1000 - spareMs };
}

/**
 * Run while no other window of this session does. If the browser has no locks (plain HTTP), forbids them, or another window
 * does not end, it is run nevertheless: two renewals at a time do no harm within the 10 s that auth gives.
 */
async function alone(name, run) {
  let isRunning = false;
  const once = () => ((isRunning = true), run());
  try {
    if (navigator.locks) return await navigator.locks.request(name, { signal: AbortSignal.timeout(TURN_MS) }, once);
  } catch (error) {
    if (isRunning) throw error;
  }
  return run();
}

function randomName() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(36)).join("");
}
