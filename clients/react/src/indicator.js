import { mountIndicator } from "@beaconfire/client/indicator";
import { createElement, useEffect, useRef } from "react";

import { useProvided } from "./provider.js";

/**
 * Show the state of the connection: green, yellow, red with a Retry button, or grey. It hides 3 s after connecting. Import
 * `@beaconfire/client/styles.css` once.
 * @param {{className?: string, isSignedIn?: boolean}} props  `isSignedIn`: false hides it
 */
export function ConnectionIndicator({ className = "", isSignedIn = true }) {
  const { client } = useProvided("<ConnectionIndicator>");
  const element = useRef(/** @type {HTMLDivElement | null} */ (null));
  useEffect(() => {
    if (!isSignedIn || element.current === null) return;
    return mountIndicator(element.current, client);
  }, [client, isSignedIn]);
  return createElement("div", { ref: element, className: `beaconfire-indicator ${className}`.trim(), role: "status", hidden: true });
}
