/** One live workspace: what it shows, what a user can do, and what happens on events. */

import { watchPresence, watchTyping } from "../../../client/people.js";
import { difference } from "../../../page/changes.js";
import { closeDialogs, isDialogOpen, openQuestion } from "../../../page/dialog.js";
import { flash, h } from "../../../page/dom.js";
import { Edits } from "../../../page/edits.js";
import { openSent } from "../../../page/forms.js";
import { LiveRoot } from "../../../page/live_root.js";
import { showScreen } from "../../../page/screen.js";
import { memberActions, memberPanel } from "../../../page/views/members.js";
import { bodyOf, issueFields, newIssueFields, planFields, rootFields, teamField, teamFields } from "../forms.js";
import { Moving } from "../moving.js";
import { pathOf, Tracker } from "../tracker.js";
import { fieldWord, newsOf, undone, valueWord } from "../words.js";
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
    drop: (kind, thing) => tracker.drop(kind, thing),
    undone: (change, error) => undone(change, error, tracker),
  };
  const live = new LiveRoot(page, "workspace", tracker, {
    showing,
    draw: () => draw(),
    shape: () => (place.part === "issue" ? "issue" : "board"),
    onLoaded: () => openIssue(),
    onEvent: (event, frame) => onEvent(event, frame),
  });
  const edits = new Edits({ client, outgoing, url: api.urlOf(id), onChange: () => live.phase === "open" && draw() });
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
    const shelves = { teams: "team", issues: "issue", projects: "project", cycles: "cycle" };
    const [added, root] = [edits.added("comment").map((change) => tracker.draft(change)), edits.over(tracker.root)];
    const over = ([issue, all]) => [issue, [...all.map((each) => edits.over(each)), ...added.filter(({ issueId }) => issueId === issue)]];
    return edits.shown(tracker, shelves, { root, comments: new Map([...tracker.comments].map(over)) });
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

  // They are shown at once, kept without a connection, and undone if they are refused.

  const urlOf = (kind, thing) => api.urlOf(id, kind === "root" ? "" : pathOf[kind](thing));
  const change = (kind, thing, body) => outgoing.make({ method: "PATCH", kind, id: thing.id, url: urlOf(kind, thing), body, revision: thing.revision });
  const create = (kind, path, body) => outgoing.make({ method: "POST", kind, url: api.urlOf(id, path), body });

  /** @param {{title: string, text: string, onDeed?: () => void}} question */
  function remove(kind, thing, { title, text, onDeed }) {
    const deed = { method: "DELETE", kind, id: thing.id, url: urlOf(kind, thing), revision: thing.revision };
    const onSubmit = () => {
      void outgoing.make(deed);
      onDeed?.();
    };
    openQuestion({ title, text, submit: "Delete", onSubmit });
  }

  /** @param {(shown: any) => import("../../../page/dialog.js").Field[]} fields */
  function edit(kind, thing, title, fields) {
    const values = edits.over(thing);
    const send = async (typed) => {
      const changes = difference(values, bodyOf(typed));
      return Object.keys(changes).length > 0 ? change(kind, thing, changes) : undefined;
    };
    openSent({ title, submit: "Save", fields, values, send, isLeft: () => live.isLeft });
  }

  function actionsOf() {
    const issueAt = ({ dataset }) => tracker.issues.get(dataset.id);
    const planAt = ({ dataset }) => tracker.thing(dataset.kind, dataset.id);
    const commentAt = ({ dataset }) => tracker.comments.get(place.issue)?.find((one) => one.id === dataset.id);
    const add = (title, fields, send) =>
      openSent({ title, submit: "Create", fields, send: (typed) => send(bodyOf(typed)), isLeft: () => live.isLeft });
    return {
      ...live.actions,
      chooseTeam: (select) => {
        team = select.value;
        draw();
      },
      move: (select) => void change("issue", issueAt(select), { status: select.value }),
      setField: (select) => void change("issue", issueAt(select), { [select.dataset.field]: select.value || null }),
      addIssue: () =>
        add("New issue", (typed) => [teamField(tracker, typed?.teamId ?? team), ...newIssueFields(tracker, typed)], ({ teamId, ...values }) =>
          create("issue", `teams/${teamId}/issues`, values),
        ),
      addTeam: () => add("New team", (typed) => teamFields(typed), (values) => create("team", "teams", values)),
      addPlan: ({ dataset: { kind } }) => add(`New ${kind}`, (typed) => planFields(kind, typed), (values) => create(kind, `${kind}s`, values)),
      editPlan: (element) => {
        const plan = planAt(element);
        edit(element.dataset.kind, plan, `Edit ${plan.name}`, (shown) => planFields(element.dataset.kind, shown));
      },
      removePlan: (element) => {
        const plan = planAt(element);
        remove(element.dataset.kind, plan, { title: `Delete ${plan.name}?`, text: "Its issues stay. This cannot be undone." });
      },
      editIssue: (element) => {
        const issue = issueAt(element);
        edit("issue", issue, `Edit ${issue.identifier}`, issueFields);
      },
      removeIssue: (element) => {
        const issue = issueAt(element);
        remove("issue", issue, { title: `Delete ${issue.identifier}?`, text: "Its comments are deleted too. This cannot be undone.", onDeed: () => page.go(`#/workspace/${id}`) });
      },
      archive: (element) => {
        const issue = issueAt(element);
        void change("issue", issue, { archived: !edits.over(issue).archived });
      },
      comment: async (element) => {
        const issue = issueAt(element);
        const body = new FormData(element).get("body");
        element.reset();
        opened?.typing.stop();
        const { error } = await create("comment", `${pathOf.issue(issue)}/comments`, { body });
        if (error && element.isConnected && element.elements.body.value === "") element.elements.body.value = body;
      },
      editComment: (element) => {
        const fields = ({ body }) => [{ name: "body", label: "Comment", type: "textarea", value: body, required: true, maxlength: 5000 }];
        edit("comment", commentAt(element), "Edit your comment", fields);
      },
      removeComment: (element) => remove("comment", commentAt(element), { title: "Delete this comment?", text: "This cannot be undone." }),
      older: () => tracker.readOlder(),
      editWorkspace: () => edit("root", tracker.root, "Edit the workspace", rootFields),
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
