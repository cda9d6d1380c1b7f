"""Check access: verify the bearer token of a request, and ask auth for the caller's role in a root.

    access = service.asks_auth(Access(settings, root_kind="campaign", source="quests"))

    web.post("/v1/campaigns/{campaign_id}/quests", self._give)      # `{<root kind>_id}` names the root

    async def _give(self, request: web.Request) -> web.Response:
        member = await self._access.editor(request)                 # or `member`, `owner`, `caller`
        wanted = await read_body(request, NewQuest)
        ... member.user_id, member.role, member.path["campaign_id"], Envelope(event, member.metadata)

Each check raises BeaconfireError, which becomes the answer: `token_invalid`, `forbidden`, `unavailable`. Checks fail
closed: without an answer from auth nothing is read or changed. While the broker is away, auth is asked over HTTP with
the caller's own token. Every request asks auth, so a removed member is refused from the next request on.

A handler that only reads and changes rows can run while auth is asked:

    web.patch("/v1/campaigns/{campaign_id}/quests/{id}", access.while_asking(self._change))
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps

import aiohttp
from aiohttp import web
from nats.aio.client import Client

from beaconfire_kit import errors, logs, refusals
from beaconfire_kit.authorization import (
    Auth,
    AuthorizeReply,
    AuthorizeRequest,
    AuthUnavailable,
    GrantRequest,
    offer,
    question,
)
from beaconfire_kit.commit_condition import committing_only_if
from beaconfire_kit.envelope import Metadata
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.roles import Role, can_edit, can_own
from beaconfire_kit.settings import AsksAuth
from beaconfire_kit.subjects import Pair, is_id, parse_root
from beaconfire_kit.tokens import Claims, InvalidToken, Reason, ServiceClaims
from beaconfire_kit.verifier import JwksUnavailable, Verifier
from beaconfire_kit.web import bearer_token, correlation_id, read_bytes

log = logs.get(__name__)

REFUSED = "the token is missing, invalid or expired"
"""One text for every reason: a peer must not learn which it was."""
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
PROMPT_S = 0.02
"""A role is expected again only if auth has told it within this time, because a transaction is open meanwhile."""
EXPECTED = 10_000
"""Roles that are expected again."""
_TURNS = 3
"""Turns of the event loop until a question is on its way: our task, the one that waits for the answer, and nats-py's
flusher. The handler begins after them, because its own work would delay the question."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TokenRefused(BeaconfireError):
    """The token is not valid. `reason` is for us alone: the peer gets one text for every reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(errors.TOKEN_INVALID, REFUSED)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Caller:
    """A signed-in user. `metadata` is for the events that report what their request changes."""

    user_id: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Member(Caller):
    """A member of the root in the path. `path` has the path's ids by name, all checked."""

    role: Role
    path: Mapping[str, str]


class _OtherRole(Exception):
    """Auth says another role than the one that a handler was run with."""


class _Asking:
    """A question to auth about the caller of a request, whose handler is run meanwhile with the role that is expected.

    Without a question, the handler itself has waited for auth's answer.
    """

    def __init__(self) -> None:
        self.may_expect = True
        self._expected: Role | None = None
        self._answer: asyncio.Task[Role] | None = None

    def expect(self, role: Role, answer: asyncio.Task[Role]) -> None:
        """Go on with this role. `answer` is the task that asks auth. A second question of the handler is waited for."""
        self._expected, self._answer, self.may_expect = role, answer, False

    async def confirm(self) -> None:
        """Wait for auth's answer. Raises its refusal, and _OtherRole."""
        if self._answer is not None and await self._answer is not self._expected:
            raise _OtherRole

    async def end(self) -> None:
        """Ask no more."""
        if (answer := self._answer) is not None:
            self._answer = None
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)


_ASKING: web.RequestKey[_Asking] = web.RequestKey("asking", _Asking)


