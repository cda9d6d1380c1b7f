/** The HTTP interfaces of auth and publisher, as one function per call. */

import { asSentence } from "./sentences.js";

/** How long an answer may take. The services give up sooner, so this is for answers that get lost. */
const TIMEOUT_MS = 20_000;
/**
 * When a refresh whose answer was lost is tried again: within the 10 s in which auth still accepts the used token. The last
 * try may be slow.
 */
const REFRESH_TIMEOUTS_MS = [4000, 4000, 12_000];
const REPEAT_PAUSE_MS = 300;

/** A call that was refused, or got no answer (`status` 0). The message may be shown to the user. */
export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} message @param {object} [details]  further fields */
  constructor(status, code, message, details = {}) {
    super(asSentence(message));
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
  const { code = "", message = `The service answered with status ${answer.status}.`, ...details } = document?.error ?? {};
  throw new ApiError(answer.status, code, message, details);
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

/** Calls of a signed-in user. If the token is refused, it is renewed, and the call is made again. */
export class Api {
  /** @param {{authUrl: string, publisherUrl: string}} config @param {import("./session.js").Session} session */
  constructor(config, session) {
    this.config = config;
    this.session = session;
  }

  campaigns = async () => (await this.#publisher("GET", "")).body.campaigns;
  createCampaign = async (body, key) => (await this.#publisher("POST", "", body, undefined, key)).body.campaign;
  campaign = async (id) => (await this.campaignAt(id)).campaign;
  /** With the cursor to continue from. Everything that is read afterwards contains at least as much. */
  campaignAt = async (id) => at(await this.#publisher("GET", `/${id}`));
  kingdoms = async (id) => (await this.#publisher("GET", `/${id}/kingdoms`)).body.kingdoms;
  settlements = async (id) => (await this.#publisher("GET", `/${id}/settlements`)).body.settlements;
  structures = async (id, settlement) =>
    (await this.#publisher("GET", `/${id}/settlements/${settlement}/structures`)).body.structures;
  entities = async (id) => (await this.#publisher("GET", `/${id}/entities`)).body.entities;

  // Changes. Each answer has its `mark`.

  updateCampaign = async (id, body, revision) => changed(await this.#publisher("PATCH", `/${id}`, body, revision));
  deleteCampaign = (id, revision) => this.#publisher("DELETE", `/${id}`, undefined, revision);
  advance = async (id, advanceSeconds) => {
    const { body, mark } = await this.#publisher("POST", `/${id}/world-time`, { advanceSeconds });
    return { thing: body.campaign, mark };
  };
  setClock = async (id, clock) => changed(await this.#publisher("PUT", `/${id}/clock`, clock));
  stopClock = (id) => this.#publisher("DELETE", `/${id}/clock`);

  /** The `{thing}` at a path below a campaign: `settlements/s1`, `settlements/s1/structures/t1`, `entities/location/l1`. */
  read = async (id, path) => changed(await this.#publisher("GET", `/${id}/${path}`)).thing;
  create = async (id, path, body, key) => changed(await this.#publisher("POST", `/${id}/${path}`, body, undefined, key));
  update = async (id, path, body, revision) => changed(await this.#publisher("PATCH", `/${id}/${path}`, body, revision));
  remove = (id, path, revision) => this.#publisher("DELETE", `/${id}/${path}`, undefined, revision);

  members = async (id) => (await this.#auth("GET", id)).body.members;
  addMember = (id, body) => this.#auth("POST", id, "", body);
  changeRole = (id, user, role) => this.#auth("PUT", id, `/${user}`, { role });
  removeMember = (id, user) => this.#auth("DELETE", id, `/${user}`);

  #publisher(method, path, body, revision, key) {
    return this.#call(method, `${this.config.publisherUrl}/v1/campaigns${path}`, { body, revision, key });
  }

  #auth(method, campaign, path = "", body = undefined) {
    return this.#call(method, `${this.config.authUrl}/auth/roots/campaign:${campaign}/members${path}`, { body });
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

/** The thing in an answer like `{settlement: {…}}`, with its mark. */
const changed = ({ body, mark }) => ({ thing: Object.values(body)[0], mark });
const at = ({ body, cursor }) => ({ campaign: body.campaign, cursor });
