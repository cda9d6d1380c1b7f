/** One timer, which can be set again. */

export class Timer {
  #clock;
  /** @type {unknown} */
  #id;
  isSet = false;

  /** @param {import("./surroundings.js").Clock} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  /**
   * Call back after some time, instead of what it was set to before.
   * @param {number} ms @param {() => void} callback
   */
  set(ms, callback) {
    this.stop();
    this.isSet = true;
    this.#id = this.#clock.setTimeout(() => {
      this.isSet = false;
      callback();
    }, ms);
  }

  stop() {
    this.isSet = false;
    this.#clock.clearTimeout(this.#id);
  }
}
