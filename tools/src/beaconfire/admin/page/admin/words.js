/** Numbers, times and sizes as people read them. */

/** @param {number} value */
export function number(value) {
  if (value >= 1_000_000) return `${(value / 1_000_000).toFixed(1)}M`;
  if (value >= 10_000) return `${(value / 1_000).toFixed(1)}k`;
  if (value >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value >= 10 ? value.toFixed(0) : value.toFixed(1);
}

/** @param {number} value */
export const whole = (value) => value.toLocaleString("en");

/** `1 event`, `2 events` @param {number} count @param {string} noun */
export const some = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;

/** @param {number} seconds */
export function span(seconds) {
  if (seconds < 1) return "under 1 s";
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** @param {number} bytes */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 ** 2) return `${(bytes / 1024).toFixed(1)} KiB`;
  if (bytes < 1024 ** 3) return `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
}

/** @param {string | number | null} time  ISO 8601, or Unix seconds */
export function moment(time) {
  if (time === null || time === undefined) return "–";
  const date = new Date(typeof time === "number" ? time * 1000 : time);
  return date.toISOString().slice(0, 19).replace("T", " ");
}

/** @param {string} time */
export const clock = (time) => new Date(time).toISOString().slice(11, 23);
