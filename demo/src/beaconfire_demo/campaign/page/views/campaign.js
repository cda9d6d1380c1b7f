/** One live campaign: what it shows, what a user can do, and what happens on events. */

import { difference, unlessMeanwhile } from "../../../page/changes.js";
import { isContained, placeOf } from "../../../page/cursors.js";
import { closeDialogs, isDialogOpen, openForm, openQuestion } from "../../../page/dialog.js";
import { flash, h } from "../../../page/dom.js";
import { Edits } from "../../../page/edits.js";
import { readFeed, writeFeed } from "../kept_feed.js";
import { Levels } from "../levels.js";
import { Loading } from "../../../page/loading.js";
import { Once } from "../../../page/once.js";
import { showScreen } from "../../../page/screen.js";
import { asSentence, withArticle } from "../../../page/sentences.js";
import { consequence, sentence } from "../sentences.js";
import { pathOf, World } from "../world.js";
import { entityPanel } from "./entities.js";
import { feedPanel, withEntry, withNote } from "./feed.js";
import { headline } from "./headline.js";
import { memberActions, memberPanel } from "../../../page/views/members.js";
import { failure, refusal, tryNow } from "../../../page/views/refusal.js";
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
 * @param {{id: string, api: import("../api.js").Api, client: import("../../../client/index.js").Client, me: any, toasts: any,
 *   go: (hash: string) => void, onError: (error: Error) => void}} page
 */
export function campaignView(host, { id, api, client, me, toasts, go, onError }) {
  let isLeft = false;
  /** @type {"loading" | "open" | "refused" | "failed"} */
  let phase = "loading";
  let problem = "";
  /** What this window showed before the reload. */
  const before = readFeed(me.id, id);
  let entries = before?.entries ?? [];
  let notes = before?.notes ?? new Map();
  /** The loaded state contains every event up to this cursor. */
  let loadedUpTo = "";
  /** The offsets of events that are not in the feed yet. */
  const unread = new Set();
  const onChange = ({ key, fields = [] }) => {
    if (phase !== "open") return;
    screen.draw();
    if (key) light(screen, key, fields);
  };
  const world = new World(api, id, onChange, () => loading.run());
  const edits = new Edits(client, () => phase === "open" && screen.draw());
  const changes = changesOf({ api, world, edits });
  const levels = new Levels({
    save: (kind, thing, level) => changes.update(kind, thing, { level }, world.thing(kind, thing.id)?.revision, "Your change was undone."),
    onChange: () => screen.draw(),
  });
  const screen = showScreen(host, {
    title: () => (phase === "open" ? world.campaign.name : "Campaign"),
    render: () => bodyOf(phase, { world: phase === "open" ? edits.shown(world, SHELVES, ["campaign"]) : world, levels, entries, notes, me, problem }),
    actions: { ...actionsOf({ api, world, changes, levels, toasts, go, isLeft: () => isLeft }), reload: () => loading.run() },
    onError,
  });

  const load = async () => {
    const cursor = await world.load();
    if (isLeft) return;
    loadedUpTo = cursor ?? "";
    problem = "";
    phase = "open";
    noteRole();
    if (!subscription) subscribe(cursor);
    screen.draw();
  };
  const onFailure = (error, willRetry) => {
    if (error.code === "signed_out") return;
    if (!willRetry && phase === "open") return leave(noLongerMember());
    const isNews = problem !== error.message;
    problem = error.message;
    if (phase !== "open") phase = willRetry ? "failed" : "refused";
    else if (isNews) toasts.show(`Some of this may be out of date. ${problem}`, { kind: "bad" });
    screen.draw();
  };
  const loading = new Loading({ client, load, onFailure });
  /** @type {string | undefined} */
  let noted;
  /** Show a notice if the role differs from the one that the page last showed. */
  const noteRole = () => {
    const { role, name } = world.campaign;
    if (noted !== undefined && noted !== role) {
      closeDialogs();
      toasts.show(`You are now ${withArticle(role)} of ${name}.`);
    }
    noted = role;
  };
  const leave = (text) => {
    if (isLeft) return;
    isLeft = true;
    closeDialogs();
    toasts.show(text, { kind: "bad", ms: 10_000 });
    go("#/");
  };
  const noLongerMember = () => `You are no longer a member of ${world.campaign.name}.`;
  const onEvent = async (event, frame) => {
    const { payload, metadata } = event;
    if (event.type === "state_invalidated") {
      notes = withNote(notes, metadata?.correlationId, consequence(payload));
      return screen.draw();
    }
    const isGone = payload.operation === "delete" || payload.role === null;
    if (isGone && payload.entityType === "campaign") return leave(`${world.campaign.name} was deleted.`);
    const isNewMember = !world.members.has(payload.userId);
    const early = sentence(event, world, me.id); // now, since the page soon forgets the name of what is gone
    if (frame.offset !== undefined) unread.add(frame.offset);
    if (!isContained(frame.offset, loadedUpTo)) await world.follow(event);
    const text = isGone ? early : sentence(event, world, me.id, { isNewMember });
    const at = new Date(metadata?.timestamp ?? Date.now());
    entries = withEntry(entries, { offset: frame.offset, text, at, cause: metadata?.correlationId });
    unread.delete(frame.offset);
    screen.draw();
  };
  /** Keep the feed and its cursor before the page is left. */
  const keep = () => {
    const [epoch, offset] = placeOf(client.cursor ?? "");
    if (phase !== "open" || epoch === "") return;
    writeFeed(me.id, id, { entries, notes, cursor: `${epoch}:${Math.min(offset, ...[...unread].map((each) => each - 1))}` });
  };
  /** @type {import("../../../client/index.js").Subscription | undefined} */
  let subscription;
  /** @param {string | null} cursor  of the loaded state: changes between loading and subscribing are restored */
  const subscribe = (cursor) => {
    const handlers = {
      onEvent,
      onReady: () => cursor === null && loading.run(), // loaded before the stream existed: there is no cursor to continue from
      onResync: () => {
        loadedUpTo = ""; // perhaps another stream, with new offsets
        toasts.show("Some changes may be missing. Everything is loaded again.");
        loading.run();
      },
      onLeft: ({ reason }) => reason === "lease_expired" || leave(noLongerMember()), // else the client joins again
      onError: (error, { willRetry }) => {
        if (willRetry) return;
        // The user was removed between loading and subscribing, or a limit was reached: then the page does not update itself.
        if (error.code === "forbidden") return leave(noLongerMember());
        toasts.show(`You do not see other users' changes here. ${asSentence(error.message)}`, { kind: "bad", ms: 0 });
      },
    };
    subscription = client.subscribe(`campaign:${id}`, handlers, { cursor: feedCursor(cursor) });
  };
  /** Continue from the end of the kept feed, if the stream is the same. The loaded state may be newer. */
  const feedCursor = (cursor) => {
    if (cursor === null || before === undefined) return cursor;
    const [[epoch, offset], [feedEpoch, feedOffset]] = [placeOf(cursor), placeOf(before.cursor)];
    if (epoch === feedEpoch) return feedOffset < offset ? before.cursor : cursor;
    [entries, notes] = [[], new Map()];
    return cursor;
  };
  const offRole = client.on("role", ({ root, role }) => {
    if (root !== `campaign:${id}` || phase !== "open") return;
    world.setRole(role);
    noteRole();
  });

  window.addEventListener("pagehide", keep);
  document.addEventListener("visibilitychange", keep);
  loading.run();
  return {
    close() {
      keep();
      window.removeEventListener("pagehide", keep);
      document.removeEventListener("visibilitychange", keep);
      isLeft = true;
      loading.close();
      subscription?.unsubscribe();
      offRole();
      closeDialogs();
    },
  };
}

