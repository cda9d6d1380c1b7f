/** One campaign, live: what is shown, what can be done, and what the socket says about it. */

import { saver } from "../changes.js";
import { closeDialogs, openForm, openQuestion } from "../dialog.js";
import { flash, h } from "../dom.js";
import { Levels } from "../levels.js";
import { showScreen } from "../screen.js";
import { consequence, sentence, withArticle } from "../sentences.js";
import { pathOf, World } from "../world.js";
import { entityPanel } from "./entities.js";
import { feedPanel, withEntry, withNote } from "./feed.js";
import { headline } from "./headline.js";
import { memberPanel } from "./members.js";
import { failure, refusal } from "./refusal.js";
import { settlementList } from "./settlements.js";
import { clockFields, clockOf, fieldsOf } from "./things.js";

/**
 * @param {HTMLElement} host
 * @param {{id: string, api: import("../api.js").Api, client: import("/client/index.js").Client, me: any, toasts: any,
 *   go: (hash: string) => void, onError: (error: Error) => void}} page
 */
export function campaignView(host, { id, api, client, me, toasts, go, onError }) {
  let isLeft = false;
  /** @type {"loading" | "open" | "refused" | "failed"} */
  let phase = "loading";
  /** @type {import("./feed.js").Entry[]} */
  let entries = [];
  /** @type {Map<string, string>} */
  let notes = new Map();
  const world = new World(api, id, ({ key, fields = [] }) => {
    if (phase !== "open") return;
    screen.draw();
    if (key) light(screen, key, fields);
  });
  const levels = new Levels({
    save: async (kind, thing, level) => world.put(kind, await api.update(id, pathOf[kind](thing), { level })),
    onChange: () => screen.draw(),
  });
  const screen = showScreen(host, {
    title: () => (phase === "open" ? world.campaign.name : "Campaign"),
    render: () => bodyOf(phase, { world, levels, entries, notes, me }),
    actions: { ...actionsOf({ api, world, levels, toasts, go }), reload: () => load() },
    onError,
  });

  const load = async () => {
    try {
      await world.load();
      phase = "open";
      noteRole();
      if (!isLeft) subscribe();
    } catch (error) {
      phase = error.status === 403 ? "refused" : "failed";
      if (phase === "failed") onError(error);
    }
    screen.draw();
  };
  /** @type {string | undefined} */
  let noted;
  /** Say when the role is another one than the page last showed, however it learnt that. */
  const noteRole = () => {
    const { role, name } = world.campaign;
    if (noted !== undefined && noted !== role) {
      closeDialogs();
      toasts.show(`You are now ${withArticle(role)} of ${name}.`);
    }
    noted = role;
  };
  const reload = () => world.load().then(noteRole, onError);
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
    const early = sentence(event, world, me.id); // afterwards the page no longer knows the name of what is gone
    await world.follow(event);
    const text = isGone ? early : sentence(event, world, me.id, { isNewMember });
    const at = new Date(metadata?.timestamp ?? Date.now());
    entries = withEntry(entries, { offset: frame.offset, text, at, cause: metadata?.correlationId });
    screen.draw();
  };
  /** @type {import("/client/index.js").Subscription | undefined} */
  let subscription;
  const subscribe = () => {
    subscription?.unsubscribe();
    subscription = client.subscribe(`campaign:${id}`, {
      onEvent,
      // What changed between the first look and the subscription.
      onReady: reload,
      onResync: () => {
        toasts.show("Some changes may have been missed: everything is loaded again.");
        reload();
      },
      onLeft: () => leave(noLongerMember()),
      onError: (error, { willRetry }) => {
        if (willRetry) return;
        if (phase === "open") return leave(noLongerMember()); // taken out between the first look and the subscription
        phase = "refused";
        screen.draw();
      },
    });
  };
  const offRole = client.on("role", ({ root, role }) => {
    if (root !== `campaign:${id}` || phase !== "open") return;
    world.setRole(role);
    noteRole();
  });

  load();
  return {
    close() {
      isLeft = true;
      subscription?.unsubscribe();
      offRole();
      closeDialogs();
    },
  };
}

