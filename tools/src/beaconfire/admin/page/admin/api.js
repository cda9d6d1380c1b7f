/** Calls the admin service. The token is in a header of each call, and there is no cookie. */

const KEY = "beaconfire-admin-token";
let token = sessionStorage.getItem(KEY) ?? "";

/** An answer of the service that is an error. Its message may be shown. */
export class Refused extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export const hasToken = () => token !== "";

/** Take the token from the address, where `beaconfire admin` puts it, and remove it there. */
export function takeTokenOfAddress() {
  const given = /^#token=([!-~]+)$/.exec(location.hash);
  if (!given) return;
  keepToken(given[1]);
  history.replaceState(null, "", "#/");
}

/** @param {string} text  Empty: sign out. The token lives as long as this tab. */
export function keepToken(text) {
  token = text;
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
}

/**
 * @param {string} path  below the service's API, with `{name: value}` as its query
 * @param {{query?: Record<string, string>, method?: string, body?: unknown}} [options]
 */
export async function call(path, { query = {}, method = "GET", body } = {}) {
  const answer = await send(path, { query, method, body });
  return answer.status === 204 ? null : answer.json();
}

/**
 * Call `onLine` with each line of JSON of a call that goes on. Returns when it has ended.
 * @param {string} path
 * @param {Record<string, string>} query
 * @param {AbortSignal} signal
 * @param {(line: any) => void} onLine
 */
export async function lines(path, query, signal, onLine) {
  const answer = await send(path, { query, signal });
  const reader = /** @type {ReadableStream} */ (answer.body).pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop() ?? "";
    for (const part of parts) onLine(part.trim() ? JSON.parse(part) : null);
  }
}

async function send(path, { query = {}, method = "GET", body = undefined, signal = undefined }) {
  const given = Object.entries(query).filter(([, value]) => value);
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  /** @type {Record<string, string>} */
  const headers = { Authorization: `Bearer ${token}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const text = body === undefined ? undefined : JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(`api/v1/admin/${path}${search}`, { method, headers, body: text, signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused("unreachable", "The admin service does not answer.");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Refused(said.error?.code ?? "", said.error?.message ?? `Refused with ${answer.status}.`);
}
