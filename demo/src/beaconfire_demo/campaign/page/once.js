/** Making something once, however often the form is sent: after a lost answer nobody knows whether it was made. */

export class Once {
  #text = "";
  #key = "";

  /**
   * The `Idempotency-Key` for this body: the same one for the same body, as the services ask for.
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
