/** The clock and the browser around a client, replaceable in tests. It also works without a browser. */

/**
 * @typedef {object} Clock
 * @property {(callback: () => void, ms: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} now  in ms; it continues while the machine sleeps
 */

/**
 * @typedef {object} Surroundings
 * @property {() => boolean} isOffline  whether the browser knows that there is no network
 * @property {(handlers: {onOnline: () => void, onOffline: () => void, onAwake: () => void,
 *   onFreeze: () => void}) => () => void} watch
 */

/** @type {Clock} */
export const systemClock = {
  setTimeout: (callback, ms) => setTimeout(callback, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  now: () => Date.now(), // continues while the machine sleeps; performance.now() does not in every browser
};

/** @type {Surroundings} */
export const browser = {
  isOffline: () => globalThis.navigator?.onLine === false,

  watch({ onOnline, onOffline, onAwake, onFreeze }) {
    if (!globalThis.window?.addEventListener) return () => {}; // Node, React Native
    // After sleep, only these events tell: timers did not run, and the socket may look open.
    const onVisible = () => document.visibilityState === "visible" && onAwake();
    const handlers = { online: onOnline, offline: onOffline, pagehide: onFreeze, pageshow: onAwake, focus: onAwake };
    const stop = new AbortController();
    const { signal } = stop;
    for (const [name, handler] of Object.entries(handlers)) window.addEventListener(name, handler, { signal });
    document.addEventListener("visibilitychange", onVisible, { signal });
    return () => stop.abort();
  },
};
