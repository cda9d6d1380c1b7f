/**
 * What a client does where WebSockets are blocked: which way it takes instead, and how it finds out that a WebSocket works again.
 * The client loads it when a WebSocket does not get through for the first time.
 */

import { FallbackLink } from "./fallback.js";
import { Link } from "./link.js";
import { Timer } from "./timer.js";
import { Ways } from "./ways.js";

/** Pauses between attempts to get back to a WebSocket: 5, 10, 20 … 300 s. */
const FIRST_PAUSE_MS = 5000;
const LAST_PAUSE_MS = 300_000;
/** How long a WebSocket may take to open. */
const OPEN_TIMEOUT_MS = 10_000;

/** @typedef {import("./ways.js").Way} Way */

export class Detour extends Ways {
  #means;
  #onSocket;
  #timer;
  #pauseMs = FIRST_PAUSE_MS;
  /** @type {Link | null} Tries whether a WebSocket opens. */
  #probe = null;

  /**
   * @param {object} means
   * @param {string} means.url
   * @param {import("./ways.js").Transport} means.transport
   * @param {typeof fetch} means.fetch
   * @param {typeof WebSocket} means.WebSocket
   * @param {import("./surroundings.js").Clock} means.clock
   * @param {boolean} means.knowsSocket  whether a WebSocket has worked before
   * @param {() => void} onSocket  called when a WebSocket opens again
   */
  constructor(means, onSocket) {
    super(means.transport, means, means.knowsSocket);
    this.#means = means;
    this.#onSocket = onSocket;
    this.#timer = new Timer(means.clock);
  }

  /**
   * A link over plain HTTP. Throws TypeError if the address is invalid.
   * @param {Exclude<Way, "websocket">} way @param {import("./link.js").LinkHandlers} handlers
   */
  link(way, handlers) {
    return new FallbackLink(way, this.#means.url, this.#means, handlers);
  }

  /**
   * A link has connected the client.
   * @override
   * @param {Way} way
   */
  worked(way) {
    super.worked(way);
    this.stop();
    if (this.isSecondBest(way)) this.#lookLater();
    else this.#pauseMs = FIRST_PAUSE_MS;
  }

  /** The network is another one: look soon, and often again. */
  look() {
    this.#pauseMs = FIRST_PAUSE_MS;
    if (this.#timer.isSet) this.#lookNow();
  }

  /** Look no longer: no link connects the client. */
  stop() {
    this.#timer.stop();
    this.#probe?.abandon();
    this.#probe = null;
  }

  #lookLater() {
    this.stop();
    this.#timer.set(this.#pauseMs, () => this.#lookNow());
    this.#pauseMs = Math.min(LAST_PAUSE_MS, this.#pauseMs * 2);
  }

  #lookNow() {
    this.stop();
    const onEnd = () => this.#lookLater();
    const onOpen = () => {
      this.stop();
      this.forget();
      this.#onSocket();
    };
    this.#probe = new Link(this.#means.url, this.#means.WebSocket, { onOpen, onFrame: () => {}, onEnd });
    this.#timer.set(OPEN_TIMEOUT_MS, onEnd);
    this.#probe.open();
  }
}
