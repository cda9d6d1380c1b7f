/** What others changed while the user was away: without a connection, in another tab, or elsewhere on the page. */

/** A tab that was hidden for less than this was not left. */
const SHORT_MS = 5000;
const MOST = 500;

/**
 * A changed field as people read it. `from` is left out if it is not known.
 * @typedef {{field: string, from?: string, to: string}} Value
 */
/**
 * A change by another user.
 * @typedef {object} News
 * @property {string} who  a name
 * @property {string} thing  the id of what was changed
 * @property {string} what  its name
 * @property {string} [deed]  like `deleted`; by default the thing was changed
 * @property {Value[]} [values]
 */

export class Away {
  #resumes;
  #onChange;
  /** @type {News[]} */
  #news = [];
  /** How many there were when the page was hidden, and when that was. */
  #hidden = { count: 0, at: 0 };
  #isReturning;
  #isShown = false;
  /** The resume after which they came. @type {{events: number, ms: number} | null} */
  #resumed = null;
  #stop = new AbortController();
  #off;

  /**
   * @param {import("./resumes.js").Resumes} resumes
   * @param {boolean} isReturning  whether the page was left before: what happened since then is restored now
   * @param {(isNew: boolean) => void} onChange  `isNew`: the list appears
   */
  constructor(resumes, isReturning, onChange) {
    this.#resumes = resumes;
    this.#isReturning = isReturning;
    this.#onChange = onChange;
    this.#off = resumes.progress.subscribe(() => {
      const { isLevel, last } = resumes.progress.getSnapshot();
      if (isLevel) this.#resumed = last;
      this.#look();
    });
    document.addEventListener("visibilitychange", () => this.#turn(), { signal: this.#stop.signal });
  }

  /** Whether the user does not see what happens now. */
  get isAway() {
    return this.#isReturning || document.hidden || !this.#resumes.isLevel;
  }

  /** What to show now, with each field of a thing once, and how many changes there were. */
  get shown() {
    return this.#isShown ? { count: this.#news.length, news: merged(this.#news), resumed: this.#resumed } : null;
  }

  /** @param {News} news  of an event that came while `isAway` */
  add(news) {
    this.#news = [...this.#news, news].slice(-MOST);
    this.#look();
  }

  /** Everything since the page was left has been restored. */
  returned() {
    this.#isReturning = false;
    this.#look();
  }

  dismiss() {
    this.#news = [];
    this.#isShown = false;
    this.#resumed = null;
    this.#onChange(false);
  }

  close() {
    this.#off();
    this.#stop.abort();
  }

  #turn() {
    if (document.hidden) this.#hidden = { count: this.#news.length, at: Date.now() };
    else if (Date.now() - this.#hidden.at < SHORT_MS && this.#resumes.isLevel) this.#news = this.#news.slice(0, this.#hidden.count);
    this.#look();
  }

  #look() {
    if (this.isAway || this.#news.length === 0) return;
    const isNew = !this.#isShown;
    this.#isShown = true;
    this.#onChange(isNew);
  }
}

/** Changes of one thing together: each field from its first value to its last. @param {News[]} all @returns {News[]} */
function merged(all) {
  /** @type {Map<string, News & {people: Set<string>}>} */
  const things = new Map();
  for (const one of all) {
    const key = one.deed ? `${one.thing} ${one.deed} ${things.size}` : one.thing;
    const before = things.get(key);
    const people = new Set([...(before?.people ?? []), one.who]);
    things.delete(key); // the last change decides the place
    things.set(key, { ...one, people, who: listed([...people]), values: together(before?.values ?? [], one.values ?? []) });
  }
  return [...things.values()].reverse();
}

/** @param {Value[]} before @param {Value[]} after @returns {Value[]} */
function together(before, after) {
  const values = new Map(before.map((value) => [value.field, value]));
  for (const { field, from, to } of after) values.set(field, { field, from: values.has(field) ? values.get(field).from : from, to });
  return [...values.values()];
}

/** @param {string[]} names */
const listed = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);
