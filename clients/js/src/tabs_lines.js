/** The way from a tab to the hub that has the connection (`tabs_hub.js`): to a SharedWorker. `tabs_leader.js` has the other one. */

/** How long the worker may take to answer. */
const WELCOME_MS = 3000;

/** @typedef {import("./tabs_hub.js").Port} Port */

/**
 * @callback OnPort
 * @param {Port | null} port  to a hub that listens; null while there is none
 * @param {string} alive  the name of a lock that this tab holds as long as it lives, so that the hub notices its end
 * @returns {void}
 */

/**
 * A way from a tab to the hub.
 * @typedef {object} Line
 * @property {(onPort: OnPort) => Promise<boolean>} open  calls back with a port, and with another one each time the hub has moved.
 *   It resolves when there is a first port, or with false if no hub answers in time
 * @property {() => void} close  it may be opened again
 */

/** @implements {Line} */
export class WorkerLine {
  #name;
  #make;
  #isOpen = false;
  #release = () => {};

  /** @param {string} name  of the worker: tabs with the same name share it @param {() => SharedWorker} [make] */
  constructor(name, make) {
    this.#name = name;
    this.#make = make ?? (() => new SharedWorker(new URL("./tabs_worker.js", import.meta.url), { type: "module", name }));
  }

  /** @param {OnPort} onPort */
  async open(onPort) {
    this.#isOpen = true;
    const alive = uniqueName(this.#name);
    const release = (this.#release = await held(alive));
    try {
      const worker = this.#make();
      const { port } = worker;
      const isWelcome = await new Promise((resolve) => {
        worker.onerror = () => resolve(false);
        port.onmessage = ({ data }) => data.kind === "welcome" && resolve(true);
        setTimeout(() => resolve(false), WELCOME_MS);
      });
      if (isWelcome && this.#isOpen) {
        onPort(port, alive);
        return true;
      }
    } catch {
      // A policy of the page may forbid workers.
    }
    release();
    return false;
  }

  close() {
    this.#isOpen = false;
    this.#release(); // the hub closes the port, after what was sent
  }
}

/** @param {string} name */
export function uniqueName(name) {
  return `${name} ${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
}

/**
 * Hold a lock.
 * @param {string} name
 * @returns {Promise<() => void>} releases it
 */
export function held(name) {
  return new Promise((resolve) => {
    void navigator.locks.request(name, () => new Promise((release) => resolve(() => release(undefined))));
  });
}
