/** The chat: messages, those that are not sent yet, and who is typing. */

import { h, icon } from "../../../page/dom.js";
import { shortTime } from "../../../page/sentences.js";
import { note } from "../../../page/views/waiting.js";

/**
 * @param {import("../room.js").Room} room @param {{id: string}} me @param {readonly string[]} typing  ids of users
 * @param {import("../../../page/outgoing.js").Unconfirmed[]} sending
 */
export function chatPanel(room, me, typing, sending) {
  const messages = [...room.messages.values()];
  return h(
    "section",
    { class: "card panel chat", "aria-labelledby": "chat-title", "data-key": "chat" },
    h("div", { class: "section-head" }, h("h2", { id: "chat-title" }, "Chat")),
    h(
      "div",
      { class: "messages", "data-key": "messages", tabindex: 0, "aria-label": "Messages", role: "log", "aria-live": "polite" },
      room.hasEarlier && h("button", { type: "button", class: "plain small", "data-action": "loadEarlier", "data-key": "earlier" }, "Earlier messages"),
      messages.length + sending.length + room.refused.size === 0 && h("p", { class: "quiet", "data-key": "no-messages" }, "Say hello. Everyone in the workspace can write here."),
      messages.map((each) => bubble(each, room, me)),
      sending.map(unsent),
      [...room.refused.values()].map(refused),
    ),
    h("p", { class: "typing quiet", role: "status" }, sentence(typing, room, me)),
    h(
      "form",
      { class: "chat-form", "data-submit": "write" },
      h("input", { name: "text", "data-input": "type", "aria-label": "Message", placeholder: "Write a message", maxlength: 4000, autocomplete: "off", required: true }),
      h("button", { class: "primary", "aria-label": "Send" }, icon("send")),
    ),
  );
}

function bubble({ id, senderId, text, createdAt }, room, me) {
  const isMine = senderId === me.id;
  return h(
    "div",
    { class: `message${isMine ? " mine" : ""}${room.arrived.has(id) ? " arrived" : ""}`, "data-key": id },
    h("span", { class: "message-head" }, h("strong", {}, room.nameOf(senderId, me.id)), " ", h("time", { class: "quiet", datetime: createdAt }, shortTime(createdAt))),
    h("p", {}, text),
  );
}

function unsent(change) {
  const { place, thing, changes, isHeld } = change;
  return h(
    "div",
    { class: "message mine draft", "data-key": thing, "aria-busy": "true" },
    h("p", {}, changes.text),
    isHeld ? note(change, "Waits to be sent", changes.text) : h("span", { class: "quiet", "data-key": `sending-${place}` }, "Sending…"),
  );
}

function refused({ id, text, problem }) {
  const button = (action, words) => h("button", { type: "button", class: "link small", "data-action": action, "data-id": id }, words);
  return h(
    "div",
    { class: "message mine draft", "data-key": id },
    h("p", {}, text),
    h("span", { class: "draft-foot", role: "alert" }, `Not sent. ${problem}`, button("retryMessage", "Send again"), button("dropMessage", "Discard")),
  );
}

function sentence(typing, room, me) {
  const names = typing.filter((userId) => userId !== me.id).map((userId) => room.nameOf(userId, me.id));
  if (names.length === 0) return "";
  if (names.length === 1) return `${names[0]} is typing…`;
  return names.length < 4 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)} are typing…` : "Several people are typing…";
}
