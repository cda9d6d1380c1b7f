/** Addresses. Behind a proxy the page may be below a path prefix, so no address starts at the root of the host. */

/** The page's own folder. */
export const HOME = new URL("..", import.meta.url);

/**
 * The address of a service, without a slash at the end.
 * @param {string} configured  empty: the same as the page's
 */
export function serviceUrl(configured) {
  return (configured || HOME.href).replace(/\/+$/, "");
}

/** @param {string} configured  empty: `ws` next to the page */
export function socketUrl(configured) {
  return configured || new URL("ws", HOME).href.replace(/^http/, "ws");
}
