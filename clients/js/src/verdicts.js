// Written by `make generate` from shared/src/beaconfire_kit/errors.py. Do not edit.

/**
 * For each error code, what to do next and, if the error can close a connection, the close code (PROTOCOL.md §6).
 * An error that is not here is not worth trying again, and closes no connection.
 * @type {Readonly<Record<string, readonly ["no" | "token" | "backoff", number?]>>}
 */
export const VERDICTS = {
  bad_request: ["no", 4400],
  token_invalid: ["token", 4401],
  forbidden: ["no", 4403],
  timeout: ["backoff", 4408],
  too_large: ["no", 4413],
  too_many: ["backoff", 4429],
  internal: ["backoff", 4500],
  unavailable: ["backoff", 4503],
  broker_unavailable: ["backoff", 4503],
};
