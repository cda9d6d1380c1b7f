"""Who asks, and whether they may: the bearer token, the path's ids, and the caller's role, asked from auth.

Fails closed: without an answer from auth, nothing is read and nothing is changed (503, retryable). While the broker is
away, auth is asked over HTTP with the caller's own token.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from beaconfire_kit import errors, logs
from beaconfire_kit.authorization import (
    Auth,
    AuthorizeReply,
    AuthorizeRequest,
    AuthUnavailable,
    GrantRequest,
    offer,
    question,
)
from beaconfire_kit.envelope import Metadata
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.roles import Role, can_edit, can_own
from beaconfire_kit.subjects import Pair, is_id, parse_root
from beaconfire_kit.tokens import Claims, InvalidToken, ServiceClaims
from beaconfire_kit.verifier import JwksUnavailable, Verifier
from beaconfire_kit.web import bearer_token, correlation_id, read_bytes
from beaconfire_publisher.limits import Requests

log = logs.get(__name__)

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_USER: web.RequestKey[str] = web.RequestKey("user", str)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is signed in. `metadata` is that of the events which tell what their request changes."""

    user_id: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Member(Caller):
    """A member of the campaign in the path. `path` has the path's ids by name, checked."""

    role: Role
    path: Mapping[str, str]


class Access:
    """Decides about requests."""

    verifier: Verifier
    auth: Auth
    """Both are set when the service starts."""
    service_token: str = ""
    """What is shown to auth for a grant. Set when the service starts."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    @property
    def count_body(self) -> Middleware:
        """A middleware that counts the bytes of a request's body for its user, however they were sent."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await handler(request)
            finally:
                if (user_id := request.get(_USER)) is not None:
                    self._requests.sent(user_id, request.content.total_bytes, time.monotonic())

        return count

    async def caller(self, request: web.Request) -> Caller:
        """Whoever is signed in. Raises BeaconfireError: `token_invalid`, `unavailable`; and as `read_bytes` does."""
        claims = await self._verify(request)
        await read_bytes(request)  # the token may be revoked while it arrives
        await self._ask(claims)
        return Caller(claims.user_id, _metadata(request, claims))

    async def member(self, request: web.Request) -> Member:
        """The caller, who may see the campaign `{campaign_id}` of the path.

        Raises BeaconfireError: `token_invalid`, `bad_request` for a path part that is no id, `forbidden` (alike
        whether the campaign exists or not), `unavailable`; and what `read_bytes` raises for the request's body.
        """
        claims = await self._verify(request)
        path = path_ids(request)
        if request.method in _WITH_BODY:  # a member who is removed while it arrives is none any more
            await read_bytes(request)
        role = await self._role(claims, path["campaign_id"])
        self._requests.to_root(str(Pair("campaign", path["campaign_id"])), time.monotonic())
        return Member(claims.user_id, _metadata(request, claims), role, path)

    async def editor(self, request: web.Request) -> Member:
        """The caller, who may change what is in the campaign. Raises as `member` does."""
        member = await self.member(request)
        check_editor(member)
        return member

    async def role(self, request: web.Request, campaign_id: str) -> Role:
        """The caller's role in a campaign. Raises BeaconfireError: `token_invalid`, `forbidden`, `unavailable`."""
        return await self._role(await self._verify(request), campaign_id)

    async def owner(self, request: web.Request) -> Member:
        """The caller, who owns the campaign. Raises as `member` does."""
        member = await self.member(request)
        if not can_own(member.role):
            raise BeaconfireError(errors.FORBIDDEN, "only owners may do this")
        return member

    async def campaigns(self, request: web.Request) -> Mapping[str, Role]:
        """The caller's role in each of their campaigns, by id. Raises as `caller` does."""
        claims = await self._verify(request)
        roots = (await self._ask(claims, roots_of="campaign")).roots
        return {parse_root(root).id: role for root, role in roots.items()}

    async def make_owner(self, caller: Caller, campaign_id: str) -> None:
        """Make the caller the first owner of a campaign that is about to be.

        Raises BeaconfireError: `conflict` if the campaign has members already, and the caller is no owner among them;
        `unavailable`.
        """
        root = str(Pair("campaign", campaign_id))
        asked = GrantRequest(
            root=root, user_id=caller.user_id, role=Role.OWNER, founding=True, service_token=self.service_token
        )
        try:
            await self.auth.grant(asked)
        except BeaconfireError as error:
            if error.code is not errors.TOKEN_INVALID:
                raise
            log.error("auth does not take our service token: set BEACONFIRE_SERVICE_TOKEN", reason=error.message)
            raise BeaconfireError(errors.INTERNAL, "the service may not create this, its log says why") from None

    async def author(self, request: web.Request, *, max_body_bytes: int) -> Claims | ServiceClaims:
        """The user or the service that wants to publish, once the body is there.

        A user's revocation is seen by `roles`. Raises BeaconfireError: `token_invalid`, `unavailable`; and as
        `read_bytes` does.
        """
        claims = await self._verify_any(request)
        await read_bytes(request, limit=max_body_bytes)  # a service's token may be revoked while it arrives
        if isinstance(claims, ServiceClaims):
            asked = AuthorizeRequest(user_id=claims.service, service_token=claims.token_id)
            if (await self.auth.authorize(asked)).revoked:
                raise BeaconfireError(errors.TOKEN_INVALID, "the service's token was revoked")
        return claims

    async def roles(self, claims: Claims, roots: Sequence[str]) -> Mapping[str, Role]:
        """The user's role in each of the roots (`campaign:c1`) that they are a member of. Raises as `caller` does."""
        decisions = (await self._ask(claims, *roots)).rooms
        found = {root: decisions.get(root) for root in roots}
        roles = {root: one.role for root, one in found.items() if one and one.allowed and one.role}
        for root in roles:
            self._requests.to_root(root, time.monotonic())
        return roles

    async def _role(self, claims: Claims, campaign_id: str) -> Role:
        room = str(Pair("campaign", campaign_id))
        decision = (await self._ask(claims, room)).rooms.get(room)
        if decision is None or not decision.allowed or decision.role is None:
            raise BeaconfireError(errors.FORBIDDEN, "no such campaign, or you are not a member")
        return decision.role

    async def _verify(self, request: web.Request) -> Claims:
        claims = await self._verify_any(request)
        if not isinstance(claims, Claims):
            raise BeaconfireError(errors.TOKEN_INVALID, "a service's token is no user's: it can only publish events")
        return claims

    async def _verify_any(self, request: web.Request) -> Claims | ServiceClaims:
        try:
            claims = await self.verifier.verify_any(token := bearer_token(request))
        except InvalidToken as error:
            log.info("refused token", reason=str(error))
            raise BeaconfireError(errors.TOKEN_INVALID, "the token is missing, not valid, or ran out") from None
        except JwksUnavailable:
            raise AuthUnavailable from None
        if isinstance(claims, Claims):  # a service's token is an operator's decision
            request[_USER] = claims.user_id
            self._requests.by_user(claims.user_id, time.monotonic())
        offer(claims, token)
        return claims

    async def _ask(self, claims: Claims, *rooms: str, roots_of: str | None = None) -> AuthorizeReply:
        answer = await self.auth.authorize(question(claims, rooms, roots_of=roots_of))
        if answer.revoked:
            raise BeaconfireError(errors.TOKEN_INVALID, "the token was revoked: sign in again")
        return answer


def check_editor(member: Member) -> None:
    """Raise BeaconfireError `forbidden` unless the member may change what is in the campaign."""
    if not can_edit(member.role):
        raise BeaconfireError(errors.FORBIDDEN, "only owners and editors may do this")


def path_ids(request: web.Request) -> dict[str, str]:
    """The ids of the path by name. Raises BeaconfireError `bad_request` where one cannot be an id of anything."""
    for name, text in request.match_info.items():
        if not is_id(text):
            raise BeaconfireError(errors.BAD_REQUEST, f"the path's {name} is no id: {text[:80]!r}")
    return dict(request.match_info)


def _metadata(request: web.Request, claims: Claims) -> Metadata:
    return Metadata(user_id=claims.user_id, source="api", correlation_id=correlation_id(request))
