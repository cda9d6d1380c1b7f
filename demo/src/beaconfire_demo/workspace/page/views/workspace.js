/** One live workspace: what it shows, what a user can do, and what happens on events. */

import { keepStatus, watchTyping } from "../../../client/people.js";

import { applied } from "../../../page/changes.js";
import { openQuestion } from "../../../page/dialog.js";
import { flash, h } from "../../../page/dom.js";
import { Edits } from "../../../page/edits.js";
import { openSent } from "../../../page/forms.js";
import { LiveRoot } from "../../../page/live_root.js";
import { showScreen } from "../../../page/screen.js";
import { memberActions, memberPanel } from "../../../page/views/members.js";
import { CHAT, Room } from "../room.js";
import { newsOf } from "../news.js";
import { agentPanel, STATUSES } from "./agents.js";
import { approvalList } from "./approvals.js";
import { chatPanel } from "./chat.js";
import { headline } from "./headline.js";
import { notificationPanel } from "./notifications.js";

/**
 * @param {HTMLElement} host
 * @param {import("../../../page/live_root.js").RootPage & {api: import("../api.js").Api, onError: (error: Error) => void}} page
 */
export function workspaceView(host, page) {
  const { id, api, client, outgoing, me, toasts, onError } = page;
  const room = new Room(api, id, () => draw(), () => live.load());
  const edits = new Edits({ client, outgoing, url: api.urlOf(id), onChange: () => live.phase === "open" && draw(), apply });
  const shown = { notifications: false, allDecided: false, status: "online" };
  /** Who types in the chat, once the workspace was joined. @type {ReturnType<typeof watchTyping> | undefined} */
  let typing;
  const live = new LiveRoot(page, "workspace", room, {
    showing: showingOf({ api, room, me }),
    draw: () => draw(),
    onOpen: (cursor) => {
      typing = watchTyping(client, `${live.room}/chat:${CHAT}`);
      typing.users.subscribe(draw);
      live.followAlso(`user:${me.id}`, hearOwn, cursor, ["notification.new", "notification.read"]);
    },
    onEvent: (event, frame) => onEvent(event, frame),
  });
  /** The room with all unconfirmed changes. */
  const shownRoom = () => edits.shown(room, { approvals: "approval", agents: "agent" });
  const screen = showScreen(host, {
    title: () => live.title(titleOf(shownRoom())),
    render: () => live.body(() => content({ room: shownRoom(), messages: edits.added("message"), me, shown, presence: live.presence, typing })),
    actions: {
      ...actionsOf({ api, room, edits, outgoing, client, shown, isLeft: () => live.isLeft, draw: () => draw(), typing: () => typing, find: (key) => screen.find(key) }),
      ...memberActions({ id, api, world: room, thing: "workspace", reload: () => room.loadMembers() }),
      ...live.actions,
    },
    onError,
  });
  /** Draw, and keep the chat at its end if the user reads there. */
  const draw = () => {
    if (live.isLeft) return;
    const before = screen.find("messages");
    const isAtEnd = !before || before.scrollHeight - before.scrollTop - before.clientHeight < 40;
    screen.draw();
    const after = screen.find("messages");
    if (isAtEnd && after) after.scrollTop = after.scrollHeight;
  };

  const onEvent = async (event, frame) => {
    if (event.type === "member_changed") return void (await room.loadMembers());
    const news = newsOf(event, room);
    if (live.contains(frame)) return news;
    room.apply(event);
    draw();
    if (event.type === "agent.status.changed") flash(screen.find(`${event.payload.agentId}-words`));
    return news;
  };

  function hearOwn(event, frame) {
    if (live.contains(frame)) return;
    room.apply(event);
    if (event.type === "notification.new") toasts.show(event.payload.title);
    draw();
  }

  live.load();
  return {
    close() {
      live.close();
      edits.close();
      if (shown.status !== "online") keepStatus(client, "online");
      typing?.close();
    },
  };
}

/** The number of waiting approvals is in the title, so that it can be seen on the tab. */
function titleOf(room) {
  const waiting = room.sorted.pending.length;
  return waiting > 0 ? `(${waiting}) ${room.root?.name}` : room.root?.name;
}

function content({ room, messages, me, shown, presence, typing }) {
  const { status, notifications: isOpen, allDecided } = shown;
  return [
    headline(room, { me, presence, status, isOpen }),
    h(
      "div",
      { class: "columns" },
      h("div", { class: "column" }, isOpen && notificationPanel(room), approvalList(room, me, allDecided), agentPanel(room)),
      h("aside", { class: "column side" }, chatPanel(room, me, typing?.users.getSnapshot() ?? [], messages), memberPanel(room, me)),
    ),
  ];
}

/** A decision is shown unless another user was faster. @param {any} thing @param {import("../../../page/outgoing.js").Unconfirmed} change */
function apply(thing, { kind, changes }) {
  return kind === "approval" && thing.status !== "pending" ? thing : applied(thing, changes);
}

