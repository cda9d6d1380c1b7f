"""The errors of PROTOCOL.md §6.

Written by `make generate` from shared/src/beaconfire_kit/errors.py. Do not edit.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Retry = Literal["no", "token", "backoff"]
"""What a client does next."""


class ErrorRow(NamedTuple):
    """A row of the table. `close` is None if the error never closes a connection."""

    code: str
    status: int
    close: int | None
    retry: Retry
    meaning: str


ERRORS: Mapping[str, ErrorRow] = {
    row.code: row
    for row in (
        ErrorRow("bad_request", 400, 4400, "no", "Malformed; the message says which part"),
        ErrorRow("unknown_type", 400, None, "no", "No such type of message or event"),
        ErrorRow("bad_room", 400, None, "no", "Not a room's name"),
        ErrorRow("token_invalid", 401, 4401, "token", "Missing, invalid, expired or revoked token"),
        ErrorRow("bad_credentials", 401, None, "no", "Unknown e-mail address or wrong password"),
        ErrorRow("forbidden", 403, 4403, "no", "Not a member, role too low, or no such thing"),
        ErrorRow("not_found", 404, None, "no", "No such thing"),
        ErrorRow("timeout", 408, 4408, "backoff", "No `connect` in time"),
        ErrorRow("conflict", 409, None, "no", "The state of the thing does not allow it"),
        ErrorRow("too_large", 413, 4413, "no", "Frame or body over the limit"),
        ErrorRow("too_many", 429, 4429, "backoff", "Over a limit; `retryAfterMs` says when it resets"),
        ErrorRow("internal", 500, 4500, "backoff", "Unexpected error; the log has details under the id"),
        ErrorRow(
            "unavailable", 503, 4503, "backoff", "The service is stopping, or a part that it needs is not reachable"
        ),
        ErrorRow("broker_unavailable", 503, 4503, "backoff", "The message broker does not answer, but is needed"),
    )
}
