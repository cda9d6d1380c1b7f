/** One live campaign: what it shows, what a user can do, and what happens on events. */

import { difference } from "../../../page/changes.js";
import { openDeletion } from "../../../page/deletion.js";
import { isDialogOpen, openForm } from "../../../page/dialog.js";
import { flash, h } from "../../../page/dom.js";
import { Edits } from "../../../page/edits.js";
import { LiveRoot } from "../../../page/live_root.js";
import { Once } from "../../../page/once.js";
import { showScreen } from "../../../page/screen.js";
import { newsOf, valuesOf } from "../news.js";
import { consequence, fieldWord, nameOfThing, sentence, valueWord } from "../sentences.js";
import { pathOf, World } from "../world.js";
import { entityPanel } from "./entities.js";
import { feedPanel, readFeed, withEntry, withNote } from "./feed.js";
import { headline } from "./headline.js";
import { memberActions, memberPanel } from "../../../page/views/members.js";
import { settlementList } from "./settlements.js";
import { clockFields, clockOf, fieldsOf } from "./things.js";

/** The maps of things of a world. */
const SHELVES = ["kingdoms", "settlements", "structures", "entities"];
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
  const edits = new Edits(client, outgoing, () => live.phase === "open" && screen.draw());
  const changes = changesOf({ api, world, edits, outgoing });
  const screen = showScreen(host, {
    title: () => live.title(),
    render: () => live.body(() => content({ world: edits.shown(world, SHELVES, ["root"]), entries, notes, me, presence: live.presence })),
    actions: { ...actionsOf({ api, world, changes, showing, toasts, go, isLeft: () => live.isLeft }), ...live.actions },
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

/** The changes that a user can make. */
function changesOf({ api, world, edits, outgoing }) {
  const { id } = world;
  return {
    over: (thing) => edits.over(thing),
    /** Change fields. Without a connection they are sent later. `revision`: the one that the user has seen. */
    update: (kind, thing, changes, revision) =>
      outgoing.change({ kind, id: thing.id, url: api.urlOf(id, kind === "root" ? "" : pathOf[kind](thing)), changes, revision }),
    /** A change of the campaign that is relative, or of which the last one wins. It needs a connection. */
    campaign: (send) =>
      edits.make(id, async () => {
        const { thing, mark } = await send();
        world.putRoot(thing);
        return { mark };
      }),
    create: async (kind, path, values, key) => {
      const { thing, mark } = await api.create(id, path, values, key);
      world.put(kind, thing);
      await edits.make(thing.id, async () => ({ mark }));
    },
  };
}

/**
 * A form whose changes are shown as soon as it is sent. If they are refused, they are undone, and the form opens again with the
 * typed values.
 */
function editForm({ title, before, fields, send, toasts, isLeft }) {
  const ask = (values, problem) =>
    openForm({
      title,
      submit: "Save",
      fields: fields(values),
      problem,
      onSubmit: (typed) => {
        const changes = difference(before, typed);
        if (Object.keys(changes).length > 0) void save(typed, changes);
      },
    });
  const save = async (typed, changes) => {
    try {
      await send(changes);
    } catch (error) {
      const canAsk = !isLeft() && !isDialogOpen();
      const text = `Your change to ${before.name} was undone.`;
      toasts.show(canAsk ? text : `${text} ${error.message}`, { kind: "bad" });
      if (canAsk) ask({ ...before, ...typed }, error.message);
    }
  };
  ask(before);
}

/** World time passes on its own, so its change is no reason to ask again. */
async function despiteTime(send, revision) {
  try {
    return await send(revision);
  } catch (error) {
    const { current, conflicts } = error.details ?? {};
    if (!current || conflicts.some((field) => field !== "worldTime")) throw error;
    return send(current.revision);
  }
}

function actionsOf({ api, world, changes, showing, toasts, go, isLeft }) {
  const { id } = world;
  const thingOf = ({ dataset }) => world.thing(dataset.kind, dataset.id);
  const kingdoms = () => [...world.kingdoms.values()];

  const add = (kind, path, title) => {
    const once = new Once();
    const onSubmit = (values) => changes.create(kind, path, values, once.keyFor(values));
    openForm({ title, submit: "Add", fields: fieldsOf(kind, undefined, kingdoms()), onSubmit });
  };
  const edit = (kind, thing, title) => {
    const { revision } = thing;
    editForm({
      title,
      before: changes.over(thing),
      fields: (values) => fieldsOf(kind, values, kingdoms()),
      send: (difference) => changes.update(kind, thing, difference, revision),
      toasts,
      isLeft,
    });
  };
  const step = async ({ dataset }) => {
    const thing = world.thing(dataset.kind, dataset.id);
    const level = changes.over(thing).level + Number(dataset.step);
    try {
      await changes.update(dataset.kind, thing, { level }, thing.revision);
    } catch (error) {
      toasts.show(`Your change to ${thing.name} was undone. ${error.message}`, { kind: "bad" });
    }
  };
  const remove = ({ dataset: { kind, id: thingId } }) => {
    const thing = world.thing(kind, thingId);
    openDeletion({
      title: `Delete ${thing.name}?`,
      text: `${CONSEQUENCES[kind] ?? ""} This cannot be undone.`.trim(),
      revision: thing.revision,
      remove: (revision) => api.remove(id, pathOf[kind](thing), revision),
      keep: (current) => world.put(kind, current),
      onDone: () => world.drop(kind, thing.id),
      view: showing,
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
      openDeletion({
        title: `Delete ${world.root.name}?`,
        text: "Everything in it is deleted, for everyone. This cannot be undone.",
        revision: world.root.revision,
        remove: (revision) => despiteTime((at) => api.deleteCampaign(id, at), revision),
        keep: (current) => world.putRoot(current),
        onDone: () => go("#/"),
        view: showing,
      }),
    ...memberActions({ id, api, world, thing: "campaign", reload: () => world.loadMembers() }),
  };
}
