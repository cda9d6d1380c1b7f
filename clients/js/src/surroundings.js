/** Time and browser around a client, replaceable in tests. Works where there is no browser at all. */

/**
 * @typedef {object} Clock
 * @property {(callback: () => void, ms: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} now  ms, going on while the machine sleeps
 */

/**
 * @typedef {object} Surroundings
 * @property {() => boolean} isOffline  whether the browser knows that there is no network
 * @property {(handlers: {onOnline: () => void, onOffline: () => void, onAwake: () => void}) => () => void} watch
 */

/** @type {Clock} */
export const systemClock = {
  setTimeout: (callback, ms) => globalThis.setTimeout(callback, ms),
  clearTimeout: (timer) => globalThis.clearTimeout(timer),
  now: () => Date.now(), // counts the time that a machine sleeps; performance.now() does not everywhere
};

/** @type {Surroundings} */
export const browser = {
  isOffline: () => globalThis.navigator?.onLine === false,

  watch({ onOnline, onOffline, onAwake }) {
    if (typeof window === "undefined" || typeof window.addEventListener !== "function") return () => {}; // Node, React Native
    // A laptop that slept shows itself by these only: its timers did not run, its socket may look open.
    const onVisible = () => document.visibilityState === "visible" && onAwake();
    const stop = new AbortController();
    const { signal } = stop;
    window.addEventListener("online", onOnline, { signal });
    window.addEventListener("offline", onOffline, { signal });
    window.addEventListener("pageshow", onAwake, { signal });
    window.addEventListener("focus", onAwake, { signal });
    document.addEventListener("visibilitychange", onVisible, { signal });
    return () => stop.abort();
  },
};
