/** One live workspace: what it shows, what a user can do, and what happens on events. */

import { watchPresence, watchTyping } from "../../../client/people.js";
import { difference } from "../../../page/changes.js";
import { openDeletion } from "../../../page/deletion.js";
import { closeDialogs, isDialogOpen, openForm } from "../../../page/dialog.js";
import { flash, h } from "../../../page/dom.js";
import { Edits } from "../../../page/edits.js";
import { LiveRoot } from "../../../page/live_root.js";
import { Once } from "../../../page/once.js";
import { showScreen } from "../../../page/screen.js";
import { memberActions, memberPanel } from "../../../page/views/members.js";
import { bodyOf, issueFields, planFields, rootFields, teamField, teamFields } from "../forms.js";
import { Moving } from "../moving.js";
import { pathOf, Tracker } from "../tracker.js";
import { fieldWord, newsOf, valueWord } from "../words.js";
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
 * @param {import("../../../page/live_root.js").RootPage & {api: import("../api.js").Api, onError: (error: Error) => void}} page
 */
export function workspaceView(host, page) {
  const { id, api, client, outgoing, me, toasts, onError } = page;
  let place = placeIn(id) ?? { part: "", issue: "" };
  let team = "";
  /** The key of the comment that is being written: sent again after a lost answer, it is added once. */
  let commenting = new Once();
  /** The opened issue: who is there, and who types. @type {{id: string, presence: any, typing: any, close: () => void} | null} */
  let opened = null;

  const draw = () => {
    moving.around(() => screen.draw());
  };
  const onChange = ({ key }) => {
    if (live.phase !== "open") return;
    draw();
    if (key) flash(screen.find(key) ?? screen.find(`issue-${key}`));
  };
  const tracker = new Tracker(api, id, onChange, () => live.load());
  /** @type {import("../../../page/outgoing.js").Showing} */
  const showing = {
    url: api.urlOf(id),
    fieldWord,
    valueWord: (field, value) => valueWord(field, value, tracker),
    put: (kind, thing) => (kind === "root" ? tracker.putRoot(thing) : tracker.put(kind, thing)),
  };
  const live = new LiveRoot(page, "workspace", tracker, {
    showing,
    draw: () => draw(),
    onLoaded: () => openIssue(),
    onEvent: (event, frame) => onEvent(event, frame),
  });
  const edits = new Edits(client, outgoing, () => live.phase === "open" && draw());
  const moving = new Moving(host);
  const screen = showScreen(host, {
    title: () => live.title(issueOf()?.identifier),
    render: () => live.body(content),
    actions: actionsOf(),
    onError,
  });

  function issueOf() {
    return place.part === "issue" ? tracker.issues.get(place.issue) : undefined;
  }

  /** The workspace with all unconfirmed changes. */
  function shown() {
    return edits.shown(tracker, ["issues", "projects", "cycles"], ["root"]);
  }

  function content() {
    const now = shown();
    return [head({ tracker: now, place, presence: live.presence, me }), h("div", { class: "part", "data-key": `part-${place.part}-${place.issue}` }, partOf(now))];
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

  const onEvent = async (event, frame) => {
    const { type, payload } = event;
    if (type === "activity.created" && payload.kind === "workspace" && payload.action === "deleted") {
      return live.leave(`${tracker.root.name} was deleted.`);
    }
    if (!live.contains(frame)) {
      await tracker.follow(event);
      tell(event);
    }
    return type.endsWith("activity.created") ? newsOf(payload, tracker) : undefined;
  };
  /** A notice about what concerns this user. */
  const tell = ({ type, payload }) => {
    if (type !== "issue.activity.created" || payload.actorId === me.id) return;
    if (payload.changes.assigneeId?.to === me.id) toasts.show(`${entryLine(payload, tracker, me)}.`);
  };
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

  /** Change fields. They are shown at once, kept without a connection, and undone if they are refused. */
  async function change(kind, thing, changes, revision = thing.revision) {
    try {
      await outgoing.change({ kind, id: thing.id, url: api.urlOf(id, kind === "root" ? "" : pathOf[kind](thing)), changes, revision });
    } catch (error) {
      toasts.show(`Your change to ${thing.identifier ?? thing.name} was undone. ${error.message}`, { kind: "bad" });
    }
  }

  async function create(kind, path, values, key) {
    const { thing, mark } = await api.create(id, path, values, key);
    tracker.put(kind, thing);
    await edits.make(thing.id, async () => ({ mark }));
    return thing;
  }

  function remove(kind, thing, { title, text }) {
    openDeletion({
      title,
      text,
      revision: thing.revision,
      remove: (revision) => api.remove(id, pathOf[kind](thing), revision),
      keep: (current) => tracker.put(kind, current),
      onDone: () => tracker.drop(kind, thing),
      view: showing,
    });
  }

  function edit(kind, thing, title, fields) {
    openForm({
      title,
      submit: "Save",
      fields,
      onSubmit: (typed) => {
        const changes = difference(thing, bodyOf(typed));
        if (Object.keys(changes).length > 0) void change(kind, thing, changes);
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
      ...live.actions,
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
        const plan = edits.over(planAt(element));
        edit(element.dataset.kind, plan, `Edit ${plan.name}`, planFields(element.dataset.kind, plan));
      },
      removePlan: (element) => {
        const plan = planAt(element);
        remove(element.dataset.kind, plan, { title: `Delete ${plan.name}?`, text: "Its issues stay. This cannot be undone." });
      },
      editIssue: (element) => {
        const issue = edits.over(issueAt(element));
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
      editWorkspace: () => edit("root", edits.over(tracker.root), "Edit the workspace", rootFields(edits.over(tracker.root))),
      ...memberActions({ id, api, world: tracker, thing: "workspace", reload: () => tracker.loadMembers() }),
    };
  }

  const offDrag = moving.onDrop((issueId, status) => {
    const issue = tracker.issues.get(issueId);
    if (issue && edits.over(issue).status !== status && !isDialogOpen()) void change("issue", issue, { status });
  });
  host.addEventListener("input", onInput);
  host.addEventListener("keydown", onKey);
  live.load();
  return {
    /** Show another part of the same workspace. Returns whether the address is one of this workspace. */
    follow() {
      const next = placeIn(id);
      if (next === null || live.isLeft) return false;
      place = next;
      openIssue();
      closeDialogs();
      draw();
      window.scrollTo(0, 0);
      if (document.activeElement === document.body) host.focus({ preventScroll: true }); // what had the focus is gone
      return true;
    },
    close() {
      live.close();
      edits.close();
      opened?.close();
      offDrag();
      host.removeEventListener("input", onInput);
      host.removeEventListener("keydown", onKey);
    },
  };
}
