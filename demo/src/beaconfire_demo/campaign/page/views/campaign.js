/** One live campaign: what it shows, what a user can do, and what happens on events. */

import { difference } from "../../../page/changes.js";
import { openForm, openQuestion } from "../../../page/dialog.js";
import { flash, h } from "../../../page/dom.js";
import { Edits } from "../../../page/edits.js";
import { openSent } from "../../../page/forms.js";
import { LiveRoot } from "../../../page/live_root.js";
import { showScreen } from "../../../page/screen.js";
import { newsOf, valuesOf } from "../news.js";
import { consequence, fieldWord, nameOfThing, sentence, undone, valueWord } from "../sentences.js";
import { pathOf, World } from "../world.js";
import { entityPanel } from "./entities.js";
import { feedPanel, readFeed, withEntry, withNote } from "./feed.js";
import { headline } from "./headline.js";
import { memberActions, memberPanel } from "../../../page/views/members.js";
import { settlementList } from "./settlements.js";
import { clockFields, clockOf, fieldsOf } from "./things.js";

/** The maps of things of a world, with the kinds of the things. */
const SHELVES = { kingdoms: "kingdom", settlements: "settlement", structures: "structure", entities: "entity" };
/** What else happens when a thing is deleted. */
const CONSEQUENCES = {
  kingdom: "Its settlements stay, without a kingdom.",
  settlement: "Its structures are deleted too.",
};

/**
 * @param {HTMLElement} host
 * @param {import("../../../page/live_root.js").RootPage & {api: import("../api.js").Api, onError: (error: Error) => void}} page
 */
export function campaignView(host, page) {
  const { id, api, client, outgoing, me, toasts, go, onError } = page;
  let entries = [];
  let notes = new Map();
  const onChange = ({ key, fields = [] }) => {
    if (live.phase !== "open") return;
    screen.draw();
    if (key) light(screen, key, fields);
  };
  const world = new World(api, id, onChange, () => live.load());
  /** @type {import("../../../page/outgoing.js").Showing} */
  const showing = {
    url: api.urlOf(id),
    fieldWord,
    valueWord: (field, value) => valueWord(field, value, world),
    put: (kind, thing) => (kind === "root" ? world.putRoot(thing) : world.put(kind, thing)),
    drop: (kind, thing) => world.drop(kind, thing),
    undone: (change, error) => undone(change, error, world),
    minor: ["worldTime"], // it passes on its own
  };
  const live = new LiveRoot(page, "campaign", world, {
    showing,
    draw: () => screen.draw(),
    onOpen: () => {
      if (live.before) ({ entries, notes } = readFeed(live.before.more));
    },
    onEvent: (event, frame) => onEvent(event, frame),
    kept: () => ({ entries, notes: [...notes] }),
  });
  const edits = new Edits({ client, outgoing, url: api.urlOf(id), onChange: () => live.phase === "open" && screen.draw() });
  const changes = changesOf({ api, world, edits, outgoing });
  const shown = () => edits.shown(world, SHELVES, { root: edits.over(world.root) });
  const screen = showScreen(host, {
    title: () => live.title(),
    render: () => live.body(() => content({ world: shown(), entries, notes, me, presence: live.presence })),
    actions: { ...actionsOf({ api, world, changes, go, isLeft: () => live.isLeft }), ...live.actions },
    onError,
  });

  const onEvent = async (event, frame) => {
    const { payload, metadata } = event;
    if (event.type === "state_invalidated") {
      notes = withNote(notes, metadata?.correlationId, consequence(payload));
      screen.draw();
      return undefined;
    }
    const isGone = payload.operation === "delete" || payload.role === null;
    if (isGone && payload.entityType === "campaign") return live.leave(`${world.root.name} was deleted.`);
    const isNewMember = !world.members.has(payload.userId);
    const early = sentence(event, world, me.id); // now, since the page soon forgets the name of what is gone
    const name = nameOfThing(event, world);
    const isKnown = live.contains(frame);
    if (!isKnown) await world.follow(event);
    const { values, isExact } = valuesOf(event, world, { isKnown });
    const text = isGone ? early : sentence(event, world, me.id, { isNewMember });
    const at = new Date(metadata?.timestamp ?? Date.now());
    entries = withEntry(entries, { offset: frame.offset, text, at, cause: metadata?.correlationId, values: isExact ? values : [] });
    screen.draw();
    return newsOf(event, world, values, name);
  };
  live.load();
  return {
    close() {
      live.close();
      edits.close();
    },
  };
}

