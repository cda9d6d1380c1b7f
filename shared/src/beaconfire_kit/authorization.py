"""Ask auth over the broker, or answer for it: `auth.authorize` (may a user do this?) and `auth.grant` (make a member).

Both always answer a request that names an inbox, with `error` if something is wrong. A handler that only raised would
leave the caller waiting for its whole timeout. A caller without an answer refuses (AuthUnavailable is retryable).

A request that changes something needs a proof besides a broker password. A grant needs a service token. A new user of
an outside issuer needs that issuer's token.

While the broker is away, `Auth` asks `auth.authorize` over HTTP, in the name of the user who made the request:

    auth = Auth(http, settings.auth_at)
    offer(claims, bearer_token(request))                 # verified by then
    reply = await auth.authorize(question(claims, ["campaign:c1"]))
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Annotated, NamedTuple, TypeVar

import aiohttp
import nats.errors
from nats.aio.client import Client
from pydantic import ConfigDict, Field, ValidationError

from beaconfire_kit import broker, errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.event import Id
from beaconfire_kit.fetching import FetchFailed, post
from beaconfire_kit.models import CamelModel
from beaconfire_kit.outside_tokens import OutsideClaims
from beaconfire_kit.roles import Role
from beaconfire_kit.seams.nats_connection import Connection
from beaconfire_kit.tokens import MAX_TOKEN_BYTES, Claims, ServiceClaims
from beaconfire_kit.web import WHOLE

AUTHORIZE = "auth.authorize"
GRANT = "auth.grant"
QUEUE = "auth-workers"
HTTP_PATH = "/auth/authorize"
TIMEOUT_S = 2.0
MAX_ROOMS = 1_000
"""Rooms in one question."""
PATIENCE_S = 0.5
"""If no answer has come by then, the broker is asked for a sign of life."""
WATCH_EVERY_S = 1.0
WATCH_AWAY_EVERY_S = 0.2
WATCH_TIMEOUT_S = 1.0
MAX_ANSWER_BYTES = 1024 * 1024
_GONE = (
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionReconnectingError,
    nats.errors.OutboundBufferLimitError,
    nats.errors.StaleConnectionError,
)

R = TypeVar("R", bound="_Reply")


class WireError(CamelModel):
    """An error of `beaconfire_kit.errors`, as it travels in a reply."""

    code: str
    message: str


class _Reply(CamelModel):
    error: WireError | None = None


class Newcomer(CamelModel):
    """A user of an outside issuer, perhaps still unknown to auth. Auth verifies the token itself."""

    token: str = Field(default="", max_length=MAX_TOKEN_BYTES, repr=False)


class AuthorizeRequest(CamelModel):
    """May this user see these rooms? Or, with `service_token`: is this service's token still good?"""

    user_id: Id
    rooms: tuple[str, ...] = Field(default=(), max_length=MAX_ROOMS)
    issued_at: int | None = None
    """Unix seconds of the caller's token, to learn whether it has been revoked since."""
    roots_of: Id | None = None
    """Also name the user's roots of this kind (`campaign`), as `campaign:c1`."""
    newcomer: Newcomer | None = None
    """Set if the caller's token is an outside issuer's. Auth creates the user when it first hears of them, and reads
    the token's grants."""
    service_token: Id | None = None
    """The `jti` of a service's token; `user_id` is the service's name. The answer is `revoked`, and no room."""
    after: int | None = None
    """An offset the parent projection must have reached; waited for up to 1 s."""


def question(claims: Claims, rooms: Sequence[str] = (), *, roots_of: str | None = None) -> AuthorizeRequest:
    """Return the request that asks auth about a verified token: whether it was revoked, and about rooms."""
    return AuthorizeRequest(
        user_id=claims.user_id,
        rooms=tuple(rooms),
        issued_at=claims.issued_at,
        roots_of=roots_of,
        newcomer=Newcomer(token=claims.token) if isinstance(claims, OutsideClaims) else None,
    )


class RoomDecision(CamelModel):
    """The answer for one room: `root` and `role` are set if it is allowed. A room that does not exist and a room of
    other users are answered alike."""

    allowed: bool
    root: str | None = None
    role: Role | None = None
    ambiguous: tuple[str, ...] | None = None
    """Set if a bare name means a room in several of the user's roots: their long forms, of which to ask for one."""
    unavailable: bool | None = None
    """Set if there is no decision now, because the root's authorizer does not answer. Ask again."""
    impossible: str | None = None
    """Set if the catalogue has no such room, whoever asks: a sentence that says why."""


