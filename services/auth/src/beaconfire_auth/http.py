"""Auth's HTTP interface (docs/reference/http.md, "Auth")."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from aiohttp import hdrs, web
from pydantic import Field

from beaconfire_auth.accounts import Accounts, SignedIn, User
from beaconfire_auth.attempts import Attempts
from beaconfire_auth.backend_http import BackendCalls, by_caller
from beaconfire_auth.fields import Email, Name, NewEmail, NewPassword, RefreshToken
from beaconfire_auth.keys import Keys
from beaconfire_auth.members import Actor, Members, as_json, forbidden
from beaconfire_auth.root_kinds import USER, RootKinds
from beaconfire_kit import errors
from beaconfire_kit.authorization import HTTP_PATH, AuthorizeReply, AuthorizeRequest, HttpQuestion, question
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.forwarding import ClientAddresses
from beaconfire_kit.models import Body
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import InvalidRoom, Pair, is_id, parse_root
from beaconfire_kit.tokens import Claims, ServiceClaims
from beaconfire_kit.web import bearer_token, correlation_id, json_answer, read_body, read_bytes


class SignUp(Body):
    """A new account."""

    email: NewEmail
    password: NewPassword
    name: Name


class SignIn(Body):
    """The address and the password of an account."""

    email: Email
    password: Annotated[str, Field(max_length=200)]


class Refresh(Body):
    """A refresh token to exchange."""

    refresh_token: RefreshToken


class SignOut(Body):
    """A refresh token to revoke. With `everywhere`, every token of its user is revoked."""

    refresh_token: RefreshToken
    everywhere: bool = False


class NewMember(Body):
    """A user to make a member."""

    email: Email
    role: Role


class NewRole(Body):
    """The role that a member gets."""

    role: Role


Decide = Callable[[AuthorizeRequest], Awaitable[AuthorizeReply]]


class Calls:
    """The handlers. Each reads the request, calls `accounts` or `members`, and answers."""

    def __init__(
        self,
        accounts: Accounts,
        members: Members,
        keys: Keys,
        attempts: Attempts,
        addresses: ClientAddresses,
        decide: Decide,
        root_kinds: RootKinds,
        of_backends: BackendCalls,
    ) -> None:
        """`decide` answers the questions that `auth.authorize` asks over the broker."""
        self._accounts = accounts
        self._members = members
        self._keys = keys
        self._attempts = attempts
        self._addresses = addresses
        self._decide = decide
        self._root_kinds = root_kinds
        self._of_backends = of_backends

    def routes(self) -> list[web.RouteDef]:
        root, of_backends = "/auth/roots/{root}/members", self._of_backends
        return [
            web.post("/auth/sign-up", self.sign_up),
            web.post("/auth/sign-in", self.sign_in),
            web.post("/auth/refresh", self.refresh),
            web.post("/auth/sign-out", self.sign_out),
            web.get("/auth/me", self.me),
            web.post(HTTP_PATH, self.authorize),
            web.get("/auth/memberships", self.memberships),
            web.get(root, by_caller(self.members, of_backends.list_members)),
            web.post(root, self.add_member),
            web.put(root + "/{user_id}", by_caller(self.set_role, of_backends.put_member)),
            web.delete(root + "/{user_id}", by_caller(self.remove_member, of_backends.remove_member)),
            *of_backends.routes(),
            web.get("/.well-known/jwks.json", self.jwks),
        ]

    async def sign_up(self, request: web.Request) -> web.Response:
        body = await read_body(request, SignUp)
        await self._attempts.count(address=self._addresses.of(request), email=body.email.canonical)
        signed_in = await self._accounts.sign_up(body.email, body.password, body.name)
        return json_answer(_session(signed_in), status=201)

    async def sign_in(self, request: web.Request) -> web.Response:
        body = await read_body(request, SignIn)
        await self._attempts.count(address=self._addresses.of(request), email=body.email.canonical)
        return json_answer(_session(await self._accounts.sign_in(body.email, body.password)))

    async def refresh(self, request: web.Request) -> web.Response:
        body = await read_body(request, Refresh)
        return json_answer(_session(await self._accounts.refresh(body.refresh_token)))

    async def sign_out(self, request: web.Request) -> web.Response:
        body = await read_body(request, SignOut)
        await self._accounts.sign_out(
            body.refresh_token, everywhere=body.everywhere, correlation_id=correlation_id(request)
        )
        return web.Response(status=204)

    async def me(self, request: web.Request) -> web.Response:
        claims = await self._identify(request)
        return json_answer({"user": _user(await self._accounts.user(claims.user_id))})

    async def authorize(self, request: web.Request) -> web.Response:
        """Answer as `auth.authorize` about the token's owner, for services that have lost the broker."""
        claims = await self._accounts.identify_any(bearer_token(request))
        body = await read_body(request, HttpQuestion)
        if isinstance(claims, ServiceClaims):
            asked = AuthorizeRequest(user_id=claims.service, service_token=claims.token_id, rooms=body.rooms)
        else:
            asked = question(claims, body.rooms, roots_of=body.roots_of).model_copy(update={"after": body.after})
        return web.json_response(text=(await self._decide(asked)).model_dump_json(exclude_none=True))

    async def memberships(self, request: web.Request) -> web.Response:
        claims = await self._identify(request)
        kind = request.query.get("kind")
        if kind is not None and (why := await self._root_kinds.why_without_members(kind)):
            raise BeaconfireError(errors.BAD_REQUEST, f"kind: {why}")
        roots = await self._members.of_user(claims.user_id, kind)
        return json_answer({"memberships": [{"root": str(root), "role": role} for root, role in roots.items()]})

    async def members(self, request: web.Request) -> web.Response:
        claims = await self._identify(request)
        members = await self._members.of_root(_root(request), claims.user_id)
        return json_answer({"members": [as_json(member) for member in members]})

    async def add_member(self, request: web.Request) -> web.Response:
        actor, root = await self._changer(request), _root(request)
        body = await read_body(request, NewMember)
        member = await self._members.add(root, body.email, body.role, actor)
        return json_answer({"member": as_json(member)}, status=201)

    async def set_role(self, request: web.Request) -> web.Response:
        actor, root = await self._changer(request), _root(request)
        body = await read_body(request, NewRole)
        member = await self._members.set_role(root, _user_id(request), body.role, actor)
        return json_answer({"member": as_json(member)})

    async def remove_member(self, request: web.Request) -> web.Response:
        actor = await self._changer(request)
        await self._members.remove(_root(request), _user_id(request), actor)
        return web.Response(status=204)

    async def jwks(self, _request: web.Request) -> web.Response:
        answer = json_answer(self._keys.jwks())
        answer.headers[hdrs.CACHE_CONTROL] = "public, max-age=60"
        return answer

    async def _identify(self, request: web.Request) -> Claims:
        return await self._accounts.identify(bearer_token(request))

    async def _changer(self, request: web.Request) -> Actor:
        """Return the caller of a membership change. Raises as `identify` does, and `too_many`."""
        await read_bytes(request)  # first: the token may be revoked while it arrives
        user_id = (await self._identify(request)).user_id
        await self._attempts.count_member_change(user_id)
        return Actor(user_id, correlation_id(request))


def _session(signed_in: SignedIn) -> dict[str, Any]:
    return {
        "user": _user(signed_in.user),
        "accessToken": signed_in.access_token,
        "expiresInS": signed_in.expires_in_s,
        "refreshToken": signed_in.refresh_token,
    }


def _user(user: User) -> dict[str, str]:
    return {"id": user.id, "name": user.name, "email": user.email}


def _root(request: web.Request) -> Pair:
    """Return the root in the path. Raises `forbidden` if it cannot have members, as for a root of other users."""
    try:
        root = parse_root(request.match_info["root"])
    except InvalidRoom as error:
        raise BeaconfireError(errors.BAD_REQUEST, str(error)) from None
    if root.kind == USER:
        raise forbidden()
    return root


def _user_id(request: web.Request) -> str:
    user_id = request.match_info["user_id"]
    if not is_id(user_id):
        raise BeaconfireError(errors.NOT_FOUND, "not a member")
    return user_id