class Access:
    """Checks requests of users, and of services that publish."""

    def __init__(
        self,
        settings: AsksAuth,
        *,
        root_kind: str,
        source: str,
        service_token: str = "",
        prompt_s: float = PROMPT_S,
    ) -> None:
        """`root_kind` is the kind of root whose members may call, `source` the service's name in its events.

        Only `make_owner` needs a `service_token`. `prompt_s` is how fast auth has to answer, so that handlers are run
        while it is asked (`while_asking`).
        """
        self._settings = settings
        self._root_kind = root_kind
        self._source = source
        self._service_token = service_token
        self._prompt_s = prompt_s
        self._expected: OrderedDict[tuple[str, str], Role] = OrderedDict()
        self._verifier: Verifier
        self._auth: Auth

    def start(self, http: aiohttp.ClientSession) -> None:
        """Start to verify tokens. Keys are fetched with `http` when they are needed."""
        settings = self._settings
        self._verifier = Verifier(
            http,
            settings.jwks_url,
            issuer=settings.issuer,
            audience=settings.audience,
            outside=settings.outside_issuers,
        )
        self._auth = Auth(http, settings.auth_at)

    def connected(self, nc: Client) -> None:
        """Ask auth over this connection from now on."""
        self._auth.nc = nc

    async def watch(self) -> None:
        """Keep finding out whether the broker answers, forever, so that no request waits for one that is away."""
        await self._auth.watch()

    def while_asking(self, handler: Handler) -> Handler:
        """Run a handler while auth is still asked about its caller, if auth's answer is likely to be yes.

        In such a handler, `member`, `editor` and `owner` return at once, with the role that auth told last. Auth is
        asked in the same way as without this. Nothing is committed and nothing is answered before auth has answered.
        If auth refuses, or tells another role, everything is rolled back. The handler is run again if the role is
        another one. So it must do nothing that a rollback does not undo, and must not start to send its answer.
        """

        @wraps(handler)
        async def handle(request: web.Request) -> web.StreamResponse:
            asking = request[_ASKING] = _Asking()
            try:
                with committing_only_if(asking.confirm):
                    return await _confirmed(handler, request, asking)
            except _OtherRole:
                asking.may_expect = False
            finally:
                await asking.end()
            return await handler(request)

        return handle

    async def caller(self, request: web.Request) -> Caller:
        """The signed-in user. Raises `token_invalid`, `unavailable`, and what `read_bytes` raises."""
        claims = await self._verify(request)
        await read_bytes(request)  # the token may be revoked while the body arrives
        await self._ask(claims)
        return Caller(claims.user_id, self._metadata(request, claims))

    async def member(self, request: web.Request) -> Member:
        """Return the caller, if the caller may see the root of the path.

        Raises what `caller` raises, `bad_request` for a part of the path that is not an id, and `forbidden`.
        `forbidden` does not show whether the root exists and the caller is not a member, or whether it does not exist.
        """
        claims = await self._verify(request)
        path = path_ids(request)
        if request.method in _WITH_BODY:  # the caller may be removed from the root while the body arrives
            await read_bytes(request)
        root = self._root(path[f"{self._root_kind}_id"])
        role = await self._expect(request, claims, root) or await self._role(claims, root)
        self.count_root(root)
        return Member(claims.user_id, self._metadata(request, claims), role, path)

    async def editor(self, request: web.Request) -> Member:
        """Return the caller, if the caller may change things in the root. Raises as `member` does."""
        member = await self.member(request)
        check_editor(member)
        return member

    async def owner(self, request: web.Request) -> Member:
        """Return the caller, if the caller owns the root. Raises as `member` does."""
        member = await self.member(request)
        if not can_own(member.role):
            raise BeaconfireError(errors.FORBIDDEN, "only owners may do this")
        return member

    async def role(self, request: web.Request, root_id: str) -> Role:
        """The caller's role in a root that the path does not name. Raises as `member` does."""
        return await self._role(await self._verify(request), self._root(root_id))

    async def roles(self, request: web.Request) -> Mapping[str, Role]:
        """The caller's role in each of their roots, by the root's id. Raises as `caller` does."""
        claims = await self._verify(request)
        roots = (await self._ask(claims, roots_of=self._root_kind)).roots
        return {parse_root(root).id: role for root, role in roots.items()}

    async def make_owner(self, caller: Caller, root_id: str) -> None:
        """Make the caller the first owner of a root that is about to be created.

        Raises `conflict` if the root has members already and the caller is not one of its owners. Also raises
        `unavailable`.
        """
        asked = GrantRequest(
            root=self._root(root_id),
            user_id=caller.user_id,
            role=Role.OWNER,
            founding=True,
            service_token=self._service_token,
        )
        try:
            await self._auth.grant(asked)
        except BeaconfireError as error:
            if error.code is not errors.TOKEN_INVALID:
                raise
            log.error("auth refuses our service token: set BEACONFIRE_SERVICE_TOKEN", reason=error.message)
            raise BeaconfireError(errors.INTERNAL, "the service may not create this, its log says why") from None

    async def author(self, request: web.Request, *, max_body_bytes: int) -> Claims | ServiceClaims:
        """The user or the service that wants to publish events, once the body is there.

        A service's token was not revoked. A user's revocation is seen by `roles_in`. Raises `token_invalid`,
        `unavailable`, and what `read_bytes` raises.
        """
        claims = await self._verify_any(request)
        await read_bytes(request, limit=max_body_bytes)  # a service's token may be revoked while it arrives
        if isinstance(claims, ServiceClaims):
            await self._refuse_revoked(claims)
        return claims

    async def service(self, token: str) -> ServiceClaims:
        """The service that this token names, for a request over the broker. Raises `token_invalid`, `unavailable`."""
        with refusing_invalid_tokens(token):
            claims = await self._verifier.verify_service(token)
        offer(claims, token)
        await self._refuse_revoked(claims)
        return claims

    async def roles_in(self, claims: Claims, roots: Sequence[str]) -> Mapping[str, Role]:
        """The user's role in each of these roots (`campaign:c1`) that they are a member of. Raises as `caller` does."""
        decisions = (await self._ask(claims, *roots)).rooms
        found = {root: decisions.get(root) for root in roots}
        if any(one.unavailable for one in found.values() if one is not None):
            raise AuthUnavailable
        roles = {root: one.role for root, one in found.items() if one and one.allowed and one.role}
        for root in roles:
            self.count_root(root)
        return roles

    def count_user(self, request: web.Request, user_id: str) -> None:
        """Called for each request of a verified user. A service with limits overrides it, and raises `too_many`."""

    def count_root(self, root: str) -> None:
        """Called for each request of a member of a root (`campaign:c1`). Overridden as `count_user`."""

    def _root(self, root_id: str) -> str:
        return str(Pair(self._root_kind, root_id))

    def _metadata(self, request: web.Request, claims: Claims) -> Metadata:
        return Metadata(user_id=claims.user_id, source=self._source, correlation_id=correlation_id(request))

    async def _expect(self, request: web.Request, claims: Claims, root: str) -> Role | None:
        """Start to ask auth, and return the role that it told last. None if the request has to wait for its answer."""
        asking, role = request.get(_ASKING), self._expected.get((claims.user_id, root))
        if asking is None or role is None or not asking.may_expect or self._auth.broker_is_away:
            return None
        asking.expect(role, asyncio.create_task(self._role(claims, root)))
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        return role

    async def _role(self, claims: Claims, root: str) -> Role:
        """Ask auth for the caller's role. Remember whether to expect it from the next request on."""
        key, began = (claims.user_id, root), time.monotonic()
        try:
            role = await self._ask_for_role(claims, root)
        except BeaconfireError:
            self._expected.pop(key, None)
            raise
        self._expected.pop(key, None)
        if time.monotonic() - began <= self._prompt_s:
            self._expected[key] = role
            if len(self._expected) > EXPECTED:
                self._expected.popitem(last=False)
        return role

    async def _ask_for_role(self, claims: Claims, root: str) -> Role:
        decision = (await self._ask(claims, root)).rooms.get(root)
        if decision is not None and decision.unavailable:
            raise AuthUnavailable
        if decision is None or not decision.allowed or decision.role is None:
            raise BeaconfireError(errors.FORBIDDEN, f"no such {self._root_kind}, or you are not a member")
        return decision.role

    async def _refuse_revoked(self, claims: ServiceClaims) -> None:
        asked = AuthorizeRequest(user_id=claims.service, service_token=claims.token_id)
        if (await self._auth.authorize(asked)).revoked:
            raise BeaconfireError(errors.TOKEN_INVALID, "the service's token was revoked")

    async def _verify(self, request: web.Request) -> Claims:
        claims = await self._verify_any(request)
        if not isinstance(claims, Claims):
            raise BeaconfireError(errors.TOKEN_INVALID, "a service's token is not a user's: it can only publish events")
        return claims

    async def _verify_any(self, request: web.Request) -> Claims | ServiceClaims:
        token = bearer_token(request)
        with refusing_invalid_tokens(token):
            claims = await self._verifier.verify_any(token)
        if isinstance(claims, Claims):  # how much a service may publish is an operator's decision
            self.count_user(request, claims.user_id)
        offer(claims, token)
        return claims

    async def _ask(self, claims: Claims, *rooms: str, roots_of: str | None = None) -> AuthorizeReply:
        answer = await self._auth.authorize(question(claims, rooms, roots_of=roots_of))
        if answer.revoked:
            raise BeaconfireError(errors.TOKEN_INVALID, "the token was revoked: sign in again")
        return answer


