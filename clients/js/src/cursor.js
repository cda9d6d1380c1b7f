/** The client's place in the stream (PROTOCOL.md §5, "Order and cursor"). */

export class Cursor {
  #epoch = "";
  #offset = -1;

  /** The cursor for `connect`; undefined before the first ack. */
  get value() {
    return this.#offset < 0 ? undefined : `${this.#epoch}:${this.#offset}`;
  }

  /**
   * Take the ack's cursor: ours repeated, or the gateway's position. It never moves back within an epoch. If the epoch is
   * another one, the session stands there now, and `resync` follows.
   * @param {string} text
   */
  begin(text) {
    if (parse(text).epoch === this.#epoch) this.advance(text);
    else this.reset(text);
  }

  /**
   * Move to a `position`: only forward, and only within the epoch.
   * @param {string} text
   */
  advance(text) {
    this.#move(text, Math.max);
  }

  /**
   * Move to the cursor of a `resync`, even if it is lower or has another epoch.
   * @param {string} text
   */
  reset(text) {
    ({ epoch: this.#epoch, offset: this.#offset } = parse(text));
  }

  get epoch() {
    return this.#epoch;
  }

  /**
   * Move to an event's offset. Events at or below the cursor are dropped. An event of another epoch is new.
   * @param {string} epoch @param {number} offset
   * @returns {boolean} whether to apply it
   */
  takeIn(epoch, offset) {
    if (epoch === this.#epoch && offset <= this.#offset) return false;
    this.#epoch = epoch;
    this.#offset = offset;
    return true;
  }

  /**
   * Move back to this cursor if it is lower: events after it have not been applied.
   * @param {string} text
   */
  lower(text) {
    this.#move(text, Math.min);
  }

  /** @param {string} text @param {(ours: number, offset: number) => number} choose */
  #move(text, choose) {
    const { epoch, offset } = parse(text);
    if (epoch === this.#epoch) this.#offset = choose(this.#offset, offset);
  }
}

/**
 * The cursor that serves both. One with another epoch than ours wins, since the gateway answers it with `resync`.
 * @param {string} one @param {string} other @param {string} epoch  ours
 */
export function earlier(one, other, epoch) {
  const [first, second] = [parse(one), parse(other)];
  if (first.epoch !== second.epoch) return first.epoch === epoch ? other : one;
  return first.offset <= second.offset ? one : other;
}

/**
 * Whether an offset of the current epoch is above a cursor. Every offset is, if the cursor has another epoch.
 * @param {string} epoch @param {number} offset @param {string} text
 */
export function isAbove(epoch, offset, text) {
  const cursor = parse(text);
  return cursor.epoch !== epoch || offset > cursor.offset;
}

/**
 * Return the cursor unchanged. Throws if it is not a cursor, so that the mistake has a stack trace.
 * @param {string} text
 */
export function checkedCursor(text) {
  if (!isCursor(text)) throw new TypeError(`Not a cursor: ${JSON.stringify(text)?.slice(0, 100)}`);
  return text;
}

/** @param {unknown} text @returns {text is string} */
export function isCursor(text) {
  return typeof text === "string" && /^.+:\d{1,16}$/.test(text);
}

/** @param {string} text */
export function parse(text) {
  const at = text.lastIndexOf(":");
  const offset = Number(text.slice(at + 1));
  return { epoch: text.slice(0, at), offset: Number.isSafeInteger(offset) ? offset : 0 };
}
