/** Short notices in a corner: of the connection, of important events, and of the application. */

import { announceConnection, Toasts } from "@beaconfire/client/toasts";
import { createContext, createElement, Fragment, useContext, useEffect, useMemo, useRef } from "react";

import { useLatest } from "./latest.js";
import { useProvided } from "./provider.js";

/** @typedef {import("@beaconfire/client/events").Events} Events */
/** @typedef {{kind?: import("@beaconfire/client/toasts").Kind, ms?: number}} ToastOptions  `ms: 0`: until it is dismissed */
/** @typedef {string | ({text: string} & ToastOptions) | null | undefined} Toast */
/** @typedef {{[Type in keyof Events]?: (event: Events[Type]) => Toast}} EventToasts */

/**
 * @typedef {object} ToastApi
 * @property {(text: string, options?: ToastOptions) => () => void} show  returns what dismisses it
 */

const Shown = createContext(/** @type {ToastApi | null} */ (null));

/**
 * @typedef {object} ToastProviderProps
 * @property {import("react").ReactNode} [children]
 * @property {EventToasts} [events]  the text for each type of event that is worth a notice; null for none. Only events of rooms
 *   that are subscribed to come
 * @property {boolean} [connection]  whether to tell that the connection was lost, and is back; true by default
 * @property {string} [className]
 */

/**
 * Show notices. Everything below may show some, too, with `useToasts`. Import `@beaconfire/client/styles.css` once.
 * @param {ToastProviderProps} props
 */
export function ToastProvider({ children, events, connection = true, className = "" }) {
  const { client } = useProvided("<ToastProvider>");
  const element = useRef(/** @type {HTMLDivElement | null} */ (null));
  const toasts = useRef(/** @type {Toasts | null} */ (null));
  const latest = useLatest(events);
  useEffect(() => {
    if (element.current !== null) toasts.current = new Toasts(element.current);
    return () => {
      element.current?.replaceChildren();
      toasts.current = null;
    };
  }, []);
  useEffect(() => {
    if (connection && toasts.current) return announceConnection(client, toasts.current);
  }, [client, connection]);
  useEffect(() => client.on("event", ({ event }) => showEvent(toasts.current, latest.current, event)), [client]);
  const api = useMemo(
    /** @returns {ToastApi} */
    () => ({ show: (text, options) => toasts.current?.show(text, options) ?? (() => {}) }),
    [],
  );
  return createElement(
    Fragment,
    null,
    createElement(Shown.Provider, { value: api }, children),
    createElement("div", { ref: element, className: `beaconfire-toasts ${className}`.trim(), role: "status", "aria-live": "polite" }),
  );
}

/**
 * Return `show`, which shows a notice.
 * @returns {ToastApi}
 */
export function useToasts() {
  const api = useContext(Shown);
  if (api !== null) return api;
  throw new Error("useToasts was called outside <ToastProvider>. Put <ToastProvider> inside <BeaconfireProvider>, around your application.");
}

/** @param {Toasts | null} toasts @param {EventToasts | undefined} texts @param {{type: string}} event */
function showEvent(toasts, texts, event) {
  const textOf = texts?.[/** @type {keyof Events} */ (event.type)];
  const toast = textOf?.(/** @type {any} */ (event));
  if (!toast) return;
  const { text, ...options } = typeof toast === "string" ? { text: toast } : toast;
  toasts?.show(text, options);
}
