/** Makes something only once, however often the form is sent: after a lost answer, it may have been made already. */

export class Once {
  #text = "";
  #key = "";

  /**
   * The `Idempotency-Key` for this body. The same body gets the same key, as the services require.
   * @param {object} body
   */
  keyFor(body) {
    const text = JSON.stringify(body);
    if (text !== this.#text) {
      this.#text = text;
      this.#key = Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(16).padStart(8, "0")).join("");
    }
    return this.#key;
  }
}
