"""The one error table: code · meaning · retry · HTTP status · close code.

Close codes are 4000 + the HTTP status. A client does not interpret a code, it looks up `retry`. PROTOCOL.md §6 and
`clients/js/src/errors.js` and `verdicts.js` are generated from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Retry(StrEnum):
    """The peer's next step after an error."""

    NO = "no"
    TOKEN = "token"  # noqa: S105  (a word, not a secret)
    BACKOFF = "backoff"


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """A row of the table. `close` is None if the error never ends a connection."""

    code: str
    status: int
    retry: Retry
    meaning: str
    closes: bool = False

    @property
    def close(self) -> int | None:
        return 4000 + self.status if self.closes else None


BAD_REQUEST = ErrorCode("bad_request", 400, Retry.NO, "Malformed; the message says which part", closes=True)
UNKNOWN_TYPE = ErrorCode("unknown_type", 400, Retry.NO, "No such type of message or event")
BAD_ROOM = ErrorCode("bad_room", 400, Retry.NO, "Not a room's name")
TOKEN_INVALID = ErrorCode("token_invalid", 401, Retry.TOKEN, "Missing, invalid, expired or revoked token", closes=True)
BAD_CREDENTIALS = ErrorCode("bad_credentials", 401, Retry.NO, "Unknown e-mail address or wrong password")
FORBIDDEN = ErrorCode("forbidden", 403, Retry.NO, "Not a member, role too low, or no such thing", closes=True)
NOT_FOUND = ErrorCode("not_found", 404, Retry.NO, "No such thing")
TIMEOUT = ErrorCode("timeout", 408, Retry.BACKOFF, "No `connect` in time", closes=True)
CONFLICT = ErrorCode("conflict", 409, Retry.NO, "The state of the thing does not allow it")
TOO_LARGE = ErrorCode("too_large", 413, Retry.NO, "Frame or body over the limit", closes=True)
TOO_MANY = ErrorCode("too_many", 429, Retry.BACKOFF, "Over a limit; `retryAfterMs` says when it resets", closes=True)
INTERNAL = ErrorCode("internal", 500, Retry.BACKOFF, "Unexpected error; the log has details under the id", closes=True)
UNAVAILABLE = ErrorCode(
    "unavailable", 503, Retry.BACKOFF, "The service is stopping, or a part that it needs is not reachable", closes=True
)
BROKER_UNAVAILABLE = ErrorCode(
    "broker_unavailable", 503, Retry.BACKOFF, "The message broker does not answer, but is needed", closes=True
)

TABLE = (
    BAD_REQUEST,
    UNKNOWN_TYPE,
    BAD_ROOM,
    TOKEN_INVALID,
    BAD_CREDENTIALS,
    FORBIDDEN,
    NOT_FOUND,
    TIMEOUT,
    CONFLICT,
    TOO_LARGE,
    TOO_MANY,
    INTERNAL,
    UNAVAILABLE,
    BROKER_UNAVAILABLE,
)


def row_of(code: str, otherwise: ErrorCode) -> ErrorCode:
    """Return the row of a code, or `otherwise` for an unknown code, such as one of a newer version."""
    return next((row for row in TABLE if row.code == code), otherwise)


class BeaconfireError(Exception):
    """An error with a row of the table. The message may be shown to the peer: it names what the *peer* did wrong."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        retry_after_ms: int | None = None,
        details: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`details` are more fields of the error, for the peer's program. `headers` are sent with an HTTP answer."""
        super().__init__(message)
        self.details = details or {}
        self.headers = headers or {}
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms

    @property
    def close_code(self) -> int:
        """The close code of a connection that ends because of it, even if its row has none."""
        return self.code.close or 4000 + self.code.status

    def body(self) -> dict[str, object]:
        """Return the error as it appears in a reply, an `error` message or an HTTP answer."""
        body: dict[str, object] = {"code": self.code.code, "message": self.message}
        if self.retry_after_ms is not None:
            body["retryAfterMs"] = self.retry_after_ms
        return {**body, **self.details}


def internal(id_: str) -> BeaconfireError:
    """An unexpected error in a service. The trace is in the log, under the id that the peer is asked to quote."""
    return BeaconfireError(INTERNAL, f"something went wrong on our side; quote {id_}")
