/**
 * The workspace as this page knows it. It is read over HTTP once. From then on events change it: an issue's events carry its
 * changed fields, so nothing is read again.
 */

import { byId, RootState } from "../../page/root_state.js";

/** How many entries of the feed are kept. */
const MOST_ENTRIES = 300;

/** The path of a thing below its workspace. */
export const pathOf = {
  team: ({ id }) => `teams/${id}`,
  issue: ({ id, teamId }) => `teams/${teamId}/issues/${id}`,
  comment: ({ id, teamId, issueId }) => `teams/${teamId}/issues/${issueId}/comments/${id}`,
  project: ({ id }) => `projects/${id}`,
  cycle: ({ id }) => `cycles/${id}`,
};

export class Tracker extends RootState {
  /** @type {Map<string, any>} */
  teams = new Map();
  /** @type {Map<string, any>} */
  issues = new Map();
  /** @type {Map<string, any>} */
  projects = new Map();
  /** @type {Map<string, any>} */
  cycles = new Map();
  /** The activity feed, the latest first. @type {any[]} */
  entries = [];
  /** The rest of the feed can be read from here. @type {string | null} */
  olderEntries = null;
  /** The comments of the issues that were opened, by the issue's id. @type {Map<string, any[]>} */
  comments = new Map();
  /** What was done to the issues that were opened, the latest first, by the issue's id. @type {Map<string, any[]>} */
  histories = new Map();
  /** The ids of issues whose comments and history were not read yet. @type {Set<string>} */
  reading = new Set();

  #api;

  /**
   * @param {import("./api.js").Api} api @param {string} id
   * @param {(change: {key?: string}) => void} onChange  `key`: what to highlight
   * @param {() => void} onStale  something could not be read, so everything must be loaded again
   */
  constructor(api, id, onChange, onStale) {
    super(onChange, onStale);
    this.#api = api;
    this.id = id;
  }

  /** The issues on the board, in the order in which they were opened. */
  onBoard() {
    return [...this.issues.values()].filter(({ archived }) => !archived);
  }

  archived() {
    return [...this.issues.values()].filter(({ archived }) => archived);
  }