class AuthorizeReply(_Reply):
    """An answer for each room asked, by the name it was asked with.

    `version` is auth's count of membership changes: a `member_changed` with a higher one is newer than this answer.
    """

    version: int = 0
    revoked: bool = False
    rooms: Mapping[str, RoomDecision] = Field(default_factory=dict)
    roots: Mapping[str, Role] = Field(default_factory=dict)


class GrantRequest(CamelModel):
    """Make a user a member of a root, or change its role. Idempotent."""

    root: str
    user_id: Id
    role: Role
    service_token: str = Field(default="", max_length=MAX_TOKEN_BYTES, repr=False)
    """One of auth's BEACONFIRE_GRANT_TOKENS, or an issued service token that names `<kind of root>.*.member.*`."""
    founding: bool = False
    """Make the user a member only if the root has none. If it has members, the reply is `granted` if the user has
    this role already, else `conflict`."""


class GrantReply(_Reply):
    """`version` is auth's count of membership changes after the grant."""

    version: int = 0


class AuthUnavailable(BeaconfireError):
    """Auth did not answer, so there is no decision. Retryable."""

    def __init__(self) -> None:
        super().__init__(
            errors.UNAVAILABLE, "the authorization service does not answer, try again", retry_after_ms=1000
        )


class BrokerUnavailable(AuthUnavailable):
    """Auth cannot be asked because the broker does not answer, and this cannot be asked over HTTP."""

    def __init__(self) -> None:
        BeaconfireError.__init__(
            self,
            errors.BROKER_UNAVAILABLE,
            "the message broker does not answer, and this cannot be decided without it: try again",
            retry_after_ms=1000,
        )


class _NobodyListens(AuthUnavailable):
    """Auth is not on the broker."""


class HttpQuestion(CamelModel):
    """`AuthorizeRequest` over HTTP, `POST /auth/authorize`. The bearer token names the caller."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rooms: tuple[str, ...] = Field(default=(), max_length=MAX_ROOMS, fail_fast=True)
    roots_of: Id | None = None
    after: Annotated[int, WHOLE] | None = None


class _Offered(NamedTuple):
    owner: str
    issued_at: int | None
    """None: a service's token."""
    token: str

    def is_of(self, request: AuthorizeRequest) -> bool:
        """Return whether this token gives the same answer: it may grant what another token of the user does not."""
        is_same = request.newcomer is None or request.newcomer.token == self.token
        return is_same and (self.owner, self.issued_at) == (request.user_id, request.issued_at)


_offered: ContextVar[_Offered | None] = ContextVar("offered", default=None)


def offer(claims: Claims | ServiceClaims, token: str) -> None:
    """Let auth be asked over HTTP with this token, which is verified, while the request it came with is handled.

    With a user's own token a service learns no more than that user may. It counts for questions about them alone.
    """
    if isinstance(claims, ServiceClaims):
        _offered.set(_Offered(claims.service, None, token))
    else:
        _offered.set(_Offered(claims.user_id, claims.issued_at, token))


