/** Calls over HTTP: to auth, and to an application's service. */

import { refusalSentence } from "./refusals.js";

/** How long an answer may take. The services give up sooner, so this is for answers that get lost. */
const TIMEOUT_MS = 20_000;
/**
 * When a refresh whose answer was lost is tried again: within the 10 s in which auth still accepts the used token. The last
 * try may be slow.
 */
const REFRESH_TIMEOUTS_MS = [4000, 4000, 12_000];
const REPEAT_PAUSE_MS = 300;

/** A call that was refused, or got no answer (`status` 0). The message is a sentence for the user. */
export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} message @param {object} [details]  further fields */
  constructor(status, code, message, details = {}) {
    super(message);
    this.details = details;
    this.status = status;
    this.code = code;
  }

  /** Whether the same call may succeed a moment later. A refused new token may be accepted once auth's keys are known. */
  get isPassing() {
    return this.isLost || this.status === 401 || this.status === 408 || this.status === 429;
  }

  /** Whether it is unknown if the call was carried out: no answer, or one from a proxy in front of a service that is away. */
  get isLost() {
    return this.status === 0 || this.status >= 500;
  }
}

/**
 * The answer of a service: its body, and its place in the stream.
 * @typedef {object} Answer
 * @property {any} body
 * @property {string | null} cursor  for a read: the body contains at least everything up to it
 * @property {string | null} mark  for a change: the offset or id of its event, for `client.seen`
 */

/**
 * @param {string} method @param {string | URL} url
 * @param {{body?: object, token?: string, revision?: number, key?: string, timeoutMs?: number, keepalive?: boolean}} [more]
 *   `revision`: the one that a change starts from; `key`: the same one for a repetition; `keepalive`: the window may close
 * @returns {Promise<Answer>}
 */
export async function request(method, url, { body, token, revision, key, timeoutMs = TIMEOUT_MS, keepalive = false } = {}) {
  const headers = new Headers();
  if (body) headers.set("Content-Type", "application/json");
  if (token) headers.set("Authorization", `Bearer ${token}`);
  if (revision) headers.set("If-Match", `"${revision}"`);
  if (key) headers.set("Idempotency-Key", key);
  const signal = AbortSignal.timeout(timeoutMs);
  let answer, text;
  try {
    answer = await fetch(url, { method, headers, body: body && JSON.stringify(body), cache: "no-store", keepalive, signal });
    text = await answer.text();
  } catch {
    if (!navigator.onLine) throw new ApiError(0, "unreachable", "You are offline. Try again when the connection is back.");
    const isChange = method !== "GET" && signal.aborted;
    const hint = isChange ? "It may have made the change anyway." : "Is it running?";
    throw new ApiError(0, "unreachable", `The service does not answer. ${hint}`);
  }
  const document = parsed(text);
  if (answer.ok) {
    if (document === undefined) throw new ApiError(0, "unreachable", "Something other than the service answered. Is the address correct?");
    const header = (name) => answer.headers.get(`X-Beaconfire-${name}`);
    return { body: document, cursor: header("Cursor"), mark: header("Offset") ?? header("Pending") };
  }
  throw refused(answer.status, document);
}

/** What a service refused. @param {Response} answer @returns {Promise<ApiError>} */
export const refusalOf = async (answer) => refused(answer.status, parsed(await answer.text().catch(() => "")));

/** @param {number} status @param {any} document  the body of the answer, if it is JSON */
function refused(status, document) {
  const { code = "", message, ...details } = document?.error ?? {};
  return new ApiError(status, code, refusalSentence({ status, code, message }), details);
}

/** Only the body of the answer. @param {Parameters<typeof request>} asked */
export const call = async (...asked) => (await request(...asked)).body;

/** Calls that need no access token. */
export class SignInApi {
  /** @param {string} url */
  constructor(url) {
    this.url = url;
  }

  signUp = (body) => call("POST", `${this.url}/auth/sign-up`, { body });
  signIn = (body) => call("POST", `${this.url}/auth/sign-in`, { body });
  /** Repeated after a lost answer: auth returns the same new token again. */
  refresh = (refreshToken) => repeated((timeoutMs) => call("POST", `${this.url}/auth/refresh`, { body: { refreshToken }, timeoutMs }));
  signOut = (refreshToken) =>
    repeated((timeoutMs) => call("POST", `${this.url}/auth/sign-out`, { body: { refreshToken }, timeoutMs, keepalive: true }));
}

/**
 * Calls of a signed-in user: to a domain service, and to auth about the members of its roots. If the token is refused, it is
 * renewed, and the call is made again.
 */
export class ServiceApi {
  /**
   * @param {string} serviceUrl  what the paths of its calls are put behind
   * @param {string} rootKind  like `campaign`
   * @param {{authUrl: string}} config @param {import("./session.js").Session} session
   */
  constructor(serviceUrl, rootKind, { authUrl }, session) {
    this.serviceUrl = serviceUrl;
    this.rootsUrl = `${authUrl}/auth/roots/${rootKind}:`;
    this.session = session;
  }

  members = async (id) => (await this.#auth("GET", id)).body.members;
  addMember = (id, body) => this.#auth("POST", id, "", body);
  changeRole = (id, user, role) => this.#auth("PUT", id, `/${user}`, { role });
  removeMember = (id, user) => this.#auth("DELETE", id, `/${user}`);

  /** The address of all roots, of one of them, or of a path below it. @param {string} [id] @param {string} [path] */
  urlOf(id = "", path = "") {
    return [this.serviceUrl, id, path].filter(Boolean).join("/");
  }

  /** @returns {Promise<Answer>} */
  send(method, path, body = undefined, revision = undefined, key = undefined) {
    return this.#call(method, `${this.serviceUrl}${path}`, { body, revision, key });
  }

  #auth(method, id, path = "", body = undefined) {
    return this.#call(method, `${this.rootsUrl}${id}/members${path}`, { body });
  }

  async #call(method, url, more) {
    const token = await this.session.token();
    try {
      return await request(method, url, { ...more, token });
    } catch (error) {
      if (error.status !== 401) throw error;
      return request(method, url, { ...more, token: await this.session.renewed(token) });
    }
  }
}

/** Make an idempotent call, and repeat it if its answer was lost. */
async function repeated(send) {
  for (const [number, timeoutMs] of REFRESH_TIMEOUTS_MS.entries()) {
    try {
      return await send(timeoutMs);
    } catch (error) {
      if (!error.isLost || number === REFRESH_TIMEOUTS_MS.length - 1) throw error;
      await new Promise((resolve) => setTimeout(resolve, REPEAT_PAUSE_MS));
    }
  }
}

/** The JSON of a body, `{}` without a body, or undefined if it is something else. */
function parsed(text) {
  if (text === "") return {};
  try {
    const document = JSON.parse(text);
    return document !== null && typeof document === "object" ? document : undefined;
  } catch {
    return undefined;
  }
}

/** The thing in an answer like `{settlement: {…}}`, with its mark. @param {Answer} answer */
export const changed = ({ body, mark }) => ({ thing: Object.values(body)[0], mark });
