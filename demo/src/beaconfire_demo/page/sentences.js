/** Texts that every application's page uses. */

export const ROLES = ["owner", "editor", "viewer"];

/** The time of day of an entry, for the feed. */
export function clockTime(date) {
  return new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(date);
}

/** The time of day of something that people wrote or decided. Of another day, with the date. @param {string} iso */
export function shortTime(iso) {
  const date = new Date(iso);
  const day = date.toDateString() === new Date().toDateString() ? {} : { day: "numeric", month: "short" };
  return new Intl.DateTimeFormat(undefined, { ...day, hour: "2-digit", minute: "2-digit" }).format(date);
}

export const capital = (text) => text[0].toUpperCase() + text.slice(1);

export function withArticle(role) {
  return `${/^[aeiou]/.test(role) ? "an" : "a"} ${role}`;
}

/** The value of a typed text: a number, true or false, otherwise the text. */
export function typed(text) {
  const trimmed = text.trim();
  if (trimmed === "true" || trimmed === "false") return trimmed === "true";
  return /^-?\d+(\.\d+)?$/.test(trimmed) ? Number(trimmed) : text;
}
