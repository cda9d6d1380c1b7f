/** One live workspace: what it shows, what a user can do, and what happens on events. */

import { keepStatus, watchTyping } from "../../../client/people.js";

import { openForm, openQuestion } from "../../../page/dialog.js";
import { flash, h } from "../../../page/dom.js";
import { LiveRoot } from "../../../page/live_root.js";
import { Once } from "../../../page/once.js";
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
  const { id, api, client, me, toasts, onError } = page;
  const room = new Room(api, id, () => draw(), () => live.load());
  const shown = { notifications: false, allDecided: false, status: "online" };
  /** Who types in the chat, once the workspace was joined. @type {ReturnType<typeof watchTyping> | undefined} */
  let typing;
  const live = new LiveRoot(page, "workspace", room, {
    showing: null, // no fields can be edited here
    draw: () => draw(),
    onOpen: (cursor) => {
      typing = watchTyping(client, `${live.room}/chat:${CHAT}`);
      typing.users.subscribe(draw);
      live.followAlso(`user:${me.id}`, hearOwn, cursor, ["notification.new", "notification.read"]);
    },
    onEvent: (event, frame) => onEvent(event, frame),
  });
  const screen = showScreen(host, {
    title: () => live.title(titleOf(room)),
    render: () => live.body(() => content({ room, me, shown, presence: live.presence, typing })),
    actions: {
      ...actionsOf({ api, room, me, client, toasts, shown, draw: () => draw(), typing: () => typing, find: (key) => screen.find(key) }),
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
    if (event.type === "chat.message" && event.payload.senderId === me.id) room.confirm(event.payload.text);
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

function content({ room, me, shown, presence, typing }) {
  const { status, notifications: isOpen, allDecided } = shown;
  return [
    headline(room, { me, presence, status, isOpen }),
    h(
      "div",
      { class: "columns" },
      h("div", { class: "column" }, isOpen && notificationPanel(room), approvalList(room, me, allDecided), agentPanel(room)),
      h("aside", { class: "column side" }, chatPanel(room, me, typing?.users.getSnapshot() ?? []), memberPanel(room, me)),
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
