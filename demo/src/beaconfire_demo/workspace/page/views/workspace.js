/** One live workspace: what it shows, what a user can do, and what happens on events. */

import { keepStatus, watchPresence, watchTyping } from "../../../client/people.js";

import { isContained } from "../../../page/cursors.js";
import { closeDialogs, openForm, openQuestion } from "../../../page/dialog.js";
import { flash, h } from "../../../page/dom.js";
import { Loading } from "../../../page/loading.js";
import { Once } from "../../../page/once.js";
import { showScreen } from "../../../page/screen.js";
import { asSentence, withArticle } from "../../../page/sentences.js";
import { memberActions, memberPanel } from "../../../page/views/members.js";
import { failure, refusal, tryNow } from "../../../page/views/refusal.js";
import { CHAT, Room } from "../room.js";
import { agentPanel, STATUSES } from "./agents.js";
import { approvalList } from "./approvals.js";
import { chatPanel } from "./chat.js";
import { headline } from "./headline.js";
import { notificationPanel } from "./notifications.js";

/**
 * @param {HTMLElement} host
 * @param {{id: string, api: import("../api.js").Api, client: import("../../../client/index.js").Client, me: any, toasts: any,
 *   go: (hash: string) => void, onError: (error: Error) => void}} page
 */
export function workspaceView(host, { id, api, client, me, toasts, go, onError }) {
  const room = new Room(api, id);
  /** @type {"loading" | "open" | "refused" | "failed"} */
  let phase = "loading";
  let problem = "";
  let isLeft = false;
  /** The loaded state contains every event up to this cursor. */
  let loadedUpTo = "";
  const shown = { notifications: false, allDecided: false, status: "online", forgetStatus: () => {} };
  /** @type {ReturnType<typeof follow> | undefined} */
  let live;

  const screen = showScreen(host, {
    title: () => (phase === "open" ? titleOf(room) : "Workspace"),
    render: () => bodyOf(phase, { room, me, problem, shown, live }),
    actions: {
      ...actionsOf({ api, room, me, client, toasts, shown, draw: () => draw(), typing: () => live?.typing, find: (key) => screen.find(key) }),
      ...memberActions({ id, api, world: room, thing: "workspace", reload: () => reloadMembers() }),
      reload: () => loading.run(),
    },
    onError,
  });
  /** Draw, and keep the chat at its end if the user reads there. */
  const draw = () => {
    if (isLeft) return;
    const before = screen.find("messages");
    const isAtEnd = !before || before.scrollHeight - before.scrollTop - before.clientHeight < 40;
    screen.draw();
    const after = screen.find("messages");
    if (isAtEnd && after) after.scrollTop = after.scrollHeight;
  };

  const load = async () => {
    const cursor = await room.load();
    if (isLeft) return;
    loadedUpTo = cursor ?? "";
    problem = "";
    phase = "open";
    live ??= follow(cursor);
    draw();
  };
  const onFailure = (error, willRetry) => {
    if (error.code === "signed_out") return;
    if (!willRetry && phase === "open") return leave();
    const isNews = problem !== error.message;
    problem = error.message;
    if (phase !== "open") phase = willRetry ? "failed" : "refused";
    else if (isNews) toasts.show(`Some of this may be out of date. ${problem}`, { kind: "bad" });
    draw();
  };
  const loading = new Loading({ client, load, onFailure });

  const reloadMembers = async () => {
    try {
      await room.loadMembers();
      draw();
    } catch {
      loading.run(); // until it works
    }
  };

  function leave() {
    if (isLeft) return;
    isLeft = true;
    toasts.show(`You are no longer a member of ${room.workspace.name}.`, { kind: "bad", ms: 10_000 });
    go("#/");
  }

  /** Hear everything after the cursor of the loaded state. */
  function follow(cursor) {
    const onEvent = (event, frame) => {
      if (event.type === "member_changed") return void reloadMembers();
      if (isContained(frame.offset, loadedUpTo)) return;
      room.apply(event);
      if (event.type === "chat.message" && event.payload.senderId === me.id) room.confirm(event.payload.text);
      draw();
      if (event.type === "agent.status.changed") flash(screen.find(`${event.payload.agentId}-words`));
    };
    const onResync = () => {
      loadedUpTo = ""; // perhaps another stream, with new offsets
      toasts.show("Some changes may be missing. Everything is loaded again.");
      loading.run();
    };
    const refused = (error, { willRetry }) => {
      if (willRetry) return;
      if (error.code === "forbidden") return leave();
      toasts.show(`You do not see other users' changes here. ${asSentence(error.message)}`, { kind: "bad", ms: 0 });
    };
    const onReady = () => cursor === null && loading.run(); // loaded before the stream existed
    const onLeft = ({ reason }) => reason === "lease_expired" || leave(); // else the client joins again
    const handlers = { onEvent, onReady, onResync, onLeft, onError: refused };
    const workspace = client.subscribe(`workspace:${id}`, handlers, { cursor });
    const present = watchPresence(client, `workspace:${id}`);
    const own = client.subscribe(`user:${me.id}`, { onEvent: hearOwn, onResync }, { cursor, types: ["notification.new", "notification.read"] });
    const typing = watchTyping(client, `workspace:${id}/chat:${CHAT}`);
    const offs = [present.users.subscribe(draw), typing.users.subscribe(draw), client.on("role", onRole)];
    return {
      presence: present.users,
      typing,
      close() {
        for (const off of offs) off();
        shown.forgetStatus();
        if (shown.status !== "online") keepStatus(client, "online")(); // says it once
        present.close();
        typing.close();
        workspace.unsubscribe();
        own.unsubscribe();
      },
    };
  }

  function hearOwn(event, frame) {
    if (isContained(frame.offset, loadedUpTo)) return;
    room.apply(event);
    if (event.type === "notification.new") toasts.show(event.payload.title);
    draw();
  }

  function onRole({ root, role }) {
    if (root !== `workspace:${id}`) return;
    room.workspace = { ...room.workspace, role };
    closeDialogs();
    toasts.show(`You are now ${withArticle(role)} of ${room.workspace.name}.`);
    draw();
  }

  loading.run();
  return {
    close() {
      isLeft = true;
      loading.close();
      live?.close();
      closeDialogs();
    },
  };
}

