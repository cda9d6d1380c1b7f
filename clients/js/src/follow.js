/**
 * State of a room: loaded by the application, and kept up to date by events.
 *
 *     const members = follow(client, "workspace:w1", {
 *       initial: [],
 *       load: async ({ signal }) => {
 *         const answer = await fetch("/members", { signal });
 *         return { data: await answer.json(), cursor: answer.headers.get("X-Beaconfire-Cursor") };
 *       },
 *       change: (members, event) => …,
 *     });
 *     members.store.subscribe(() => show(members.store.getSnapshot()));   // {state, isLoading, error}
 *     members.stop();
 *
 * Events since the cursor of the loaded state are applied first, so none is missed. If some were missed later, the state is
 * loaded again.
 */

import { Store } from "./store.js";

/** Pauses between attempts to load: up to 1, 2, 4 … 30 s. */
const FIRST_PAUSE_MS = 1000;
const LAST_PAUSE_MS = 30_000;
/** After this many failures in a row, the state is loaded again when the connection is back, and by `reload`. */
const MAX_FAILURES = 10;
/** The largest number of events that wait for a load. */
const MOST_WAITING = 1000;

/** @typedef {import("./events.d.ts").EventType} EventType */
/** @typedef {import("./events.d.ts").AnyEvent} AnyEvent */
/** @typedef {import("./room.js").Subscription<any>} Subscription */

/**
 * What `load` returns.
 * @template Data
 * @typedef {object} Loaded
 * @property {Data} data
 * @property {string | null} [cursor]  the answer's header `X-Beaconfire-Cursor`. Without it, `load` is called a second time once
 *   the room is joined, because events may have been missed in between
 */

/**
 * @template Data
 * @typedef {(options: {signal: AbortSignal}) => Promise<Loaded<Data>>} Load
 */

/**
 * @template State, Data
 * @template {EventType} Type
 * @typedef {object} FollowOptions
 * @property {State} initial  until something was loaded. Without `load`, the state begins with it
 * @property {Load<Data>} [load]  loads the state. It is called again after a failure, and if events were missed. Reject with an
 *   error that has `retry: "no"` if trying again is useless
 * @property {(data: Data) => State} [take]  makes the state of what was loaded; by default it is the state
 * @property {(state: State, event: import("./protocol.js").EventOf<Type>) => State} change  applies an event. It must not
 *   change the old state, and applying an event twice must be harmless
 * @property {readonly Type[]} [types]  only these event types; all by default
 */

/**
 * Load the state of a room, and apply its events from then on.
 * @template State
 * @template [Data=State]
 * @template {EventType} [Type=EventType]
 * @param {import("./client.js").Client} client
 * @param {string} room
 * @param {FollowOptions<State, Data, Type>} options
 */
export function follow(client, room, options) {
  const { initial, load, types } = options;
  const settings = { initial, loads: load !== undefined, ...(types && { types }), current: () => options };
  /** @type {LiveState<State>} */
  const live = new LiveState(client, room, settings);
  live.start();
  return live;
}

/**
 * Loads, subscribes, and applies events.
 * @template State
 */
export class LiveState {
  #client;
  #options;
  #onSubscription;
  /** @type {Subscription | null} */
  #subscription = null;
  /** Whether the room was asked for from a cursor, so that no event is missed when it is joined. */
  #isGapless = false;
  /** @type {AbortController | null} Ends the present `load`. */
  #loading = null;
  /** @type {AnyEvent[]} What came while the state was loaded. */
  #waiting = [];
  #failures = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {() => void} */
  #unwatch = () => {};

  /**
   * @param {import("./client.js").Client} client
   * @param {string} room
   * @param {{initial: State, loads: boolean, types?: readonly EventType[], current: () => FollowOptions<State, any, any>}} options
   *   `current` returns the options that count now: their functions may change
   * @param {(subscription: Subscription | null) => void} [onSubscription]
   */
  constructor(client, room, options, onSubscription = () => {}) {
    this.#client = client;
    this.room = room;
    this.#options = options;
    this.#onSubscription = onSubscription;
    /** @type {Store<{state: State, isLoading: boolean, error: unknown}>} */
    this.store = new Store({ state: options.initial, isLoading: options.loads, error: undefined });
  }

  /** Load, or subscribe. */
  start() {
    const { connection } = this.#client;
    this.#unwatch = connection.subscribe(() => {
      if (connection.getSnapshot().state === "connected" && this.#failures > 0) this.reload();
    });
    if (this.#options.loads) this.#load();
    else this.#subscribe(null);
  }

  /** Unsubscribe, and change no more. */
  stop() {
    this.#unwatch();
    clearTimeout(this.#timer);
    this.#loading?.abort();
    this.#loading = null;
    this.#subscription?.unsubscribe();
    this.#subscription = null;
    this.#onSubscription(null);
  }

  /** Load now. Failures are counted from 1 again. */
  reload() {
    this.#failures = 0;
    if (this.#options.loads) this.#load();
  }

  /**
   * Change the state, as an answer to a change of the user's own does.
   * @param {(state: State) => State} change
   */
  update(change) {
    const before = this.store.getSnapshot();
    const state = change(before.state);
    if (state !== before.state) this.store.set({ ...before, state });
  }

  #load() {
    clearTimeout(this.#timer);
    this.#loading?.abort();
    const loading = new AbortController();
    this.#loading = loading;
    this.#waiting = [];
    const { load } = this.#options.current();
    Promise.resolve()
      .then(() => load?.({ signal: loading.signal }))
      .then(
        (loaded) => loading === this.#loading && this.#loaded(/** @type {Loaded<any>} */ (loaded)),
        (error) => loading === this.#loading && this.#failed(error),
      );
  }

  /** @param {Loaded<any>} loaded */
  #loaded(loaded) {
    const { take = (data) => data, change } = this.#options.current();
    /** @type {State} */
    let state;
    try {
      state = this.#waiting.reduce((before, event) => change(before, event), take(loaded.data));
    } catch (error) {
      return this.#failed(error);
    }
    this.#loading = null;
    this.#waiting = [];
    this.#failures = 0;
    this.store.set({ state, isLoading: false, error: undefined });
    if (this.#subscription === null) this.#subscribe(loaded.cursor ?? null);
  }

  /** @param {any} error */
  #failed(error) {
    this.#loading = null;
    this.#waiting = [];
    this.#failures += 1;
    this.store.set({ ...this.store.getSnapshot(), error });
    if (error?.retry === "no" || this.#failures >= MAX_FAILURES) return;
    const pause = Math.random() * Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#failures - 1));
    this.#timer = setTimeout(() => this.#load(), pause);
  }

  /** @param {string | null} cursor */
  #subscribe(cursor) {
    this.#isGapless = cursor !== null;
    const { types, loads } = this.#options;
    this.#subscription = this.#client.subscribe(
      this.room,
      {
        onEvent: (event) => this.#take(/** @type {AnyEvent} */ (/** @type {unknown} */ (event))),
        onReady: () => {
          if (loads && !this.#isGapless) this.#load();
          this.#isGapless = false; // if the room is left and joined again, events are missing
        },
        onResync: () => loads && this.#load(),
      },
      { types, cursor },
    );
    this.#onSubscription(this.#subscription);
  }

  /** @param {AnyEvent} event */
  #take(event) {
    if (this.#loading !== null) {
      if (this.#waiting.length === MOST_WAITING) {
        this.#loading.abort();
        return this.#failed(new Error(`More than ${MOST_WAITING} events came while the state was loaded`));
      }
      this.#waiting.push(event);
    }
    this.update((state) => this.#options.current().change(state, event));
  }
}
