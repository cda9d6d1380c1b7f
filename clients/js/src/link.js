/** One socket, from its opening to its end. `onEnd` is called once, and no handler is called after it. */

import { BATCHING_SUBPROTOCOL, framesIn, readFrame, SUBPROTOCOL } from "./protocol.js";

/** The code that a browser reports when a connection breaks off (RFC 6455 §7.1.5). */
export const BROKE_OFF = 1006;

/**
 * @typedef {object} LinkHandlers
 * @property {() => void} onOpen
 * @property {(frame: import("./protocol.js").Frame) => void} onFrame
 * @property {(code: number, reason: string) => void} onEnd
 */

export class Link {
  /** @type {import("./ways.js").Way} */
  way = "websocket";
  #url;
  #WebSocket;
  #handlers;
  #subprotocols;
  /** @type {WebSocket | null} */
  #socket = null;
  #hasEnded = false;

  /**
   * @param {string} url
   * @param {typeof WebSocket} WebSocketClass
   * @param {LinkHandlers} handlers
   * @param {boolean} [batch]  ask for the events of one moment in one message. An older gateway sends them one by one
   */
  constructor(url, WebSocketClass, handlers, batch = false) {
    this.#url = url;
    this.#WebSocket = WebSocketClass;
    this.#handlers = handlers;
    this.#subprotocols = batch ? [BATCHING_SUBPROTOCOL, SUBPROTOCOL] : SUBPROTOCOL;
  }

  /** Open the socket. Throws SyntaxError if the address is invalid, and TypeError if there is no WebSocket class. */
  open() {
    if (this.#hasEnded) return;
    if (typeof this.#WebSocket !== "function") {
      throw new TypeError("There is no WebSocket here. Pass one in the option `WebSocket`");
    }
    const socket = new this.#WebSocket(this.#url, this.#subprotocols);
    this.#socket = socket;
    socket.onopen = () => this.#hasEnded || this.#handlers.onOpen();
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#end(code, reason);
    // `error` carries no information, and `close` always follows. Without this handler, `ws` would end a Node process.
    socket.onerror = () => {};
  }

  /**
   * Send a message. Returns false if the socket is not open; `close` follows then.
   * @param {object} message
   */
  send(message) {
    if (this.#hasEnded || this.#socket?.readyState !== this.#WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Close the socket without calling a handler, and without waiting for an answer. */
  abandon() {
    this.#hasEnded = true;
    this.#socket?.close(1000);
    this.#socket = null;
  }

  /** @param {unknown} data */
  #receive(data) {
    const frame = readFrame(data);
    if (frame === null) return;
    for (const one of framesIn(frame)) {
      if (this.#hasEnded) return; // a handler may end it
      this.#handlers.onFrame(one);
    }
  }

  /** @param {number} code @param {string} reason */
  #end(code, reason) {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#socket = null;
    this.#handlers.onEnd(code, reason);
  }
}
