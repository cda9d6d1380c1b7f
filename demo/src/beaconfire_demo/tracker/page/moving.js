/** Cards that glide to their new place, and can be dragged. */

const GLIDE_MS = 260;
const TYPE = "application/x-beaconfire-issue";

export class Moving {
  #host;

  /** @param {HTMLElement} host  what the cards are drawn in */
  constructor(host) {
    this.#host = host;
  }

  /** Draw. Cards that are elsewhere afterwards glide there. */
  around(draw) {
    const before = this.#places();
    draw();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const [id, { left, top }] of this.#places()) {
      const old = before.get(id);
      if (!old || (Math.abs(old.left - left) < 2 && Math.abs(old.top - top) < 2)) continue;
      const from = `translate(${old.left - left}px, ${old.top - top}px)`;
      this.#card(id).animate([{ transform: from }, { transform: "none" }], { duration: GLIDE_MS, easing: "ease-out" });
    }
  }

  /**
   * Call a handler when a card is dropped on a column.
   * @param {(issueId: string, status: string) => void} handler @returns {() => void} stops it
   */
  onDrop(handler) {
    const columnAt = (event) => event.target.closest?.("[data-status]");
    const mark = (column) => {
      for (const one of this.#host.querySelectorAll(".drop-here")) if (one !== column) one.classList.remove("drop-here");
      column?.classList.add("drop-here");
    };
    const listeners = {
      dragstart: (event) => {
        const card = event.target.closest?.("[data-issue]");
        if (!card) return;
        event.dataTransfer.setData(TYPE, card.dataset.issue);
        event.dataTransfer.effectAllowed = "move";
      },
      dragover: (event) => {
        const column = event.dataTransfer.types.includes(TYPE) ? columnAt(event) : null;
        mark(column);
        if (column) event.preventDefault(); // allows the drop
      },
      drop: (event) => {
        const column = columnAt(event);
        const id = event.dataTransfer.getData(TYPE);
        mark(null);
        if (!column || !id) return;
        event.preventDefault();
        handler(id, column.dataset.status);
      },
      dragend: () => mark(null),
    };
    for (const [type, listener] of Object.entries(listeners)) this.#host.addEventListener(type, listener);
    return () => {
      for (const [type, listener] of Object.entries(listeners)) this.#host.removeEventListener(type, listener);
    };
  }

  #places() {
    return new Map([...this.#host.querySelectorAll("[data-issue]")].map((card) => [card.dataset.issue, card.getBoundingClientRect()]));
  }

  #card(id) {
    return this.#host.querySelector(`[data-issue="${CSS.escape(id)}"]`);
  }
}
