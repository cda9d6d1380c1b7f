/** One socket, from its opening to its end. Its end is told once; what comes after that is not told at all. */

import { readFrame, SUBPROTOCOL } from "./protocol.js";

/** "No status": what a browser reports when a connection breaks off (RFC 6455 §7.1.5). */
export const BROKE_OFF = 1006;

/**
 * @typedef {object} LinkHandlers
 * @property {() => void} onOpen
 * @property {(frame: import("./protocol.js").Frame) => void} onFrame
 * @property {(code: number, reason: string) => void} onEnd
 */

export class Link {
  #url;
  #WebSocket;
  #handlers;
  /** @type {WebSocket | null} */
  #socket = null;
  #hasEnded = false;

  /**
   * @param {string} url
   * @param {typeof WebSocket} WebSocketClass
   * @param {LinkHandlers} handlers
   */
  constructor(url, WebSocketClass, handlers) {
    this.#url = url;
    this.#WebSocket = WebSocketClass;
    this.#handlers = handlers;
  }

  /** Open the socket. Throws SyntaxError for an address that is none, and TypeError without a WebSocket. */
  open() {
    if (this.#hasEnded) return;
    if (typeof this.#WebSocket !== "function") {
      throw new TypeError("there is no WebSocket here: give the client one, `new Client({ WebSocket, … })`, as Node before 22 needs");
    }
    const socket = new this.#WebSocket(this.#url, SUBPROTOCOL);
    this.#socket = socket;
    socket.onopen = () => this.#hasEnded || this.#handlers.onOpen();
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#end(code, reason);
    // `error` carries nothing and is always followed by `close`. Without a handler it ends a Node process that uses `ws`.
    socket.onerror = () => {};
  }

  /**
   * Send a message. False where the socket takes none: its `close` is then on its way.
   * @param {object} message
   */
  send(message) {
    if (this.#hasEnded || this.#socket?.readyState !== this.#WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Close it without a word to the handlers. A socket that does not answer is not waited for. */
  abandon() {
    this.#hasEnded = true;
    this.#socket?.close(1000);
    this.#socket = null;
  }

  /** @param {unknown} data */
  #receive(data) {
    if (this.#hasEnded) return;
    const frame = readFrame(data);
    if (frame !== null) this.#handlers.onFrame(frame);
  }

  /** @param {number} code @param {string} reason */
  #end(code, reason) {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#socket = null;
    this.#handlers.onEnd(code, reason);
  }
}
