"""The two questions services ask auth over the broker, and how they ask: `auth.authorize` and `auth.grant`.

Both always answer a request that names an inbox, with `error` if something is wrong: a handler that only raised would
leave the caller waiting for its whole timeout. A caller without an answer fails closed (AuthUnavailable is retryable).

Whatever changes something needs a proof besides a broker password: a grant a service token, a new user of an outside
issuer that issuer's token.
"""

from collections.abc import Sequence
from typing import TypeVar

import nats.errors
from nats.aio.client import Client
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from shared import errors
from shared.catalogue import Id
from shared.errors import TABLE, BeaconfireError
from shared.roles import Role
from shared.tokens import MAX_TOKEN_BYTES, Claims

AUTHORIZE = "auth.authorize"
GRANT = "auth.grant"
QUEUE = "auth-workers"
TIMEOUT_S = 2.0
MAX_ROOMS = 1_000
"""Rooms in one question."""

INBOXES = ("_INBOX.", "_INBOX_")
"""How the subjects begin to which auth sends answers. An answer elsewhere could be stored in the stream as an event."""

R = TypeVar("R", bound="_Reply")


class _Wire(BaseModel):
    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )


class WireError(_Wire):
    """An error of `shared.errors`, as it travels in a reply."""

    code: str
    message: str


class _Reply(_Wire):
    error: WireError | None = None


class Newcomer(_Wire):
    """A user of an outside issuer whom auth may not know yet. Auth verifies the token itself."""

    token: str = Field(default="", max_length=MAX_TOKEN_BYTES, repr=False)


class AuthorizeRequest(_Wire):
    """May this user see these rooms? Or, with `service_token`: is this service's token still good?"""

    user_id: Id
    rooms: tuple[str, ...] = Field(default=(), max_length=MAX_ROOMS)
    issued_at: int | None = None
    """Unix seconds of the caller's token, to be told whether it was revoked since."""
    roots_of: Id | None = None
    """Also name the user's roots of this kind (`campaign`), as `campaign:c1`."""
    newcomer: Newcomer | None = None
    """Set where the caller's token is an outside issuer's: auth makes such a user when it first hears of them."""
    service_token: Id | None = None
    """The `jti` of a service's token; `user_id` is the service's name. The answer is `revoked`, and no room."""
    after: int | None = None
    """An offset the parent projection must have reached; waited for up to 1 s."""


def question(claims: Claims, rooms: Sequence[str] = (), *, roots_of: str | None = None) -> AuthorizeRequest:
    """What to ask auth about a user with a verified token: whether it was revoked, and about rooms."""
    return AuthorizeRequest(
        user_id=claims.user_id,
        rooms=tuple(rooms),
        issued_at=claims.issued_at,
        roots_of=roots_of,
        newcomer=Newcomer(token=claims.token) if claims.outside else None,
    )


class RoomDecision(_Wire):
    """The answer for one room: `root` and `role` are set where it is allowed. A room that does not exist, is malformed
    or belongs to others is answered alike."""

    allowed: bool
    root: str | None = None
    role: Role | None = None
    ambiguous: tuple[str, ...] | None = None
    """Set where a bare name means a room in several of the user's roots: their long forms, of which to ask for one."""


class AuthorizeReply(_Reply):
    """An answer for each room asked, by the name it was asked with.

    `version` is auth's count of membership changes: a `member_changed` with a higher one is newer than this answer.
    """

    version: int = 0
    revoked: bool = False
    rooms: dict[str, RoomDecision] = {}
    roots: dict[str, Role] = {}


class GrantRequest(_Wire):
    """Make a user a member of a root, or change its role. Idempotent."""

    root: str
    user_id: Id
    role: Role
    service_token: str = Field(default="", max_length=MAX_TOKEN_BYTES, repr=False)
    """One of auth's BEACONFIRE_GRANT_TOKENS, or an issued service token that names `<kind of root>.*.member.*`."""
    founding: bool = False
    """Only as the first member of a root that has none. If it has members, nothing is changed: granted if the user has
    this role among them, else `conflict`."""


class GrantReply(_Reply):
    """`version` is auth's count of membership changes after the grant."""

    version: int = 0


class AuthUnavailable(BeaconfireError):
    """Auth did not answer: nothing is decided, try again."""

    def __init__(self) -> None:
        super().__init__(
            errors.UNAVAILABLE, "the authorization service does not answer, try again", retry_after_ms=1000
        )


async def authorize(nc: Client, request: AuthorizeRequest, *, timeout_s: float = TIMEOUT_S) -> AuthorizeReply:
    """Ask auth. Raises AuthUnavailable without an answer in `timeout_s` seconds, BeaconfireError for a refusal."""
    return await _ask(nc, AUTHORIZE, request, AuthorizeReply, timeout_s)


async def grant(nc: Client, request: GrantRequest, *, timeout_s: float = TIMEOUT_S) -> GrantReply:
    """Grant a role. Raises as `authorize` does."""
    return await _ask(nc, GRANT, request, GrantReply, timeout_s)


async def _ask(nc: Client, subject: str, request: _Wire, reply: type[R], timeout_s: float) -> R:
    try:
        message = await nc.request(subject, request.model_dump_json(exclude_none=True).encode(), timeout=timeout_s)
        answer = reply.model_validate_json(message.data)
    except (nats.errors.Error, ValidationError) as error:
        raise AuthUnavailable from error
    if answer.error is not None:
        known = next((row for row in TABLE if row.code == answer.error.code), errors.INTERNAL)
        raise BeaconfireError(known, answer.error.message)
    return answer
