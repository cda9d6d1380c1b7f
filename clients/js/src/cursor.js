/** Where the client stands in the stream: PROTOCOL.md §5, "Order and cursor". */

export class Cursor {
  #epoch = "";
  #offset = -1;

  /** As it goes into `connect`; undefined before the first ack. */
  get value() {
    return this.#offset < 0 ? undefined : `${this.#epoch}:${this.#offset}`;
  }

  /**
   * The ack's cursor: ours repeated, or the gateway's position. Never moves back within an epoch; an ack of another
   * epoch is where the session stands now (its `resync` follows).
   * @param {string} text
   */
  begin(text) {
    const { epoch, offset } = parse(text);
    if (epoch === this.#epoch) this.#offset = Math.max(this.#offset, offset);
    else this.reset(text);
  }

  /**
   * "It applies an event if its offset is above the cursor, drops it otherwise."
   * @param {number} offset
   * @returns {boolean} whether to apply it
   */
  take(offset) {
    if (offset <= this.#offset) return false;
    this.#offset = offset;
    return true;
  }

  /**
   * A `position`: forward only, and only within the epoch ("compare offsets only within one epoch").
   * @param {string} text
   */
  advance(text) {
    const { epoch, offset } = parse(text);
    if (epoch === this.#epoch && offset > this.#offset) this.#offset = offset;
  }

  /**
   * A `resync`: the one thing that may move it back or to another epoch.
   * @param {string} text
   */
  reset(text) {
    ({ epoch: this.#epoch, offset: this.#offset } = parse(text));
  }
}

/** @param {string} text */
function parse(text) {
  const at = text.lastIndexOf(":");
  const offset = Number(text.slice(at + 1));
  return { epoch: text.slice(0, at), offset: Number.isSafeInteger(offset) ? offset : 0 };
}
