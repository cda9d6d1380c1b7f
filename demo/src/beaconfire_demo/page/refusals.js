/** What a service refuses, as a sentence for people. Its own message is for programmers. */

/** What people can do something about, by the service's message. */
const KNOWN = [
  [/^unknown e-mail address or wrong password/, "Unknown e-mail address or wrong password."],
  [/^this e-mail address has an account/, "This e-mail address has an account already. Sign in instead."],
  [/^no user with this e-mail address/, "No user with this e-mail address has signed up."],
  [/^already a member/, "This user is a member already."],
  [/^the last owner must stay/, "The last owner must stay. Make another member an owner first."],
  [/^(\d+) clocks that you have set are running/, "You have set $1 clocks that are running. Stop one first."],
  [/^world time ends/, "World time ends with the year 9999."],
  [/^key: another team of this workspace has the key (.*)/, "Another team has the key $1. Choose another one."],
  [/^endsOn: /, "The end is before the start. Choose a later end."],
  [/^only its author may change a comment/, "Only its author may change a comment. Its author and owners may delete it."],
  [/^variables?\.([\w-]+): /, "The value of the variable “$1” does not fit. Check it, and save again."],
];
const BY_CODE = {
  token_invalid: "Your sign-in is no longer valid. Sign in again.",
  forbidden: "You may not do this. Your role may have changed.",
  not_found: "This is no longer there. Another user may have deleted it.",
  conflict: "This is not possible at the moment, because something has changed. Look at it again.",
  timeout: "The service took too long. Try again.",
  too_large: "This is too long. Shorten it, and try again.",
  too_many: "That was too much at once. Wait a moment, and try again.",
  internal: "Something went wrong on our side. Try again.",
  unavailable: "The service is not available at the moment. Try again in a moment.",
  broker_unavailable: "The service is not available at the moment. Try again in a moment.",
};
/** Of `bad_request`: the field that is wrong comes first. */
const FIELD = /^([a-z]\w*)(?:\.\S+)?: /i;

/**
 * @param {{status: number, code?: string, message?: string}} refusal  from a service, or from a proxy in front of it
 * @returns {string}
 */
export function refusalSentence({ status, code = "", message = "" }) {
  for (const [pattern, sentence] of KNOWN) if (pattern.test(message)) return message.match(pattern)[0].replace(pattern, sentence);
  if (BY_CODE[code]) return BY_CODE[code];
  const [, field] = message.match(FIELD) ?? [];
  if (status === 400) return field ? `The service does not accept this ${wordOf(field)}. Check it, and try again.` : "The service does not accept this. Check what you typed.";
  return status >= 500 ? BY_CODE.unavailable : "The service did not accept this. Reload the page, and try again.";
}

/** Why the connection ended for good. @param {{code: string, message: string}} error */
export function connectionSentence({ code, message }) {
  if (code === "unreachable") return message;
  return BY_CODE[code] ?? "The page could not connect. Reload it, and try again.";
}

/** `startsOn` → "starts on". @param {string} field */
const wordOf = (field) => field.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