class Auth:
    """Asks auth: over the broker, and over HTTP while the broker is away.

    `watch` keeps finding out whether the broker answers, so no question waits for one that is known to be away.
    """

    def __init__(self, http: aiohttp.ClientSession | None = None, url: str = "") -> None:
        """`url` is where auth answers over HTTP, without a path. Without it, only the broker is asked."""
        self._http = http
        self._url = url.rstrip("/")
        self._answers = True
        self.nc: Client | None = None
        """Set when the broker is connected."""

    @property
    def broker_is_away(self) -> bool:
        """Whether the broker is known not to answer."""
        return self.nc is None or not self.nc.is_connected or not self._answers

    async def watch(self) -> None:
        """Keep finding out whether the broker answers, forever. Owned by the app."""
        while True:
            broker.check_cancelled()
            await asyncio.sleep(WATCH_AWAY_EVERY_S if self.broker_is_away else WATCH_EVERY_S)
            self._answers = await self._broker_answers(WATCH_TIMEOUT_S)

    async def authorize(self, request: AuthorizeRequest, *, timeout_s: float = TIMEOUT_S) -> AuthorizeReply:
        """Ask auth. Raises BeaconfireError: AuthUnavailable if auth does not answer either way, BrokerUnavailable if
        only the broker could be asked and is away, or auth's own refusal.
        """
        try:
            return await self._over_broker(AUTHORIZE, request, AuthorizeReply, timeout_s)
        except (BrokerUnavailable, _NobodyListens) as error:
            # If no auth process listens, one may still answer over HTTP while it reconnects to the broker.
            why: AuthUnavailable = error
            offered = _offered.get()
            if self._http is not None and offered is not None and offered.is_of(request):
                try:
                    return await self._over_http(self._http, offered.token, request, timeout_s)
                except AuthUnavailable as unanswered:
                    why = unanswered
            if isinstance(error, _NobodyListens):
                raise why from None
        return await self._insist(AUTHORIZE, request, AuthorizeReply, timeout_s, why)

    async def grant(self, request: GrantRequest, *, timeout_s: float = TIMEOUT_S) -> GrantReply:
        """Grant a role, over the broker alone: a user's token does not allow making members.

        Raises as `authorize` does.
        """
        try:
            return await self._over_broker(GRANT, request, GrantReply, timeout_s)
        except BrokerUnavailable as error:
            why = error
        return await self._insist(GRANT, request, GrantReply, timeout_s, why)

    async def _insist(
        self, subject: str, request: CamelModel, reply: type[R], timeout_s: float, why: AuthUnavailable
    ) -> R:
        """Ask over the broker although it seems to be away, as there is no other way. It may be reconnecting just now.

        Raises `why` if there is no answer.
        """
        if self.nc is None:
            raise why
        try:
            answer = await _ask(self.nc, subject, request, reply, timeout_s)
        except AuthUnavailable:
            raise why from None
        self._answers = True
        return answer

    async def _over_broker(self, subject: str, request: CamelModel, reply: type[R], timeout_s: float) -> R:
        """Raises BrokerUnavailable as soon as it is known that the broker does not answer."""
        if self.broker_is_away or self.nc is None:
            raise BrokerUnavailable
        asking = asyncio.ensure_future(_ask(self.nc, subject, request, reply, timeout_s))
        try:
            await asyncio.wait((asking,), timeout=PATIENCE_S)
            if not asking.done() and not await self._broker_answers(WATCH_TIMEOUT_S) and not asking.done():
                self._answers = False
                raise BrokerUnavailable
            return await asking
        except AuthUnavailable as error:
            if isinstance(error.__cause__, _GONE):
                raise BrokerUnavailable from error
            if isinstance(error.__cause__, nats.errors.NoRespondersError):
                raise _NobodyListens from error
            raise
        finally:
            asking.cancel()

    async def _broker_answers(self, timeout_s: float) -> bool:
        nc = self.nc
        return isinstance(nc, Connection) and nc.is_connected and await nc.answers(timeout_s)

    async def _over_http(
        self, http: aiohttp.ClientSession, token: str, request: AuthorizeRequest, timeout_s: float
    ) -> AuthorizeReply:
        asked = HttpQuestion(rooms=request.rooms, roots_of=request.roots_of, after=request.after)
        try:
            answer = await post(
                http,
                f"{self._url}{HTTP_PATH}",
                asked.model_dump_json(exclude_none=True),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                max_bytes=MAX_ANSWER_BYTES,
                timeout_s=timeout_s,
            )
        except FetchFailed as error:
            raise AuthUnavailable from error
        try:
            if answer.status == 200:
                return AuthorizeReply.model_validate_json(answer.body)
            refusal = _Refusal.model_validate_json(answer.body).error
        except ValidationError as error:
            raise AuthUnavailable from error
        if answer.status == 404:  # another service answers there, or an auth of an older version
            raise AuthUnavailable
        raise _as_error(refusal)


class _Refusal(CamelModel):
    error: WireError


async def authorize(nc: Client, request: AuthorizeRequest, *, timeout_s: float = TIMEOUT_S) -> AuthorizeReply:
    """Ask auth. Raises AuthUnavailable without an answer in `timeout_s` seconds, BeaconfireError for a refusal."""
    return await _ask(nc, AUTHORIZE, request, AuthorizeReply, timeout_s)


async def grant(nc: Client, request: GrantRequest, *, timeout_s: float = TIMEOUT_S) -> GrantReply:
    """Grant a role. Raises as `authorize` does."""
    return await _ask(nc, GRANT, request, GrantReply, timeout_s)


async def _ask(nc: Client, subject: str, request: CamelModel, reply: type[R], timeout_s: float) -> R:
    try:
        message = await nc.request(subject, request.model_dump_json(exclude_none=True).encode(), timeout=timeout_s)
        answer = reply.model_validate_json(message.data)
    except (nats.errors.Error, ValidationError) as error:
        raise AuthUnavailable from error
    if answer.error is not None:
        raise _as_error(answer.error)
    return answer


def _as_error(told: WireError) -> BeaconfireError:
    return BeaconfireError(errors.row_of(told.code, errors.INTERNAL), told.message)
