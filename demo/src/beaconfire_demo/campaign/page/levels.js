/** Level steppers: they follow every click immediately, send one request at a time, and the last click decides. */

const LEAST = 0;
const MOST = 100;

export class Levels {
  /** @type {Map<string, number>} The levels that are shown but not yet confirmed by the service, by key. */
  #wanted = new Map();
  #sending = new Set();

  /** @param {{save: (kind: string, thing: any, level: number) => Promise<unknown>, onChange: () => void}} options */
  constructor({ save, onChange }) {
    this.save = save;
    this.onChange = onChange;
  }

  of(thing) {
    return this.#wanted.get(thing.id) ?? thing.level;
  }

  canStep(thing, step) {
    return this.of(thing) + step >= LEAST && this.of(thing) + step <= MOST;
  }

  /** Throws what `save` throws. The real level is shown again then. */
  async step(kind, thing, step) {
    if (!this.canStep(thing, step)) return;
    this.#wanted.set(thing.id, this.of(thing) + step);
    this.onChange();
    if (!this.#sending.has(thing.id)) await this.#send(kind, thing);
  }

  async #send(kind, thing) {
    this.#sending.add(thing.id);
    try {
      let sent;
      while (sent !== this.#wanted.get(thing.id)) {
        sent = this.#wanted.get(thing.id);
        await this.save(kind, thing, sent);
      }
    } finally {
      this.#wanted.delete(thing.id);
      this.#sending.delete(thing.id);
      this.onChange();
    }
  }
}
