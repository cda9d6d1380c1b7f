/**
 * The newest tokens of a session, for all windows that have it: a window that was duplicated, or restored from disk days
 * later, has older ones. They lie in localStorage, sealed with a key that only those windows have: when the last of them is
 * closed, nobody can read them any more. Plain HTTP has no cryptography in browsers; there they lie as they cross the network.
 */

import { ofBrowser, parsed } from "./storage.js";

const PREFIX = "beaconfire-newest-";
/** Older than any refresh token: what is left of sessions whose windows were closed without signing out. */
const KEPT_MS = 30 * 24 * 3600 * 1000;

/** A key for a new session. */
export function newKey() {
  return encoded(crypto.getRandomValues(new Uint8Array(32)));
}

/**
 * Take away what nobody needs any more.
 * @param {string} [family]  the session that is kept whatever its age: the clock may have been set meanwhile
 */
export function sweep(family) {
  for (const key of ofBrowser.keys(PREFIX)) {
    if (key !== PREFIX + family && isOld(ofBrowser.read(key))) ofBrowser.remove(key);
  }
}

export class Newest {
  #name;
  #key;

  /** @param {string} family  the session's name @param {string} key  from `newKey` */
  constructor(family, key) {
    this.#name = PREFIX + family;
    this.#key = key;
  }

  /** @returns {Promise<{version: number} | undefined>} what was written last, by any window */
  async read() {
    const kept = ofBrowser.read(this.#name);
    try {
      return kept?.open ?? (kept && (await this.#opened(kept)));
    } catch {
      return undefined; // not written by us
    }
  }

  /** @param {{version: number}} record  replaces what is older, and nothing that is newer */
  async write(record) {
    const sealed = await this.#sealed(record);
    if ((await this.read())?.version > record.version) return;
    ofBrowser.write(this.#name, { at: Date.now(), ...sealed });
  }

  remove() {
    ofBrowser.remove(this.#name);
  }

  /**
   * Hear of what other windows do.
   * @param {{onNews: () => void, onRemoved: () => void}} handlers
   * @returns {() => void} stops it
   */
  watch({ onNews, onRemoved }) {
    const hear = ({ key, oldValue, newValue }) => {
      if (key !== this.#name) return;
      if (newValue !== null) onNews();
      else if (!isOld(parsed(oldValue))) onRemoved(); // else it was only swept: that signs nobody out
    };
    window.addEventListener("storage", hear);
    return () => window.removeEventListener("storage", hear);
  }

  async #sealed(record) {
    if (!crypto.subtle) return { open: record };
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const text = new TextEncoder().encode(JSON.stringify(record));
    return { iv: encoded(iv), sealed: encoded(await crypto.subtle.encrypt({ name: "AES-GCM", iv }, await this.#cipher(), text)) };
  }

  async #opened({ iv, sealed }) {
    const text = await crypto.subtle.decrypt({ name: "AES-GCM", iv: decoded(iv) }, await this.#cipher(), decoded(sealed));
    return JSON.parse(new TextDecoder().decode(text));
  }

  #cipher() {
    return crypto.subtle.importKey("raw", decoded(this.#key), "AES-GCM", false, ["encrypt", "decrypt"]);
  }
}

/** By a clock that may have been wrong then, or be wrong now. */
const isOld = (kept) => !(Date.now() - kept?.at < KEPT_MS);
const encoded = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));
const decoded = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
