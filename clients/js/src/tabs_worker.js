/** The SharedWorker of `tabs.js`: one for each address and user. */

import { Hub } from "./tabs_hub.js";

const hub = new Hub();
/** @type {any} */ (globalThis).onconnect = (/** @type {MessageEvent} */ { ports }) => {
  const [port] = ports;
  if (port) hub.attach(port);
};
