/** People: small pictures with their first letter, and who is here. */

import { h } from "../dom.js";

const TONES = 6;
/** How many pictures are shown beside one another. The rest is a number. */
const MOST = 6;

/** The picture of a user. @param {string} userId @param {string} name @param {string} [more]  further classes */
export function avatar(userId, name, more = "") {
  return h("span", { class: `avatar small ${toneOf(userId)} ${more}`.trim(), "aria-hidden": "true" }, name.slice(0, 1));
}

/** The same colour for a user everywhere. */
function toneOf(userId) {
  let sum = 0;
  for (const character of userId) sum = (sum * 31 + character.charCodeAt(0)) % 9973;
  return `tone-${sum % TONES}`;
}

/**
 * Who is in a room, as pictures and as a sentence for screen readers.
 * @param {{count: number, users: readonly {userId: string, status: string}[]} | undefined} presence
 * @param {import("../root_state.js").RootState} state @param {{id: string}} me @param {string} words  "Here now"
 */
export function presentPeople(presence, state, me, words) {
  const users = presence?.users ?? [];
  if (users.length === 0) return null;
  const nameOf = ({ userId, status }) => `${userId === me.id ? "you" : state.nameOf(userId)}${status === "online" ? "" : ` (${status})`}`;
  const all = [...users].sort((one, other) => Number(other.userId === me.id) - Number(one.userId === me.id));
  const more = presence.count - Math.min(MOST, all.length);
  const names = all.map(nameOf).join(", ");
  return h(
    "span",
    { class: "present", role: "group", "aria-label": `${words}: ${names}`, title: `${words}: ${names}` },
    h("span", { class: "present-words", "aria-hidden": "true" }, words),
    all.slice(0, MOST).map((user) =>
      h("span", { class: "present-user", "data-key": user.userId, "data-user": state.nameOf(user.userId) }, avatar(user.userId, state.nameOf(user.userId), `status-${user.status}`)),
    ),
    more > 0 && h("span", { class: "quiet" }, `+${more}`),
  );
}

/** "Editor is typing…" @param {readonly string[]} userIds @param {import("../root_state.js").RootState} state */
export function typingLine(userIds, state) {
  const names = userIds.map((id) => state.nameOf(id));
  const text = names.length === 0 ? "" : names.length === 1 ? `${names[0]} is typing…` : `${names.slice(0, 3).join(", ")} are typing…`;
  return h("p", { class: "typing", role: "status", "aria-live": "polite", "data-key": "typing" }, text);
}
