/** Where things are. Behind a proxy the page may lie below a path prefix, so nothing is addressed from the root of the host. */

/** The page's own folder. */
export const HOME = new URL("..", import.meta.url);

/**
 * Where a service is, without a slash at the end.
 * @param {string} configured  empty: where the page is
 */
export function serviceUrl(configured) {
  return (configured || HOME.href).replace(/\/+$/, "");
}

/** @param {string} configured  empty: `ws` where the page is */
export function socketUrl(configured) {
  return configured || new URL("ws", HOME).href.replace(/^http/, "ws");
}
