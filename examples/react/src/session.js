/** The signed-in user, and calls in their name. */

/** The people that `make up` creates. */
export const PEOPLE = ["Owner", "Editor", "Viewer"];
const PASSWORD = "beaconfire";

let session = null;
let renewal = null;

/** Sign in as one of the demo's people. Returns the user. */
export async function signIn(name) {
  session = await post("/auth/sign-in", { email: `${name.toLowerCase()}@demo.example`, password: PASSWORD });
  return session.user;
}

export function signOut() {
  const { refreshToken } = session;
  session = null;
  void post("/auth/sign-out", { refreshToken }).catch(() => {}); // the browser has forgotten it in any case
}

/** An access token for the connection. A new one, unless it is for the first connection. */
export async function getToken({ reason }) {
  if (session === null) throw Object.assign(new Error("You are signed out"), { retry: "no" });
  if (reason !== "connect") await renew();
  return session.accessToken;
}

/** Call the publisher. Resolves with the answer's body, and with the mark of a change for `seen`. A refusal has a `status`. */
export async function call(method, path, body, signal) {
  let answer = await send(method, path, body, signal);
  if (answer.status === 401) {
    await renew();
    answer = await send(method, path, body, signal);
  }
  const content = answer.status === 204 ? {} : await answer.json();
  if (!answer.ok) {
    const message = asSentence(content.error?.message ?? `the service answered ${answer.status}`);
    throw Object.assign(new Error(message), { status: answer.status });
  }
  return { ...content, mark: answer.headers.get("X-Beaconfire-Offset") ?? answer.headers.get("X-Beaconfire-Pending") };
}

/** What a service says begins in lower case. */
const asSentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

const send = (method, path, body, signal) =>
  fetch(`/v1${path}`, {
    method,
    signal,
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${session?.accessToken}` },
    body: body && JSON.stringify(body),
  });

/** Renew the tokens. Several callers share one renewal. */
async function renew() {
  if (session === null) throw Object.assign(new Error("You are signed out."), { status: 401 });
  renewal ??= post("/auth/refresh", { refreshToken: session.refreshToken }).finally(() => (renewal = null));
  const renewed = await renewal;
  if (session !== null) session = renewed;
}

async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (answer.status === 401) throw Object.assign(new Error("Please sign in again"), { retry: "no" });
  if (!answer.ok) throw new Error(`Auth answered ${answer.status}. Does "make up" run?`);
  return answer.status === 204 ? {} : answer.json();
}