/** The number of waiting approvals is in the title, so that it can be seen on the tab. */
function titleOf(room) {
  const waiting = room.sorted.pending.length;
  return waiting > 0 ? `(${waiting}) ${room.workspace.name}` : room.workspace.name;
}

function bodyOf(phase, { room, me, problem, shown, live }) {
  if (phase === "loading") return [h("p", { class: "quiet" }, "Loading…")];
  if (phase === "refused") return [refusal(me, { thing: "workspace", home: "My workspaces" })];
  if (phase === "failed") return [failure("The workspace could not be loaded", problem, tryNow())];
  const { status, notifications: isOpen, allDecided } = shown;
  return [
    headline(room, { me, presence: live?.presence.getSnapshot(), status, isOpen }),
    h(
      "div",
      { class: "columns" },
      h("div", { class: "column" }, isOpen && notificationPanel(room), approvalList(room, me, allDecided), agentPanel(room)),
      h("aside", { class: "column side" }, chatPanel(room, me, live?.typing.users.getSnapshot() ?? []), memberPanel(room, me)),
    ),
  ];
}

function actionsOf({ api, room, me, client, toasts, shown, draw, typing, find }) {
  const { id } = room;

  const send = async (draft) => {
    draft.problem = "";
    draw();
    try {
      const { thing } = await api.write(id, CHAT, draft.text, draft.key);
      room.drafts.delete(draft.id);
      room.putMessage(thing);
    } catch (error) {
      if (error.code === "signed_out") throw error;
      draft.problem = `Not sent. ${error.message}`;
    }
    draw();
  };

  return {
    requestApproval: () => {
      const once = new Once();
      const agents = [...room.agents.values()].map((agent) => ({ value: agent.agentId ?? agent.id, label: agent.name }));
      openForm({
        title: "Request an approval",
        submit: "Request",
        fields: [
          { name: "title", label: "What should be approved?", required: true, maxlength: 200 },
          { name: "detail", label: "Details", type: "textarea", maxlength: 10_000 },
          ...(agents.length > 0 ? [{ name: "agentId", label: "For an agent", type: "select", options: [{ value: null, label: "No" }, ...agents], value: null }] : []),
        ],
        onSubmit: async (values) => {
          room.putApproval((await api.requestApproval(id, values, once.keyFor(values))).thing);
          draw();
        },
      });
    },

    /** Shown immediately, and undone if it is refused: another user may have been faster. */
    decide: async ({ dataset }) => {
      const approval = room.approvals.get(dataset.id);
      const body = { status: dataset.status };
      if (!approval || room.decisions.has(approval.id)) return;
      room.decisions.set(approval.id, dataset.status);
      draw();
      focusNext();
      try {
        const key = new Once().keyFor({ ...body, at: approval.id });
        room.putApproval((await api.decide(id, approval.id, body, approval.revision, key)).thing);
      } catch (error) {
        const { current } = error.details ?? {};
        if (current) room.putApproval(current);
        const why = current ? tooLate(room, current, me) : `Your decision on ${approval.title} was undone. ${error.message}`;
        toasts.show(why, { kind: "bad", ms: 10_000 });
      } finally {
        room.decisions.delete(approval.id);
        draw();
      }
      const answered = room.unread.filter(({ link }) => link === approval.id && room.approvals.get(link)?.status !== "pending");
      await markRead(answered.map(({ id: each }) => each));
    },

    deleteApproval: ({ dataset }) => {
      const { title } = room.approvals.get(dataset.id);
      openQuestion({
        title: `Delete “${title}”?`,
        text: "The request disappears for everyone.",
        submit: "Delete",
        onSubmit: async () => {
          await api.deleteApproval(id, dataset.id);
          room.dropApproval(dataset.id);
          draw();
        },
      });
    },

    addAgent: () => {
      const once = new Once();
      openForm({
        title: "New agent",
        submit: "Add",
        fields: [{ name: "name", label: "Name", required: true, maxlength: 200 }],
        onSubmit: async (values) => {
          room.putAgent((await api.addAgent(id, values, once.keyFor(values))).thing);
          draw();
        },
      });
    },

    report: async (select) => {
      const agent = room.agents.get(select.dataset.id);
      room.agents.set(select.dataset.id, { ...agent, status: select.value, detail: "" });
      draw();
      try {
        room.putAgent((await api.report(id, select.dataset.id, { status: select.value })).thing);
      } catch (error) {
        room.agents.set(select.dataset.id, agent);
        toasts.show(`${agent.name} is still ${STATUSES[agent.status].toLowerCase()}. ${error.message}`, { kind: "bad" });
      }
      draw();
    },

    type: (input) => (input.value ? typing()?.type() : typing()?.stop()),
    write: async (form) => {
      const text = form.elements.text.value.trim();
      if (!text) return;
      form.reset();
      typing()?.stop();
      const draft = room.draft(text, new Once().keyFor({ text, at: Date.now() }));
      await send(draft);
    },
    retryMessage: ({ dataset }) => send(room.drafts.get(dataset.id)),
    dropMessage: ({ dataset }) => {
      room.drafts.delete(dataset.id);
      draw();
    },
    loadEarlier: async () => {
      const list = find("messages");
      const fromEnd = list.scrollHeight - list.scrollTop;
      await room.loadEarlier();
      draw();
      list.scrollTop = list.scrollHeight - fromEnd; // what the user reads stays where it is
    },

    setStatus: (select) => {
      shown.status = select.value;
      shown.forgetStatus();
      shown.forgetStatus = keepStatus(client, select.value);
      draw();
    },
    showAll: () => {
      shown.allDecided = true;
      draw();
    },
    toggleNotifications: () => {
      shown.notifications = !shown.notifications;
      draw();
    },
    showApproval: async ({ dataset }) => {
      shown.allDecided = true;
      draw();
      const card = find(dataset.id) ?? find(`${dataset.id}-settled`);
      card?.scrollIntoView({ block: "center" });
      card?.focus({ preventScroll: true });
      flash(card);
      await markRead([dataset.note]);
    },
    markRead: ({ dataset }) => markRead([dataset.id]),
    markAllRead: () => markRead(room.unread.map(({ id: each }) => each).slice(0, 50)),
  };

  /** The button that was pressed is gone: users of a keyboard go on with the next approval. */
  function focusNext() {
    const [next] = room.sorted.pending;
    (next ? find(next.id) : find("approvals-title"))?.focus({ preventScroll: true });
  }

  async function markRead(ids) {
    if (ids.length === 0) return;
    room.markRead(ids);
    draw();
    try {
      await api.markRead(ids);
    } catch (error) {
      room.markRead(ids, null);
      draw();
      throw error;
    }
  }
}

function tooLate(room, { title, status, decidedBy }, me) {
  if (status === "pending") return `${title} was changed in the meantime. Look at it again.`;
  return `${room.nameOf(decidedBy, me.id)} ${status} ${title} before you. The first decision counts.`;
}
