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

  get epoch() {
    return this.#epoch;
  }

  /**
   * Like `take`, for one who is not told where an epoch begins: what is of another epoch is new.
   * @param {string} epoch @param {number} offset
   */
  takeIn(epoch, offset) {
    if (epoch === this.#epoch) return this.take(offset);
    this.#epoch = epoch;
    this.#offset = offset;
    return true;
  }

  /**
   * Not above this one any more: what comes after it has not been taken.
   * @param {string} text
   */
  lower(text) {
    const { epoch, offset } = parse(text);
    if (epoch === this.#epoch && offset < this.#offset) this.#offset = offset;
  }

  /**
   * Whether it stands at or above another; never where that is of another epoch.
   * @param {string} text
   */
  hasReached(text) {
    const { epoch, offset } = parse(text);
    return epoch === this.#epoch && offset <= this.#offset;
  }
}

/**
 * The one of two cursors from which both are served. Of another epoch than ours is the better: it is answered by `resync`.
 * @param {string} one @param {string} other @param {string} epoch  ours
 */
export function earlier(one, other, epoch) {
  const [first, second] = [parse(one), parse(other)];
  if (first.epoch !== second.epoch) return first.epoch === epoch ? other : one;
  return first.offset <= second.offset ? one : other;
}

/**
 * Whether an offset of the current epoch lies above a cursor. All do where that is of another epoch.
 * @param {string} epoch @param {number} offset @param {string} text
 */
export function isAbove(epoch, offset, text) {
  const cursor = parse(text);
  return cursor.epoch !== epoch || offset > cursor.offset;
}

/**
 * The cursor, as it is. Refuses what is none, so that the mistake has a stack.
 * @param {string} text
 */
export function checkedCursor(text) {
  if (!isCursor(text)) throw new TypeError(`not a cursor: ${JSON.stringify(text)?.slice(0, 100)}`);
  return text;
}

/** @param {unknown} text @returns {text is string} */
export function isCursor(text) {
  return typeof text === "string" && /^.+:\d{1,16}$/.test(text);
}

/** @param {string} text */
function parse(text) {
  const at = text.lastIndexOf(":");
  const offset = Number(text.slice(at + 1));
  return { epoch: text.slice(0, at), offset: Number.isSafeInteger(offset) ? offset : 0 };
}