function content({ world, entries, notes, me, presence }) {
  return [
    headline(world, { presence, me }),
    h(
      "div",
      { class: "columns" },
      h("div", { class: "column" }, settlementList(world)),
      h("aside", { class: "column side" }, feedPanel(entries, notes), memberPanel(world, me), entityPanel(world)),
    ),
  ];
}

/** Highlight the changed fields, or the whole thing if it is new or shows none of them. */
function light(screen, key, fields) {
  const keys = fields.map((field) => `${key}-${field.replace(/^(variables|data)\./, "variable-")}`);
  const elements = keys.map((each) => screen.find(each)).filter(Boolean);
  if (elements.length > 0) for (const element of elements) flash(element);
  else if (key !== "root") flash(screen.find(key));
}

/** The changes that a user can make. Without a connection they are sent later, except those of the campaign's time. */
function changesOf({ api, world, edits, outgoing }) {
  const { id } = world;
  const urlOf = (kind, thing) => api.urlOf(id, kind === "root" ? "" : pathOf[kind](thing));
  return {
    over: (thing) => edits.over(thing),
    /** @param {number} revision  the one that the user has seen */
    update: (kind, thing, body, revision) => outgoing.make({ method: "PATCH", kind, id: thing.id, url: urlOf(kind, thing), body, revision }),
    create: (kind, path, body) => outgoing.make({ method: "POST", kind, url: api.urlOf(id, path), body }),
    remove: (kind, thing) => outgoing.make({ method: "DELETE", kind, id: thing.id, url: urlOf(kind, thing), revision: thing.revision }),
    /** A change of the campaign that is relative, or of which the last one wins. It needs a connection. */
    campaign: (send) =>
      edits.make(id, async () => {
        const { thing, mark } = await send();
        world.putRoot(thing);
        return { mark };
      }),
  };
}

function actionsOf({ api, world, changes, go, isLeft }) {
  const { id } = world;
  const thingOf = ({ dataset }) => world.thing(dataset.kind, dataset.id);
  const kingdoms = () => [...world.kingdoms.values()];

  const add = (kind, path, title) => {
    const fields = (values) => fieldsOf(kind, values, kingdoms(), { isNew: true });
    openSent({ title, submit: "Add", fields, send: (typed) => changes.create(kind, path, typed), isLeft });
  };
  const edit = (kind, thing, title) => {
    const { revision } = thing;
    const values = changes.over(thing);
    const send = async (typed) => {
      const changed = difference(values, typed);
      return Object.keys(changed).length > 0 ? changes.update(kind, thing, changed, revision) : undefined;
    };
    openSent({ title, submit: "Save", fields: (shown) => fieldsOf(kind, shown, kingdoms()), values, send, isLeft });
  };
  const step = ({ dataset: { kind, id: thingId, step: by } }) => {
    const thing = world.thing(kind, thingId);
    void changes.update(kind, thing, { level: changes.over(thing).level + Number(by) }, thing.revision);
  };
  const remove = ({ dataset }) => {
    const thing = thingOf({ dataset });
    openQuestion({
      title: `Delete ${thing.name}?`,
      text: `${CONSEQUENCES[dataset.kind] ?? ""} This cannot be undone.`.trim(),
      submit: "Delete",
      onSubmit: () => void changes.remove(dataset.kind, thing),
    });
  };

  return {
    addKingdom: () => add("kingdom", "kingdoms", "New kingdom"),
    addSettlement: () => add("settlement", "settlements", "New settlement"),
    addStructure: ({ dataset }) => add("structure", `settlements/${dataset.id}/structures`, "New structure"),
    addEntity: () => add("entity", "entities", "New place or encounter"),
    edit: (element) => edit(element.dataset.kind, thingOf(element), `Edit ${thingOf(element).name}`),
    remove,
    step,
    advance: ({ dataset }) => changes.campaign(() => api.advance(id, Number(dataset.seconds))),
    setClock: () =>
      openForm({
        title: "The clock",
        submit: "Start",
        fields: clockFields(world.root.clock),
        onSubmit: (values) => changes.campaign(() => api.setClock(id, clockOf(values))),
      }),
    stopClock: async () => {
      await api.stopClock(id);
      world.putRoot({ ...world.root, clock: null });
    },
    editCampaign: () => edit("root", world.root, "Edit the campaign"),
    deleteCampaign: () =>
      openQuestion({
        title: `Delete ${world.root.name}?`,
        text: "Everything in it is deleted, for everyone. This cannot be undone.",
        submit: "Delete",
        onSubmit: () => {
          void changes.remove("root", world.root);
          go("#/");
        },
      }),
    ...memberActions({ id, api, world, thing: "campaign", reload: () => world.loadMembers() }),
  };
}