/** @returns {import("../../../page/outgoing.js").Showing} */
function showingOf({ api, room, me }) {
  return {
    url: api.urlOf(room.id),
    fieldWord: (field) => field,
    valueWord: (_, value) => String(value ?? "none"),
    put: (kind, thing) => room.put(kind, thing),
    drop: (kind, thing) => kind === "approval" && room.dropApproval(thing),
    undone: (change, error) => undone(change, error, room, me),
    onRefused: ({ kind, changes }, { message }) => {
      if (kind !== "message") return false;
      room.refuse(changes.text, message); // so that the text is not lost
      return true;
    },
  };
}

function actionsOf({ api, room, edits, outgoing, client, shown, isLeft, draw, typing, find }) {
  const { id } = room;
  const post = (kind, path, body) => outgoing.make({ method: "POST", kind, url: api.urlOf(id, path), body });
  const write = (text) => void post("message", `chats/${CHAT}/messages`, { text });

  return {
    requestApproval: () => {
      const agents = [...room.agents.values()].map((agent) => ({ value: agent.agentId ?? agent.id, label: agent.name }));
      const forAgent = { name: "agentId", label: "For an agent", type: "select", options: [{ value: null, label: "No" }, ...agents] };
      openSent({
        title: "Request an approval",
        submit: "Request",
        fields: (values) => [
          { name: "title", label: "What should be approved?", required: true, maxlength: 200, value: values?.title },
          { name: "detail", label: "Details", type: "textarea", maxlength: 10_000, value: values?.detail },
          ...(agents.length > 0 ? [{ ...forAgent, value: values?.agentId ?? null }] : []),
        ],
        send: (values) => post("approval", "approvals", values),
        isLeft,
      });
    },

    /** Shown immediately, and undone if it is refused: another user may have been faster. */
    decide: async ({ dataset }) => {
      const approval = room.approvals.get(dataset.id);
      if (!approval || edits.over(approval).status !== "pending") return;
      const made = outgoing.make({
        method: "POST",
        kind: "approval",
        id: approval.id,
        url: api.urlOf(id, `approvals/${approval.id}/decision`),
        body: { status: dataset.status },
        revision: approval.revision,
      });
      focusNext();
      await made;
      const answered = room.unread.filter(({ link }) => link === approval.id && room.approvals.get(link)?.status !== "pending");
      await markRead(answered.map(({ id: each }) => each));
    },

    deleteApproval: ({ dataset }) => {
      const { title, revision } = room.approvals.get(dataset.id);
      openQuestion({
        title: `Delete “${title}”?`,
        text: "The request disappears for everyone.",
        submit: "Delete",
        onSubmit: () =>
          void outgoing.make({ method: "DELETE", kind: "approval", id: dataset.id, url: api.urlOf(id, `approvals/${dataset.id}`), revision }),
      });
    },

    addAgent: () =>
      openSent({
        title: "New agent",
        submit: "Add",
        fields: (values) => [{ name: "name", label: "Name", required: true, maxlength: 200, value: values?.name }],
        send: (values) => post("agent", "agents", values),
        isLeft,
      }),

    report: ({ dataset, value }) =>
      void outgoing.make({
        method: "PUT",
        kind: "agent",
        id: dataset.id,
        url: api.urlOf(id, `agents/${dataset.id}/status`),
        body: { status: value, detail: "" },
      }),

    type: (input) => (input.value ? typing()?.type() : typing()?.stop()),
    write: (form) => {
      const text = form.elements.text.value.trim();
      if (!text) return;
      form.reset();
      typing()?.stop();
      write(text);
    },
    retryMessage: ({ dataset }) => {
      const { text } = room.refused.get(dataset.id);
      room.refused.delete(dataset.id);
      write(text);
    },
    dropMessage: ({ dataset }) => {
      room.refused.delete(dataset.id);
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
      keepStatus(client, select.value);
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
    const next = room.sorted.pending.find((one) => edits.over(one).status === "pending");
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

/** What happened to a change that was refused. */
function undone({ kind, thing, method, isNew, changes }, error, room, me) {
  if (isNew) return `${changes.title ?? changes.name} was not ${kind === "agent" ? "added" : "requested"}. ${error.message}`;
  if (kind === "agent") {
    const agent = room.agents.get(thing);
    return agent ? `${agent.name} is still ${STATUSES[agent.status].toLowerCase()}. ${error.message}` : error.message;
  }
  const title = room.approvals.get(thing)?.title ?? "the request";
  if (method === "DELETE") return `“${title}” was not deleted. ${error.message}`;
  const { current } = error.details;
  return current ? tooLate(room, current, me) : `Your decision on ${title} was undone. ${error.message}`;
}

function tooLate(room, { title, status, decidedBy }, me) {
  if (status === "pending") return `${title} was changed in the meantime. Look at it again.`;
  return `${room.nameOf(decidedBy, me.id)} ${status} ${title} before you. The first decision counts.`;
}
