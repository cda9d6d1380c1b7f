/**
 * The signed-in user of this window: two windows can be two users. The session is in sessionStorage, so that it survives a
 * reload. A window that was duplicated, or restored from disk, has the same session, perhaps with older tokens. So the
 * windows share the newest tokens (`newest.js`), and an older copy is never used instead of a newer one.
 */

import { Newest, newKey, sweep } from "./newest.js";
import { ofWindow } from "./storage.js";

const KEY = "beaconfire-session";
/** A token with less time left than this (or than half its life, if that is shorter) is renewed before it is used. */
const SPARE_MS = 30_000;
/** How long a window waits while another one renews the same session. A renewal takes less. */
const TURN_MS = 25_000;
const ENDED = "Your session has ended. Please sign in again.";
const SIGNED_OUT = "You are signed out.";

/** Thrown when the session has ended. `retry` tells the socket's client that trying again is useless. */
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
   *   `version` counts renewals: a higher one has newer tokens
   */
  constructor(auth, data) {
    this.#auth = auth;
    this.#data = data;
    this.#newest = new Newest(data.family, data.key);
    this.#unwatch = this.#newest.watch({ onNews: () => this.#catchUp(), onRemoved: () => this.#end(SIGNED_OUT) });
    this.#keep();
  }

  /** The session of this window from before the reload, or null. */
  static async restored(auth) {
    const data = ofWindow.read(KEY);
    sweep(data?.family);
    if (!data?.refreshToken) return null;
    const session = new Session(auth, { family: randomName(), key: newKey(), version: 0, ...data });
    await session.#catchUp();
    void session.#share();
    return session;
  }

  /** Create a session from the answer to a sign-in or sign-up. */
  static begun(auth, answer) {
    const session = new Session(auth, { family: randomName(), key: newKey(), version: 1, ...kept(answer) });
    void session.#share();
    return session;
  }

  get user() {
    return this.#data.user;
  }

  /** Called once when the session ends for any reason, with a sentence that says why. */
  set onEnd(handler) {
    this.#onEnd = handler;
  }

  /** An access token that is valid for a while. Throws SignedOut. */
  async token() {
    const { accessToken, renewAt } = this.#living();
    return Date.now() < renewAt ? accessToken : this.renewed(accessToken);
  }

  /** Another access token than `old`. Throws SignedOut. */
  async renewed(old = this.#living().accessToken) {
    // Callers share a renewal that is under way. It ends in time, since each of its steps does.
    while (this.#living().accessToken === old || Date.now() >= this.#living().renewAt) {
      this.#renewal ??= this.#renew(this.#living().accessToken).finally(() => (this.#renewal = null));
      await this.#renewal;
    }
    return this.#living().accessToken;
  }

  /** Sign out here and, if it can be reached, at auth. */
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
          if (this.#data?.version > version) continue; // refused, because another window has renewed in the meantime
          this.#end(ENDED);
          throw new SignedOut(ENDED);
        }
      }
    });
  }

  /** Use the tokens that another window has renewed. */
  async #catchUp() {
    const newest = await this.#newest.read();
    if (!this.#data || !newest || !(newest.version > this.#data.version)) return;
    Object.assign(this.#data, newest);
    this.#keep();
  }

  /** Share the renewed tokens with the other windows of this session. */
  async #share() {
    const { user, accessToken, refreshToken, renewAt, version } = this.#data;
    await this.#newest.write({ user, accessToken, refreshToken, renewAt, version });
    if (!this.#data) this.#newest.remove(); // signed out in the meantime
  }

  #end(why) {
    if (!this.#data) return;
    this.#data = null;
    this.#unwatch();
    this.#newest.remove(); // tells the other windows
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

/** The part of auth's answer that is kept. */
function kept({ user, accessToken, refreshToken, expiresInS }) {
  const spareMs = Math.min(SPARE_MS, expiresInS * 500);
  return { user, accessToken, refreshToken, renewAt: Date.now() + expiresInS * 1000 - spareMs };
}

/**
 * Run something while no other window of this session does. If the browser has no locks (plain HTTP), forbids them, or another
 * window does not finish, it runs anyway: two renewals at a time do no harm within the 10 s that auth allows.
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
