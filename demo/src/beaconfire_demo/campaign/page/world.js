/** The campaign as this page knows it. It is read over HTTP, and read again when an event says what changed. */

const REREAD_PAUSES_MS = [0, 1000, 2000, 4000, 8000];
/** How often everything is read again at most, because something changed while it was read. */
const MAX_READINGS = 5;

/** The path of a thing below its campaign, in the publisher's API. */
export const pathOf = {
  kingdom: ({ id }) => `kingdoms/${id}`,
  settlement: ({ id }) => `settlements/${id}`,
  structure: ({ id, settlementId }) => `settlements/${settlementId}/structures/${id}`,
  entity: ({ id, type }) => `entities/${type}/${id}`,
};

export class World {
  campaign = null;
  /** @type {Map<string, any>} */
  kingdoms = new Map();
  /** @type {Map<string, any>} */
  settlements = new Map();
  /** @type {Map<string, any>} */
  structures = new Map();
  /** @type {Map<string, any>} */
  entities = new Map();
  /** @type {Map<string, any>} */
  members = new Map();
  /** All present and former members, by id. The event of a removal comes after it, and still needs the name. */
  #names = new Map();

  #api;
  #onChange;
  #onStale;
  /** Counts single changes, so that `load` knows when its answers are out of date. */
  #changes = 0;

  /**
   * @param {import("./api.js").Api} api
   * @param {string} id
   * @param {(change: {key?: string, fields?: string[]}) => void} onChange  `key`: what to highlight
   * @param {() => void} onStale  a change could not be read, so everything must be loaded again
   */
  constructor(api, id, onChange, onStale) {
    this.#api = api;
    this.id = id;
    this.#onChange = onChange;
    this.#onStale = onStale;
  }

  get canEdit() {
    return this.campaign?.role === "owner" || this.campaign?.role === "editor";
  }

  get isOwner() {
    return this.campaign?.role === "owner";
  }

  /** @param {string} userId @returns {string | undefined} */
  nameOf(userId) {
    return this.#names.get(userId);
  }

  /** The settlements of a kingdom. Null: those without one, or whose kingdom was just deleted. @param {string | null} kingdom */
  settlementsOf(kingdom) {
    const all = [...this.settlements.values()];
    return all.filter(({ kingdomId }) => (this.kingdoms.has(kingdomId) ? kingdomId : null) === kingdom);
  }

  structuresOf(settlement) {
    return [...this.structures.values()].filter(({ settlementId }) => settlementId === settlement);
  }

  /** @param {"kingdom" | "settlement" | "structure" | "entity"} kind @param {string} id */
  thing(kind, id) {
    return this.#shelf(kind).get(id);
  }

  /**
   * Load everything again. Returns the cursor to continue from, or null if there is none. Throws ApiError: 403 if the user is
   * not a member.
   *
   * If an event or a new role changed something in the meantime, everything is read again: older answers must not overwrite it.
   */
  async load() {
    for (let reading = 1; ; reading++) {
      const changes = this.#changes;
      const { cursor, ...read } = await this.#readAll();
      if (changes !== this.#changes && reading < MAX_READINGS) continue;
      Object.assign(this, read);
      this.#onChange({});
      return cursor;
    }
  }

  async #readAll() {
    const { campaign, cursor } = await this.#api.campaignAt(this.id);
    const [kingdoms, settlements, entities, members] = await Promise.all([
      this.#api.kingdoms(this.id),
      this.#api.settlements(this.id),
      this.#api.entities(this.id),
      this.#api.members(this.id),
    ]);
    const structures = await Promise.all(settlements.map(({ id }) => this.#api.structures(this.id, id)));
    return {
      cursor,
      campaign,
      kingdoms: byId(kingdoms),
      settlements: byId(settlements),
      structures: byId(structures.flat()),
      entities: byId(entities),
      members: this.#known(members),
    };
  }

  /** Take over what this user just changed, as the service answered it. It is highlighted when the event comes. */
  put(kind, thing) {
    if (this.#isOlder(kind, thing)) return;
    this.#shelf(kind).set(thing.id, thing);
    this.#changed({});
  }

  drop(kind, id) {
    this.#shelf(kind).delete(id);
    this.#changed({});
  }

  putCampaign(campaign, fields = []) {
    if (this.campaign && campaign.revision < this.campaign.revision) return;
    // The role comes from `role.changed` on the socket, which may be ahead of this answer.
    this.campaign = { ...campaign, role: this.campaign?.role ?? campaign.role };
    this.#changed({ key: "campaign", fields });
  }

  setRole(role) {
    this.campaign = { ...this.campaign, role };
    this.#changed({});
  }

  async loadMembers() {
    const members = await this.#api.members(this.id);
    this.members = this.#known(members);
    this.#changed({});
  }

  /** Read again what an event names. Resolves when it has been read, or is known to be gone. */
  async follow({ type, payload }) {
    const { operation, changedFields = [] } = payload;
    const isGone = operation === "delete";
    if (type === "settlement_updated") return this.#follow("settlement", settlementOf(payload), isGone, changedFields);
    if (type === "structure_updated") return this.#follow("structure", structureOf(payload), isGone, changedFields);
    if (type === "member_changed") return this.#patiently(() => this.loadMembers());
    const isEntity = type === "entity_updated" && payload.entityType !== "campaign";
    if (isEntity) return this.#follow(payload.entityType === "kingdom" ? "kingdom" : "entity", entityOf(payload), isGone, changedFields);
    const fields = type === "world_time_changed" ? ["worldTime"] : changedFields;
    return this.#patiently(async () => this.putCampaign(await this.#api.campaign(this.id), fields));
  }

  async #follow(kind, place, isGone, fields) {
    if (isGone) return this.drop(kind, place.id);
    await this.#patiently(async () => {
      try {
        this.#keep(kind, await this.#api.read(this.id, pathOf[kind](place)), fields);
      } catch (error) {
        if (error.status !== 404) throw error;
        this.drop(kind, place.id); // deleted in the meantime
      }
    });
  }

  #keep(kind, thing, fields) {
    if (this.#isOlder(kind, thing)) return;
    this.#shelf(kind).set(thing.id, thing);
    this.#changed({ key: thing.id, fields });
  }

  /** Two answers may overtake each other. The higher revision is the newer one. */
  #isOlder(kind, { id, revision }) {
    return revision < this.thing(kind, id)?.revision;
  }

  /** Read until it works: the event does not come again, so a short outage must not leave the page stale. */
  async #patiently(read) {
    for (const pause of REREAD_PAUSES_MS) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      try {
        return await read();
      } catch (error) {
        if (!error.isPassing) return undefined; // no longer a member, or signed out: the socket says so too
      }
    }
    this.#onStale();
    return undefined;
  }

  #known(members) {
    for (const { userId, name } of members) this.#names.set(userId, name);
    return new Map(members.map((member) => [member.userId, member]));
  }

  #changed(change) {
    this.#changes++;
    this.#onChange(change);
  }

  #shelf(kind) {
    return { kingdom: this.kingdoms, settlement: this.settlements, structure: this.structures, entity: this.entities }[kind];
  }
}

const settlementOf = ({ settlementId }) => ({ id: settlementId });
const structureOf = ({ structureId, settlementId }) => ({ id: structureId, settlementId });
const entityOf = ({ entityId, entityType }) => ({ id: entityId, type: entityType });
const byId = (things) => new Map(things.map((thing) => [thing.id, thing]));
