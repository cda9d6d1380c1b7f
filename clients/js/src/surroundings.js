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
    if (typeof window === "undefined") return () => {};
    // A laptop that slept shows itself by these two only: its timers did not run, its socket may look open.
    const onVisible = () => document.visibilityState === "visible" && onAwake();
    window.addEventListener("online", onOnline);
    window.addEventListener("offline", onOffline);
    window.addEventListener("pageshow", onAwake);
    document.addEventListener("visibilitychange", onVisible);
    return () => {
      window.removeEventListener("online", onOnline);
      window.removeEventListener("offline", onOffline);
      window.removeEventListener("pageshow", onAwake);
      document.removeEventListener("visibilitychange", onVisible);
    };
  },
};
