/** A workspace as this page knows it: loaded over HTTP, then kept up to date by events, which carry the whole things. */

import { RootState } from "../../page/root_state.js";

/** The only chat that the page shows. */
export const CHAT = "general";
const MOST_MESSAGES = 500;

/** How many messages were refused. Each needs a name. */
let refusals = 0;

export class Room extends RootState {
  /** @type {Map<string, any>} */
  approvals = new Map();
  /** @type {Map<string, any>} */
  agents = new Map();
  /** @type {Map<string, any>} */
  messages = new Map();
  /** @type {Map<string, any>} */
  notifications = new Map();
  /** What came while the page was open. It is shown with an animation. */
  arrived = new Set();
  /** Messages that the service refused. @type {Map<string, {id: string, text: string, problem: string}>} */
  refused = new Map();
  /** Whether the service has no older messages than those here. */
  isComplete = false;

  /** Counts how often the members were read, so that an older answer does not replace a newer one. */
  #reading = 0;
  #api;
  /** The ids of things that changed while everything is loaded: what was read of them may be older. */
  #changed = new Set();
  /** The ids of deleted things. An answer that was under way must not bring one back. */
  #gone = new Set();

  /** @param {import("./api.js").Api} api @param {string} id @param {() => void} onChange @param {() => void} onStale */
  constructor(api, id, onChange, onStale) {
    super(onChange, onStale);
    this.#api = api;
    this.id = id;
  }

  /** @param {string} userId  @param {string} [me]  the reader, who is called "You" */
  nameOf(userId, me) {
    return userId === me ? "You" : (this.names.get(userId) ?? "A former member");
  }

  /** Pending approvals, oldest first, and decided ones, the latest first. */
  get sorted() {
    const all = [...this.approvals.values()];
    const pending = all.filter(({ status }) => status === "pending").sort(by("createdAt"));
    const decided = all.filter(({ status }) => status !== "pending").sort(by("decidedAt")).reverse();
    return { pending, decided };
  }

  /** Whether there may be older messages than those here. */
  get hasEarlier() {
    return this.messages.size > 0 && Math.min(...numbers(this.messages)) > 1 && !this.isComplete;
  }

  get unread() {
    return [...this.notifications.values()].filter(({ readAt }) => !readAt);
  }

  /** Load everything. Returns the cursor to continue from. Throws ApiError: 403 if the user is not a member. */
  async load() {
    const changed = (this.#changed = new Set());
    const reading = (this.#reading += 1);
    const { workspace, cursor } = await this.#api.workspaceAt(this.id);
    const [members, approvals, agents, messages, notifications] = await Promise.all([
      this.#api.members(this.id),
      this.#api.approvals(this.id),
      this.#api.agents(this.id),
      this.#api.messages(this.id, CHAT),
      this.#api.notifications(),
    ]);
    this.root = workspace;
    if (reading === this.#reading) this.members = this.known(members);
    this.approvals = merged(approvals, this.approvals, changed);
    this.agents = merged(agents, this.agents, changed);
    this.messages = byNumber(merged([...this.messages.values(), ...messages], this.messages, changed));
    this.notifications = merged(notifications, this.notifications, changed);
    return cursor;
  }

  /** Load the members alone: one of them has changed. */
  async loadMembers() {
    const reading = (this.#reading += 1);
    await this.patiently(async () => {
      const members = await this.#api.members(this.id);
      if (reading === this.#reading) this.members = this.known(members);
      this.changed({});
    });
  }

  async loadEarlier() {
    const before = Math.min(...numbers(this.messages));
    const earlier = await this.#api.messages(this.id, CHAT, before);
    this.messages = new Map([...earlier, ...this.messages.values()].map((each) => [each.id, each]));
    this.isComplete = earlier.length === 0;
  }

  /** Take over an event. @param {any} event */
  apply({ type, payload }) {
    switch (type) {
      case "approval.created":
      case "approval.updated":
        return this.#put(this.approvals, payload.id, payload);
      case "approval.deleted":
        return this.dropApproval(payload.id);
      case "agent.status.changed":
        return this.#put(this.agents, payload.agentId, payload);
      case "chat.message":
        return payload.chatId === CHAT ? this.putMessage(payload) : undefined;
      case "notification.new":
        return this.#put(this.notifications, payload.id, payload);
      case "notification.read":
        return this.markRead([payload.id], payload.readAt);
    }
  }

  /** Take over a thing from an answer of the service. @param {string} kind @param {any} thing */
  put(kind, thing) {
    if (kind === "root") return this.putRoot(thing);
    if (kind === "message") return this.putMessage(thing);
    this.#put(kind === "approval" ? this.approvals : this.agents, thing.id, thing);
  }

  putMessage(message) {
    this.#put(this.messages, message.id, message);
    this.messages = byNumber(this.messages);
    for (const id of [...this.messages.keys()].slice(0, -MOST_MESSAGES)) {
      this.messages.delete(id);
      this.isComplete = false;
    }
  }

  dropApproval(id) {
    this.approvals.delete(id);
    this.#changed.add(id);
    this.#gone.add(id);
  }

  /** @param {string[]} ids @param {string | null} [at]  null: they are unread again */
  markRead(ids, at = new Date().toISOString()) {
    for (const id of ids) {
      const one = this.notifications.get(id);
      if (one) this.notifications.set(id, { ...one, readAt: at && (one.readAt ?? at) });
      this.#changed.add(id);
    }
  }

  /** Keep the text of a message that was refused. @param {string} text @param {string} problem  a sentence */
  refuse(text, problem) {
    const id = `refused-${(refusals += 1)}`;
    this.refused.set(id, { id, text, problem });
  }

  /** An approval or an agent that no service has yet. */
  draft(change) {
    const { thing, by: user } = change;
    const fields = { approval: { status: "pending", requestedBy: user }, agent: { agentId: thing, status: "idle", detail: "" } };
    return { ...super.draft(change), ...fields[change.kind] };
  }

  #put(shelf, id, news) {
    if (this.#gone.has(id)) return;
    this.#changed.add(id);
    const known = shelf.get(id);
    if (known && news.revision !== undefined && news.revision < known.revision) return; // an answer overtook the event
    if (!known) this.arrived.add(id);
    if (known && known.status !== news.status && news.status !== undefined) this.arrived.add(`${id}-${news.status}`);
    shelf.set(id, { ...known, ...news });
  }
}

/**
 * What was read. Things that changed since the reading began are as they are known.
 * @param {any[]} read @param {Map<string, any>} known @param {Set<string>} changed  ids
 */
function merged(read, known, changed) {
  const all = new Map(read.filter(({ id }) => !changed.has(id)).map((thing) => [thing.id, thing]));
  for (const id of changed) if (known.has(id)) all.set(id, known.get(id));
  return all;
}

/** @param {Map<string, any>} messages */
function byNumber(messages) {
  return new Map([...messages].sort(([, one], [, other]) => one.number - other.number));
}

const numbers = (messages) => [...messages.values()].map(({ number }) => number);
const by = (field) => (one, other) => String(one[field]).localeCompare(String(other[field]));
