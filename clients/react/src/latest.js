import { useInsertionEffect, useRef } from "react";

/**
 * Return a reference to the value of the last render that reached the page. Handlers read it, so that a new function in each
 * render changes nothing else. An insertion effect runs before every other effect, and React does not warn of it on a server.
 * @template Value
 * @param {Value} value
 */
export function useLatest(value) {
  const latest = useRef(value);
  useInsertionEffect(() => {
    latest.current = value;
  });
  return latest;
}
