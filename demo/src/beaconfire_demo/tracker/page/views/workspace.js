/** One live workspace: what it shows, what a user can do, and what happens on events. */

import { watchPresence, watchTyping } from "../../../client/people.js";
import { difference } from "../../../page/changes.js";
import { isContained } from "../../../page/cursors.js";
import { closeDialogs, isDialogOpen, openForm, openQuestion } from "../../../page/dialog.js";
import { flash, h } from "../../../page/dom.js";
import { Edits } from "../../../page/edits.js";
import { Loading } from "../../../page/loading.js";
import { Once } from "../../../page/once.js";
import { showScreen } from "../../../page/screen.js";
import { asSentence, withArticle } from "../../../page/sentences.js";
import { memberActions, memberPanel } from "../../../page/views/members.js";
import { failure, refusal, tryNow } from "../../../page/views/refusal.js";
import { askWhoseStays } from "../conflict.js";
import { bodyOf, issueFields, planFields, teamField, teamFields } from "../forms.js";
import { Moving } from "../moving.js";
import { pathOf, Tracker } from "../tracker.js";
import { activity, entryLine } from "./activity.js";
import { board } from "./board.js";
import { head } from "./head.js";
import { issueDetail } from "./issue.js";
import { plans } from "./plans.js";

/** The part of a workspace that an address names. @param {string} id @returns {{part: string, issue: string} | null} */
function placeIn(id) {
  const [, workspace, part = "", issue = ""] = location.hash.match(/^#\/workspace\/([\w-]{1,64})(?:\/([a-z]+)(?:\/([\w-]{1,64}))?)?$/) ?? [];
  return workspace === id ? { part, issue } : null;
}

/**
 * @param {HTMLElement} host
 * @param {{id: string, api: import("../api.js").Api, client: import("../../../client/index.js").Client, me: any, toasts: any,
 *   go: (hash: string) => void, onError: (error: Error) => void}} page
 */
export function workspaceView(host, { id, api, client, me, toasts, go, onError }) {
  let isLeft = false;
  /** @type {"loading" | "open" | "refused" | "failed"} */
  let phase = "loading";
  let problem = "";
  let place = placeIn(id) ?? { part: "", issue: "" };
  let team = "";
  /** The loaded state contains every event up to this cursor. */
  let loadedUpTo = "";
  /** The key of the comment that is being written: sent again after a lost answer, it is added once. */
  let commenting = new Once();
  /** Who has the workspace open, once it was joined. @type {ReturnType<typeof watchPresence> | null} */
  let here = null;
  /** The opened issue: who is there, and who types. @type {{id: string, presence: any, typing: any, close: () => void} | null} */
  let opened = null;

  const draw = () => {
    moving.around(() => screen.draw());
  };
  const onChange = ({ key }) => {
    if (phase !== "open") return;
    draw();
    if (key) flash(screen.find(key) ?? screen.find(`issue-${key}`));
  };
  const tracker = new Tracker(api, id, onChange, () => loading.run());
  const edits = new Edits(client, () => phase === "open" && draw());
  const moving = new Moving(host);
  const screen = showScreen(host, {
    title: () => (phase === "open" ? (issueOf()?.identifier ?? tracker.workspace.name) : "Workspace"),
    render,
    actions: actionsOf(),
    onError,
  });

  function issueOf() {
    return place.part === "issue" ? tracker.issues.get(place.issue) : undefined;
  }

  /** The workspace with all unconfirmed changes. */
  function shown() {
    return edits.shown(tracker, ["issues", "projects", "cycles"]);
  }

  function render() {
    if (phase === "loading") return [h("p", { class: "quiet" }, "Loading…")];
    if (phase === "refused") return [refusal(me, { thing: "workspace", home: "My workspaces" })];
    if (phase === "failed") return [failure("The workspace could not be loaded", problem, tryNow())];
    const now = shown();
    return [head({ tracker: now, place, presence: here?.users.getSnapshot(), me }), h("div", { class: "part", "data-key": `part-${place.part}-${place.issue}` }, partOf(now))];
  }

  function partOf(now) {
    if (place.part === "plans") return plans(now);
    if (place.part === "activity") return activity({ tracker: now, me });
    if (place.part === "members") return h("div", { class: "narrow" }, memberPanel(tracker, me));
    if (place.part === "issue") return issuePart(now);
    return board({ tracker: now, team, entry: tracker.entries[0], me });
  }

  function issuePart(now) {
    const issue = now.issues.get(place.issue);
    if (!issue) {
      return h("section", { class: "card refusal" }, h("h2", {}, "This issue does not exist"), h("p", {}, "It may have been deleted."), h("a", { class: "button", href: `#/workspace/${id}` }, "Go to the board"));
    }
    return issueDetail({ tracker: now, issue, presence: opened?.presence.users.getSnapshot(), typing: opened?.typing.users.getSnapshot() ?? [], me });
  }

  // Loading and events.

  const load = async () => {
    const cursor = await tracker.load();
    if (isLeft) return;
    loadedUpTo = cursor ?? "";
    problem = "";
    phase = "open";
    noteRole();
    if (!subscription) subscribe(cursor);
    openIssue();
    draw();
  };
  const onFailure = (error, willRetry) => {
    if (error.code === "signed_out") return;
    if (!willRetry && phase === "open") return leave(noLongerMember());
    const isNews = problem !== error.message;
    problem = error.message;
    if (phase !== "open") phase = willRetry ? "failed" : "refused";
    else if (isNews) toasts.show(`Some of this may be out of date. ${problem}`, { kind: "bad" });
    draw();
  };
  const loading = new Loading({ client, load, onFailure });
  /** @type {string | undefined} */
  let noted;
  /** Show a notice if the role differs from the one that the page last showed. */
  const noteRole = () => {
    const { role, name } = tracker.workspace;
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
  const noLongerMember = () => `You are no longer a member of ${tracker.workspace.name}.`;
  const onEvent = async (event, frame) => {
    const { type, payload } = event;
    if (type === "activity.created" && payload.kind === "workspace" && payload.action === "deleted") {
      return leave(`${tracker.workspace.name} was deleted.`);
    }
    if (isContained(frame.offset, loadedUpTo)) return;
    await tracker.follow(event);
    tell(event);
  };
  /** A notice about what concerns this user. */
  const tell = ({ type, payload }) => {
    if (type !== "issue.activity.created" || payload.actorId === me.id) return;
    if (payload.changes.assigneeId?.to === me.id) toasts.show(`${entryLine(payload, tracker, me)}.`);
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
        if (error.code === "forbidden") return leave(noLongerMember());
        toasts.show(`You do not see other users' changes here. ${asSentence(error.message)}`, { kind: "bad", ms: 0 });
      },
    };
    subscription = client.subscribe(`workspace:${id}`, handlers, { cursor });
    here = watchPresence(client, `workspace:${id}`);
    here.users.subscribe(draw);
  };
  const offRole = client.on("role", ({ root, role }) => {
    if (root !== `workspace:${id}` || phase !== "open") return;
    tracker.setRole(role);
    noteRole();
  });

  // The opened issue.

  /** Join the room of the issue that is shown, and leave the one before. */
  function openIssue() {
    const issue = issueOf();
    if (opened?.id === issue?.id) return;
    opened?.close();
    opened = null;
    if (!issue) return;
    const room = `workspace:${id}/issue:${issue.id}`;
    const [presence, typing] = [watchPresence(client, room), watchTyping(client, room)];
    const offs = [presence, typing].map(({ users }) => users.subscribe(draw));
    opened = {
      id: issue.id,
      presence,
      typing,
      close() {
        for (const off of offs) off();
        typing.close();
        presence.close();
      },
    };
    void tracker.openIssue(issue);
  }

  const onInput = ({ target }) => {
    if (target.dataset?.typing === undefined || !opened) return;
    if (target.value.trim() === "") opened.typing.stop();
    else opened.typing.type();
  };
  const onKey = (event) => {
    const form = event.target.closest?.(".comment-form");
    if (form && event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  };

  // Changes.

  /**
   * Change a thing: it is shown at once, and undone if it is refused. If another user changed the same fields, ask whose
   * values shall stay.
   */
  async function change(kind, thing, changes, from) {
    let revision = from ?? tracker.thing(kind, thing.id)?.revision;
    for (;;) {
      try {
        return await edits.make(thing.id, changes, async () => {
          const { thing: now, mark } = await api.update(id, pathOf[kind](thing), changes, revision);
          tracker.put(kind, now);
          return { mark };
        });
      } catch (error) {
        const { current, conflicts = [] } = error.details ?? {};
        if (!current) throw undone(thing, error);
        tracker.put(kind, current);
        if (isLeft) return undefined;
        const title = `${current.identifier ?? current.name} was changed`;
        if (!(await askWhoseStays({ title, fields: conflicts, current, mine: changes, tracker }))) return undefined;
        revision = current.revision;
      }
    }
  }

  function undone(thing, error) {
    if (error.code === "signed_out") return error;
    error.message = `Your change to ${thing.identifier ?? thing.name} was undone. ${error.message}`;
    return error;
  }

  async function create(kind, path, values, key) {
    const { thing, mark } = await api.create(id, path, values, key);
    tracker.put(kind, thing);
    await edits.make(thing.id, {}, async () => ({ mark }));
    return thing;
  }

  /** Ask before a thing is deleted. If it changed in the meantime, ask again about its current state. */
  function remove(kind, thing, { title, text }) {
    let { revision } = thing;
    openQuestion({
      title,
      text,
      submit: "Delete",
      onSubmit: async () => {
        try {
          await api.remove(id, pathOf[kind](thing), revision);
        } catch (error) {
          const { current } = error.details ?? {};
          if (!current) throw error;
          revision = current.revision;
          tracker.put(kind, current);
          throw new Error("This was changed in the meantime. Delete again if you still want to.");
        }
        tracker.drop(kind, thing);
      },
    });
  }

  function edit(kind, thing, title, fields) {
    openForm({
      title,
      submit: "Save",
      fields,
      onSubmit: (typed) => {
        const changes = difference(thing, bodyOf(typed));
        if (Object.keys(changes).length > 0) void change(kind, thing, changes, thing.revision).catch(onError);
      },
    });
  }

  function actionsOf() {
    const issueAt = ({ dataset }) => tracker.issues.get(dataset.id);
    const planAt = ({ dataset }) => tracker.thing(dataset.kind, dataset.id);
    const commentAt = ({ dataset }) => tracker.comments.get(place.issue)?.find((one) => one.id === dataset.id);
    const form = (title, fields, send) => {
      const once = new Once();
      openForm({ title, submit: "Create", fields, onSubmit: (values) => send(bodyOf(values), once) });
    };
    return {
      reload: () => loading.run(),
      chooseTeam: (select) => {
        team = select.value;
        draw();
      },
      move: (select) => change("issue", issueAt(select), { status: select.value }),
      setField: (select) => change("issue", issueAt(select), { [select.dataset.field]: select.value || null }),
      addIssue: () =>
        form("New issue", [teamField(tracker, team), ...issueFields(tracker)], ({ teamId, ...values }, once) =>
          create("issue", `teams/${teamId}/issues`, values, once.keyFor({ teamId, ...values })),
        ),
      addTeam: () => form("New team", teamFields(), (values, once) => create("team", "teams", values, once.keyFor(values))),
      addPlan: ({ dataset: { kind } }) =>
        form(`New ${kind}`, planFields(kind), (values, once) => create(kind, `${kind}s`, values, once.keyFor(values))),
      editPlan: (element) => {
        const plan = planAt(element);
        edit(element.dataset.kind, plan, `Edit ${plan.name}`, planFields(element.dataset.kind, plan));
      },
      removePlan: (element) => {
        const plan = planAt(element);
        remove(element.dataset.kind, plan, { title: `Delete ${plan.name}?`, text: "Its issues stay. This cannot be undone." });
      },
      editIssue: (element) => {
        const issue = issueAt(element);
        edit("issue", issue, `Edit ${issue.identifier}`, issueFields(tracker, issue));
      },
      removeIssue: (element) => {
        const issue = issueAt(element);
        remove("issue", issue, { title: `Delete ${issue.identifier}?`, text: "Its comments are deleted too. This cannot be undone." });
      },
      archive: (element) => {
        const issue = issueAt(element);
        return change("issue", issue, { archived: !issue.archived });
      },
      comment: async (element) => {
        const issue = issueAt(element);
        const body = new FormData(element).get("body");
        await create("comment", `${pathOf.issue(issue)}/comments`, { body }, commenting.keyFor({ issue: issue.id, body }));
        element.reset();
        commenting = new Once();
        opened?.typing.stop();
      },
      editComment: (element) => {
        const comment = commentAt(element);
        const fields = [{ name: "body", label: "Comment", type: "textarea", value: comment.body, required: true, maxlength: 5000 }];
        openForm({
          title: "Edit your comment",
          submit: "Save",
          fields,
          onSubmit: async ({ body }) => tracker.put("comment", (await api.update(id, pathOf.comment(comment), { body }, comment.revision)).thing),
        });
      },
      removeComment: (element) => remove("comment", commentAt(element), { title: "Delete this comment?", text: "This cannot be undone." }),
      older: () => tracker.readOlder(),
      editWorkspace: () => {
        const { workspace } = tracker;
        openForm({
          title: "Edit the workspace",
          submit: "Save",
          fields: [
            { name: "name", label: "Name", value: workspace.name, required: true, maxlength: 200 },
            { name: "description", label: "Description", type: "textarea", value: workspace.description, maxlength: 10_000 },
          ],
          onSubmit: async (values) => {
            const changes = difference(workspace, values);
            tracker.putWorkspace((await api.updateWorkspace(id, changes, workspace.revision)).thing);
          },
        });
      },
      ...memberActions({ id, api, world: tracker, thing: "workspace", reload: () => tracker.loadMembers() }),
    };
  }

  const offDrag = moving.onDrop((issueId, status) => {
    const issue = tracker.issues.get(issueId);
    if (issue && edits.over(issue).status !== status && !isDialogOpen()) change("issue", issue, { status }).catch(onError);
  });
  host.addEventListener("input", onInput);
  host.addEventListener("keydown", onKey);
  loading.run();
  return {
    /** Show another part of the same workspace. Returns whether the address is one of this workspace. */
    follow() {
      const next = placeIn(id);
      if (next === null || isLeft) return false;
      place = next;
      openIssue();
      closeDialogs();
      draw();
      window.scrollTo(0, 0);
      if (document.activeElement === document.body) host.focus({ preventScroll: true }); // what had the focus is gone
      return true;
    },
    close() {
      isLeft = true;
      opened?.close();
      loading.close();
      subscription?.unsubscribe();
      here?.close();
      offRole();
      offDrag();
      host.removeEventListener("input", onInput);
      host.removeEventListener("keydown", onKey);
      closeDialogs();
    },
  };
}
