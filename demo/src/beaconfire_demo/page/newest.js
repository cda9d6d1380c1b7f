/**
 * The newest tokens of a session, shared by its windows: a window that was duplicated, or restored from disk days later, has
 * older ones. They are in localStorage, encrypted with a key that only those windows have. After the last of them is closed,
 * the tokens cannot be read. Over plain HTTP browsers have no cryptography, and the tokens are stored as they are.
 */

import { ofBrowser, parsed } from "./storage.js";

const PREFIX = "beaconfire-newest-";
/** Longer than any refresh token lives. Older entries belong to windows that were closed without signing out. */
const KEPT_MS = 30 * 24 * 3600 * 1000;

/** A key for a new session. */
export function newKey() {
  return encoded(crypto.getRandomValues(new Uint8Array(32)));
}

/**
 * Remove old entries.
 * @param {string} [family]  the session that is kept even if it is old, since the clock may have been changed
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

  /** @returns {Promise<{version: number} | undefined>} what a window wrote last */
  async read() {
    const kept = ofBrowser.read(this.#name);
    try {
      return kept?.open ?? (kept && (await this.#opened(kept)));
    } catch {
      return undefined; // not written by this page
    }
  }

  /** @param {{version: number}} record  replaces an older record, never a newer one */
  async write(record) {
    const sealed = await this.#sealed(record);
    if ((await this.read())?.version > record.version) return;
    ofBrowser.write(this.#name, { at: Date.now(), ...sealed });
  }

  remove() {
    ofBrowser.remove(this.#name);
  }

  /**
   * Call handlers when another window writes or removes tokens.
   * @param {{onNews: () => void, onRemoved: () => void}} handlers
   * @returns {() => void} stops it
   */
  watch({ onNews, onRemoved }) {
    const hear = ({ key, oldValue, newValue }) => {
      if (key !== this.#name) return;
      if (newValue !== null) onNews();
      else if (!isOld(parsed(oldValue))) onRemoved(); // an old record was only cleaned up, which signs no user out
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

/** Whether a record is old. The clock may have been wrong then, or may be wrong now. */
const isOld = (kept) => !(Date.now() - kept?.at < KEPT_MS);
const encoded = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));
const decoded = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
