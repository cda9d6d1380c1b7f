/** Which way to take to the gateway: a WebSocket or, where that is blocked, one over plain HTTP. */

/** @typedef {"websocket" | "sse" | "poll"} Way */
/** @typedef {"auto" | Way} Transport */

/** From the best to the last resort. */
const WAYS = /** @type {const} */ (["websocket", "sse", "poll"]);
/** A WebSocket that has worked before is given up only after this many attempts: more likely the gateway is away. */
const PATIENCE = 2;

export class Ways {
  /** @type {readonly Way[]} */
  #possible;
  /** @type {Way | null} What worked last. */
  #proven = null;
  /** Whether a WebSocket has worked before. */
  #knowsSocket;
  /** Attempts in a row in which the WebSocket did not work. */
  #failures = 0;

  /**
   * @param {Transport} transport
   * @param {{WebSocket: unknown, fetch: unknown}} has  what there is in this environment
   * @param {boolean} [knowsSocket]  whether a WebSocket has worked before
   */
  constructor(transport, has, knowsSocket = false) {
    this.#knowsSocket = knowsSocket;
    if (transport !== "auto" && !WAYS.includes(transport)) {
      throw new TypeError(`transport: expected "auto", "websocket", "sse" or "poll", got ${JSON.stringify(transport)}`);
    }
    const isPossible = (/** @type {Way} */ way) => typeof (way === "websocket" ? has.WebSocket : has.fetch) === "function";
    const possible = transport === "auto" ? WAYS.filter(isPossible) : [transport];
    this.#possible = possible.length > 0 ? possible : ["websocket"]; // opening it says what is missing
  }

  /** The way with which an attempt begins: what worked last, or the best one. */
  get first() {
    return this.#order[0] ?? "websocket";
  }

  /**
   * The way to try after this one did not get through, in the same attempt; null if there is none.
   * @param {Way} way
   * @returns {Way | null}
   */
  after(way) {
    if (way === "websocket" && this.#knowsSocket && this.#failures < PATIENCE) return null;
    return this.#order[this.#order.indexOf(way) + 1] ?? null;
  }

  /** @param {Way} way */
  failed(way) {
    if (way === "websocket") this.#failures += 1;
  }

  /** @param {Way} way */
  worked(way) {
    this.#proven = way;
    if (way !== "websocket") return;
    this.#knowsSocket = true;
    this.#failures = 0;
  }

  /** The network is another one: what was blocked may work now. */
  forget() {
    this.#proven = null;
  }

  /**
   * Whether a WebSocket would be better than this way.
   * @param {Way} way
   */
  isSecondBest(way) {
    return way !== "websocket" && this.#possible.includes("websocket");
  }

  get #order() {
    const proven = this.#proven;
    return proven === null ? this.#possible : [proven, ...this.#possible.filter((way) => way !== proven)];
  }
}