function bodyOf(phase, { world, levels, entries, notes, me }) {
  if (phase === "loading") return [h("p", { class: "quiet" }, "Loading…")];
  if (phase === "refused") return [refusal(me)];
  if (phase === "failed") return [failure()];
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

/** Light up the fields that changed, or the whole thing where it is new or no field is shown. */
function light(screen, key, fields) {
  const keys = fields.map((field) => `${key}-${field.replace(/^(variables|data)\./, "variable-")}`);
  const elements = keys.map((each) => screen.find(each)).filter(Boolean);
  if (elements.length > 0) for (const element of elements) flash(element);
  else if (key !== "campaign") flash(screen.find(key));
}

function actionsOf({ api, world, levels, toasts, go }) {
  const { id } = world;
  const thingOf = ({ dataset }) => world.thing(dataset.kind, dataset.id);

  const add = (kind, path, title) =>
    openForm({
      title,
      submit: "Add",
      fields: fieldsOf(kind),
      onSubmit: async (values) => world.put(kind, await api.create(id, path, values)),
    });
  const edit = (element) => {
    const { kind } = element.dataset;
    const thing = thingOf(element);
    openForm({
      title: `Edit ${thing.name}`,
      submit: "Save",
      fields: fieldsOf(kind, thing),
      onSubmit: saver(
        thing,
        (changes, revision) => api.update(id, pathOf[kind](thing), changes, revision),
        (now) => world.put(kind, now),
      ),
    });
  };
  const remove = (element) => {
    const { kind } = element.dataset;
    const thing = thingOf(element);
    const text = kind === "settlement" ? "Its structures go with it. This cannot be undone." : "This cannot be undone.";
    openQuestion({
      title: `Delete ${thing.name}?`,
      text,
      submit: "Delete",
      onSubmit: async () => {
        await api.remove(id, pathOf[kind](thing));
        world.drop(kind, thing.id);
      },
    });
  };

  return {
    addSettlement: () => add("settlement", "settlements", "New settlement"),
    addStructure: ({ dataset }) => add("structure", `settlements/${dataset.id}/structures`, "New structure"),
    addEntity: () => add("entity", "entities", "New place or encounter"),
    edit,
    remove,
    step: (element) => levels.step(element.dataset.kind, thingOf(element), Number(element.dataset.step)),
    advance: async ({ dataset }) => world.putCampaign((await api.advance(id, Number(dataset.seconds))).campaign),
    setClock: () =>
      openForm({
        title: "The clock",
        submit: "Start",
        fields: clockFields(world.campaign.clock),
        onSubmit: async (values) => world.putCampaign(await api.setClock(id, clockOf(values))),
      }),
    stopClock: async () => {
      await api.stopClock(id);
      world.putCampaign({ ...world.campaign, clock: null });
    },
    editCampaign: () =>
      openForm({
        title: "Edit the campaign",
        submit: "Save",
        fields: fieldsOf("campaign", world.campaign),
        onSubmit: saver(
          world.campaign,
          (changes, revision) => api.updateCampaign(id, changes, revision),
          (now) => world.putCampaign(now),
        ),
      }),
    deleteCampaign: () =>
      openQuestion({
        title: `Delete ${world.campaign.name}?`,
        text: "Everything in it goes with it, for everybody. This cannot be undone.",
        submit: "Delete",
        onSubmit: async () => {
          await api.deleteCampaign(id);
          go("#/");
        },
      }),
    addMember: async (form) => {
      await api.addMember(id, Object.fromEntries(new FormData(form)));
      form.reset();
      await world.loadMembers();
    },
    changeRole: async (select) => {
      try {
        await api.changeRole(id, select.dataset.user, select.value);
      } finally {
        await world.loadMembers(); // also where it was refused: the choice shows what is so
      }
    },
    removeMember: ({ dataset }) => {
      const { name } = world.members.get(dataset.user);
      openQuestion({
        title: `Remove ${name}?`,
        text: `${name} stops seeing this campaign at once.`,
        submit: "Remove",
        onSubmit: async () => {
          await api.removeMember(id, dataset.user);
          await world.loadMembers();
        },
      });
    },
  };
}
