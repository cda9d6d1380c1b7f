// Written by `make generate` from shared/src/beaconfire_kit/errors.py. Do not edit.

/**
 * @typedef {object} ErrorRow
 * @property {number} status  the HTTP status
 * @property {"no" | "token" | "backoff"} retry  what to do next (PROTOCOL.md §6)
 * @property {number | null} close  the close code; null if the error never closes a connection
 * @property {string} meaning
 */

/** @type {Readonly<Record<string, ErrorRow>>} */
export const ERRORS = Object.freeze({
  bad_request: { status: 400, retry: "no", close: 4400, meaning: "Malformed; the message says which part" },
  unknown_type: { status: 400, retry: "no", close: null, meaning: "No such type of message or event" },
  bad_room: { status: 400, retry: "no", close: null, meaning: "Not a room's name" },
  token_invalid: { status: 401, retry: "token", close: 4401, meaning: "Missing, invalid, expired or revoked token" },
  bad_credentials: { status: 401, retry: "no", close: null, meaning: "Unknown e-mail address or wrong password" },
  forbidden: { status: 403, retry: "no", close: 4403, meaning: "Not a member, role too low, or no such thing" },
  not_found: { status: 404, retry: "no", close: null, meaning: "No such thing" },
  timeout: { status: 408, retry: "backoff", close: 4408, meaning: "No `connect` in time" },
  conflict: { status: 409, retry: "no", close: null, meaning: "The state of the thing does not allow it" },
  too_large: { status: 413, retry: "no", close: 4413, meaning: "Frame or body over the limit" },
  too_many: { status: 429, retry: "backoff", close: 4429, meaning: "Over a limit; `retryAfterMs` says when it resets" },
  internal: { status: 500, retry: "backoff", close: 4500, meaning: "Unexpected error; the log has details under the id" },
  unavailable: { status: 503, retry: "backoff", close: 4503, meaning: "The service is stopping, or a part that it needs is not reachable" },
  broker_unavailable: { status: 503, retry: "backoff", close: 4503, meaning: "The message broker does not answer, but is needed" },
});