function bodyOf(phase, { world, levels, entries, notes, me, problem }) {
  if (phase === "loading") return [h("p", { class: "quiet" }, "Loading…")];
  if (phase === "refused") return [refusal(me, { thing: "campaign", home: "My campaigns" })];
  if (phase === "failed") return [failure("The campaign could not be loaded", problem, tryNow())];
  return [
    headline(world),
    h(
      "div",
      { class: "columns" },
      h("div", { class: "column" }, settlementList(world, levels)),
      h("aside", { class: "column side" }, feedPanel(entries, notes), memberPanel(world, me), entityPanel(world)),
    ),
  ];
}

/** Highlight the changed fields, or the whole thing if it is new or shows none of them. */
function light(screen, key, fields) {
  const keys = fields.map((field) => `${key}-${field.replace(/^(variables|data)\./, "variable-")}`);
  const elements = keys.map((each) => screen.find(each)).filter(Boolean);
  if (elements.length > 0) for (const element of elements) flash(element);
  else if (key !== "campaign") flash(screen.find(key));
}

/** The changes that a user can make. Each is shown immediately, starts from a revision, and reports conflicting changes. */
function changesOf({ api, world, edits }) {
  const { id } = world;
  const make = (thing, changes, send, keep, advice) =>
    edits.make(thing.id, changes, async () => {
      const { thing: now, mark } = await unlessMeanwhile(send, keep, advice);
      keep(now);
      return { mark };
    });
  return {
    update: (kind, thing, changes, revision, advice) =>
      make(thing, changes, () => api.update(id, pathOf[kind](thing), changes, revision), (now) => world.put(kind, now), advice),
    updateCampaign: (campaign, changes, revision) =>
      make(campaign, changes, () => api.updateCampaign(id, changes, revision), (now) => world.putCampaign(now)),
    /** A change without a revision: it is relative, or the last one wins. */
    campaign: (send) => make(world.campaign, {}, send, (now) => world.putCampaign(now)),
    create: async (kind, path, values, key) => {
      const { thing, mark } = await api.create(id, path, values, key);
      world.put(kind, thing);
      await edits.make(thing.id, {}, async () => ({ mark }));
    },
  };
}

