/** The campaign as this page knows it. It is read over HTTP, and read again when an event says what changed. */

import { byId, RootState } from "../../page/root_state.js";

/** The path of a thing below its campaign, in the publisher's API. */
export const pathOf = {
  kingdom: ({ id }) => `kingdoms/${id}`,
  settlement: ({ id }) => `settlements/${id}`,
  structure: ({ id, settlementId }) => `settlements/${settlementId}/structures/${id}`,
  entity: ({ id, type }) => `entities/${type}/${id}`,
};

export class World extends RootState {
  /** @type {Map<string, any>} */
  kingdoms = new Map();
  /** @type {Map<string, any>} */
  settlements = new Map();
  /** @type {Map<string, any>} */
  structures = new Map();
  /** @type {Map<string, any>} */
  entities = new Map();

  #api;
  /** Things as they were before their last change, by id. @type {Map<string, any>} */
  #before = new Map();

  /**
   * @param {import("./api.js").Api} api
   * @param {string} id
   * @param {(change: {key?: string, fields?: string[]}) => void} onChange  `key`: what to highlight
   * @param {() => void} onStale  a change could not be read, so everything must be loaded again
   */
  constructor(api, id, onChange, onStale) {
    super(onChange, onStale);
    this.#api = api;
    this.id = id;
  }

  /** The settlements of a kingdom. Null: those without one, or whose kingdom was just deleted. @param {string | null} kingdom */
  settlementsOf(kingdom) {
    const all = [...this.settlements.values()];
    return all.filter(({ kingdomId }) => (this.kingdoms.has(kingdomId) ? kingdomId : null) === kingdom);
  }

  structuresOf(settlement) {
    return [...this.structures.values()].filter(({ settlementId }) => settlementId === settlement);
  }

  /** @param {"root" | "kingdom" | "settlement" | "structure" | "entity"} kind @param {string} id */
  thing(kind, id) {
    return kind === "root" ? this.root : this.#shelf(kind).get(id);
  }

  /** A thing as it was before the last change that the page has seen. @param {string} id  or `root` */
  before(id) {
    return this.#before.get(id);
  }

  /** The structures of a settlement name it in their address. */
  draft(change) {
    const [, settlementId] = change.url.match(/\/settlements\/([^/]+)\/structures$/) ?? [];
    return { ...super.draft(change), ...(settlementId && { settlementId }) };
  }

  async readAll() {
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
      root: campaign,
      kingdoms: byId(kingdoms),
      settlements: byId(settlements),
      structures: byId(structures.flat()),
      entities: byId(entities),
      members: this.known(members),
    };
  }

  /** Take over what this user just changed, as the service answered it. It is highlighted when the event comes. */
  put(kind, thing) {
    this.#keep(kind, thing, {});
  }

  drop(kind, id) {
    this.#shelf(kind)?.delete(id);
    this.changed({});
  }

  async loadMembers() {
    const members = await this.#api.members(this.id);
    this.members = this.known(members);
    this.changed({});
  }

  /** Read again what an event names. Resolves when it has been read, or is known to be gone. */
  async follow({ type, payload }) {
    const { operation, changedFields = [] } = payload;
    const isGone = operation === "delete";
    if (type === "settlement_updated") return this.#follow("settlement", settlementOf(payload), isGone, changedFields);
    if (type === "structure_updated") return this.#follow("structure", structureOf(payload), isGone, changedFields);
    if (type === "member_changed") return this.patiently(() => this.loadMembers());
    const isEntity = type === "entity_updated" && payload.entityType !== "campaign";
    if (isEntity) return this.#follow(payload.entityType === "kingdom" ? "kingdom" : "entity", entityOf(payload), isGone, changedFields);
    const fields = type === "world_time_changed" ? ["worldTime"] : changedFields;
    return this.patiently(async () => this.putRoot(await this.#api.campaign(this.id), fields));
  }

  async #follow(kind, place, isGone, fields) {
    if (isGone) return this.drop(kind, place.id);
    await this.patiently(async () => {
      try {
        this.#keep(kind, await this.#api.read(this.id, pathOf[kind](place)), { key: place.id, fields });
      } catch (error) {
        if (error.status !== 404) throw error;
        this.drop(kind, place.id); // deleted in the meantime
      }
    });
  }

  #keep(kind, thing, change) {
    if (this.#isOlder(kind, thing)) return;
    this.#remember(thing.id, this.thing(kind, thing.id), thing);
    this.#shelf(kind).set(thing.id, thing);
    this.changed(change);
  }

  putRoot(root, fields) {
    if (!this.root || root.revision >= this.root.revision) this.#remember("root", this.root, root);
    super.putRoot(root, fields);
  }

  #remember(id, old, now) {
    if (old && old.revision !== now.revision) this.#before.set(id, old);
  }

  /** Two answers may overtake each other. The higher revision is the newer one. */
  #isOlder(kind, { id, revision }) {
    return revision < this.thing(kind, id)?.revision;
  }

  #shelf(kind) {
    return { kingdom: this.kingdoms, settlement: this.settlements, structure: this.structures, entity: this.entities }[kind];
  }
}

const settlementOf = ({ settlementId }) => ({ id: settlementId });
const structureOf = ({ structureId, settlementId }) => ({ id: structureId, settlementId });
const entityOf = ({ entityId, entityType }) => ({ id: entityId, type: entityType });