async def _confirmed(handler: Handler, request: web.Request, asking: _Asking) -> web.StreamResponse:
    """Run a handler, and return its answer once auth has agreed. Auth's refusal counts before the handler's error."""
    try:
        answer = await handler(request)
    except (_OtherRole, asyncio.CancelledError):
        raise
    except Exception:
        await asking.confirm()
        raise
    await asking.confirm()
    return answer


@contextmanager
def refusing_invalid_tokens(token: str) -> Iterator[None]:
    """Turn what a verifier raises into errors for the bearer of the token: TokenRefused, AuthUnavailable.

    A refusal is counted and logged with its reason.
    """
    try:
        yield
    except InvalidToken as error:
        refusals.report(error, token)
        raise TokenRefused(error.reason) from None
    except JwksUnavailable:
        raise AuthUnavailable from None


def check_editor(member: Member) -> None:
    """Raise `forbidden` unless the member may change what is in the root."""
    if not can_edit(member.role):
        raise BeaconfireError(errors.FORBIDDEN, "only owners and editors may do this")


def path_ids(request: web.Request) -> dict[str, str]:
    """The ids of the path by name. Raises `bad_request` if one cannot be an id."""
    for name, text in request.match_info.items():
        if not is_id(text):
            raise BeaconfireError(errors.BAD_REQUEST, f"the path's {name} is no id: {text[:80]!r}")
    return dict(request.match_info)