/**
 * A form whose changes are shown as soon as it is sent. If they are refused, they are undone, and the form opens again
 * with the typed values. Sent again, it starts from the current state of the thing.
 */
function editForm({ title, before, fields, send, toasts, isLeft }) {
  const ask = (values, revision, problem) =>
    openForm({
      title,
      submit: "Save",
      fields: fields(values),
      problem,
      onSubmit: (typed) => {
        const changes = difference(before, typed);
        if (Object.keys(changes).length > 0) save(typed, changes, revision);
      },
    });
  const save = async (typed, changes, revision) => {
    try {
      await send(changes, revision);
    } catch (error) {
      const canAsk = !isLeft() && !isDialogOpen() && error.code !== "signed_out";
      const text = `Your change to ${before.name} was undone.`;
      toasts.show(canAsk ? text : `${text} ${error.message}`, { kind: "bad" });
      const advice = error.current ? " Save again to overwrite it." : "";
      if (canAsk) ask({ ...before, ...typed }, error.current?.revision ?? revision, error.message + advice);
    }
  };
  ask(before, before.revision);
}

/** Ask a question about a thing. If the thing changed in the meantime, ask again about its current state. */
function deletion({ title, text, thing, send, keep, onDone }) {
  let { revision } = thing;
  openQuestion({
    title,
    text,
    submit: "Delete",
    onSubmit: async () => {
      await unlessMeanwhile(
        () => send(revision),
        (current) => {
          revision = current.revision;
          keep(current);
        },
        "Delete again if you still want to.",
      );
      onDone();
    },
  });
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

function actionsOf({ api, world, changes, levels, toasts, go, isLeft }) {
  const { id } = world;
  const thingOf = ({ dataset }) => world.thing(dataset.kind, dataset.id);
  const kingdoms = () => [...world.kingdoms.values()];

  const add = (kind, path, title) => {
    const once = new Once();
    const onSubmit = (values) => changes.create(kind, path, values, once.keyFor(values));
    openForm({ title, submit: "Add", fields: fieldsOf(kind, undefined, kingdoms()), onSubmit });
  };
  const edit = (element) => {
    const { kind } = element.dataset;
    const thing = thingOf(element);
    editForm({
      title: `Edit ${thing.name}`,
      before: thing,
      fields: (values) => fieldsOf(kind, values, kingdoms()),
      send: (difference, revision) => changes.update(kind, thing, difference, revision),
      toasts,
      isLeft,
    });
  };
  const remove = (element) => {
    const { kind } = element.dataset;
    const thing = thingOf(element);
    deletion({
      title: `Delete ${thing.name}?`,
      text: `${CONSEQUENCES[kind] ?? ""} This cannot be undone.`.trim(),
      thing,
      send: (revision) => api.remove(id, pathOf[kind](thing), revision),
      keep: (current) => world.put(kind, current),
      onDone: () => world.drop(kind, thing.id),
    });
  };

  return {
    addKingdom: () => add("kingdom", "kingdoms", "New kingdom"),
    addSettlement: () => add("settlement", "settlements", "New settlement"),
    addStructure: ({ dataset }) => add("structure", `settlements/${dataset.id}/structures`, "New structure"),
    addEntity: () => add("entity", "entities", "New place or encounter"),
    edit,
    remove,
    step: (element) => levels.step(element.dataset.kind, thingOf(element), Number(element.dataset.step)),
    advance: ({ dataset }) => changes.campaign(() => api.advance(id, Number(dataset.seconds))),
    setClock: () =>
      openForm({
        title: "The clock",
        submit: "Start",
        fields: clockFields(world.campaign.clock),
        onSubmit: (values) => changes.campaign(() => api.setClock(id, clockOf(values))),
      }),
    stopClock: async () => {
      await api.stopClock(id);
      world.putCampaign({ ...world.campaign, clock: null });
    },
    editCampaign: () =>
      editForm({
        title: "Edit the campaign",
        before: world.campaign,
        fields: (values) => fieldsOf("campaign", values),
        send: (difference, revision) => changes.updateCampaign(world.campaign, difference, revision),
        toasts,
        isLeft,
      }),
    deleteCampaign: () =>
      deletion({
        title: `Delete ${world.campaign.name}?`,
        text: "Everything in it is deleted, for everyone. This cannot be undone.",
        thing: world.campaign,
        send: (revision) => despiteTime((at) => api.deleteCampaign(id, at), revision),
        keep: (current) => world.putCampaign(current),
        onDone: () => go("#/"),
      }),
    ...memberActions({ id, api, world, thing: "campaign", reload: () => world.loadMembers() }),
  };
}