  async readAll() {
    const { workspace, cursor } = await this.#api.workspaceAt(this.id);
    const paths = ["teams", "issues", "projects", "cycles"];
    const [members, feed, ...lists] = await Promise.all([
      this.#api.members(this.id),
      this.#api.activity(this.id),
      ...paths.map((path) => this.#api.list(this.id, path)),
    ]);
    const [teams, issues, projects, cycles] = lists.map(byId);
    return {
      cursor, root: workspace, teams, issues, projects, cycles, ...(await this.#readOpened(issues)),
      members: this.known(members), entries: feed.activity, olderEntries: feed.next,
    };
  }

  /** The comments and the history of each issue that was opened. */
  async #readOpened(issues) {
    const opened = [...this.comments.keys()].filter((id) => issues.has(id));
    const read = await Promise.all(opened.map((id) => this.#readIssue(issues.get(id))));
    const by = (name) => new Map(opened.map((id, index) => [id, read[index][name]]));
    return { comments: by("comments"), histories: by("history") };
  }

  async #readIssue(issue) {
    const [comments, history] = await Promise.all([
      this.#api.list(this.id, `${pathOf.issue(issue)}/comments`),
      this.#api.activity(this.id, { issueId: issue.id }),
    ]);
    return { comments, history: history.activity };
  }

  /** Read the comments and the history of an issue. From then on events keep them up to date. */
  async openIssue(issue) {
    if (this.comments.has(issue.id)) return;
    this.comments.set(issue.id, []);
    this.histories.set(issue.id, []);
    this.reading.add(issue.id);
    await this.patiently(async () => {
      const { comments, history } = await this.#readIssue(issue);
      const meanwhile = this.comments.get(issue.id) ?? [];
      this.comments.set(issue.id, [...new Map([...comments, ...meanwhile].map((one) => [one.id, one])).values()]);
      this.histories.set(issue.id, withEntries(this.histories.get(issue.id) ?? [], history, MOST_ENTRIES));
      this.reading.delete(issue.id);
      this.changed({});
    });
  }

  /** Read older entries of the feed. */
  async readOlder() {
    const feed = await this.#api.activity(this.id, { before: this.olderEntries });
    this.olderEntries = feed.next;
    this.entries = withEntries(this.entries, feed.activity, Infinity);
    this.changed({});
  }

  /** @param {"team" | "issue" | "project" | "cycle"} kind @param {string} id */
  thing(kind, id) {
    return this.#shelf(kind).get(id);
  }

  /** Take over a thing as the service answered it, unless a newer one is known. */
  put(kind, thing) {
    if (kind === "comment") return this.#putComment(thing);
    const shelf = this.#shelf(kind);
    if (thing.revision < (shelf.get(thing.id)?.revision ?? 0)) return;
    shelf.set(thing.id, { ...thing });
    this.changed({});
  }

  /** @param {string} kind @param {string} id */
  drop(kind, id) {
    if (kind === "comment") this.comments = new Map([...this.comments].map(([issue, all]) => [issue, all.filter((one) => one.id !== id)]));
    else this.#shelf(kind)?.delete(id);
    this.changed({});
  }

  /** The address of a thing names the team and the issue that it belongs to. */
  draft(change) {
    const { kind, url, by } = change;
    const [, teamId] = url.match(/\/teams\/([^/]+)\//) ?? [];
    const [, issueId] = url.match(/\/issues\/([^/]+)\//) ?? [];
    const progress = { total: 0, started: 0, done: 0 };
    const fields = {
      issue: { teamId, identifier: "New", commentCount: 0, archived: false, creatorId: by },
      comment: { teamId, issueId, authorId: by },
      project: { progress },
      cycle: { progress },
    };
    return { ...super.draft(change), ...fields[kind] };
  }

  async loadMembers() {
    this.members = this.known(await this.#api.members(this.id));
    this.changed({});
  }

  /** Apply an event. Resolves when the page shows it. */
  async follow({ type, payload, metadata }) {
    switch (type) {
      case "issue.created":
        this.put("issue", payload);
        return this.changed({ key: payload.id });
      case "issue.updated":
        return this.#update("issue", payload, metadata);
      case "issue.deleted":
        this.comments.delete(payload.id);
        this.histories.delete(payload.id);
        return this.drop("issue", payload.id);
      case "comment.created":
        this.#count(payload.issueId, 1);
        return this.#putComment({ ...payload, isFresh: true });
      case "comment.updated":
        return this.#updateComment(payload);
      case "comment.deleted":
        this.#count(payload.issueId, -1);
        return this.drop("comment", payload.id);
      case "project.updated":
        return this.#update("project", payload, metadata);
      case "cycle.updated":
        return this.#update("cycle", payload, metadata);
      case "member_changed":
        return this.patiently(() => this.loadMembers());
      case "issue.activity.created":
        return this.#enter(payload);
      case "activity.created":
        this.#enter(payload);
        if (payload.kind === "team") return this.patiently(() => this.#reload("teams"));
        if (payload.kind === "workspace") return this.patiently(async () => this.putRoot((await this.#api.workspaceAt(this.id)).workspace));
    }
  }

  /** Apply changed fields. A thing that is not known, or of which a change is missing, is read. */
  async #update(kind, { id, teamId, revision, changes }, metadata) {
    if (changes.deleted) return this.drop(kind, id);
    const known = this.#shelf(kind).get(id);
    const isCount = Object.keys(changes).join() === "progress"; // counted from the issues, so it has no revision of its own
    if (known && (isCount || revision === known.revision + 1)) {
      this.#shelf(kind).set(id, { ...known, ...changes, revision: Math.max(revision, known.revision), updatedAt: metadata.timestamp });
      return this.changed({ key: id });
    }
    if (known && revision <= known.revision) return this.changed({ key: id }); // the answer to one's own change came first
    await this.patiently(async () => this.put(kind, await this.#api.read(this.id, pathOf[kind]({ id, teamId }))));
    this.changed({ key: id });
  }

  #putComment(comment) {
    const all = this.comments.get(comment.issueId);
    if (!all) return;
    const known = all.find(({ id }) => id === comment.id);
    if (known && comment.revision < known.revision) return;
    this.comments.set(comment.issueId, known ? all.map((one) => (one === known ? comment : one)) : [...all, comment]);
    this.changed({ key: comment.id });
  }

  #updateComment({ id, issueId, revision, changes }) {
    const known = this.comments.get(issueId)?.find((one) => one.id === id);
    if (known && revision > known.revision) this.#putComment({ ...known, ...changes, revision });
  }

  #count(issueId, step) {
    const issue = this.issues.get(issueId);
    if (issue) this.issues.set(issueId, { ...issue, commentCount: Math.max(0, issue.commentCount + step) });
  }

  #enter(payload) {
    const entry = { ...payload, isFresh: true }; // highlighted
    this.entries = withEntries(this.entries, [entry], MOST_ENTRIES);
    const history = this.histories.get(entry.issueId);
    if (history) this.histories.set(entry.issueId, withEntries(history, [entry], MOST_ENTRIES));
    this.changed({});
  }

  async #reload(path) {
    this[path] = byId(await this.#api.list(this.id, path));
    this.changed({});
  }

  #shelf(kind) {
    return { team: this.teams, issue: this.issues, project: this.projects, cycle: this.cycles }[kind];
  }
}

/** Entries with others, the latest first, each once. */
function withEntries(entries, others, most) {
  const all = [...new Map([...others, ...entries].map((entry) => [entry.id, entry])).values()];
  return all.sort((one, other) => other.createdAt.localeCompare(one.createdAt)).slice(0, Math.max(most, entries.length));
}
