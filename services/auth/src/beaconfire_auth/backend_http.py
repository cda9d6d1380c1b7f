"""The calls of backends over HTTP, with a service token (docs/howto/manage_access.md).

A path names the root and the user, `-` a user of an outside issuer: `…/members/-?issuer=acme&sub=42`. What path, query
and body say together is the request of the same call over the broker.
"""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import TypeAdapter, ValidationError

from beaconfire_auth.backends import Backends, Caller
from beaconfire_auth.service_tokens import ServiceTokens
from beaconfire_kit import errors, tokens
from beaconfire_kit.backend import MAX_BYTES
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.tokens import SERVICE_TYPE, InvalidToken
from beaconfire_kit.web import bearer_token, correlation_id, describe, json_answer, read_bytes

OUTSIDE = "-"
"""In a path: the user of the query's `issuer` and `sub`."""

_FIELDS = TypeAdapter(dict[str, Any])


class BackendCalls:
    """The handlers."""

    def __init__(self, backends: Backends, service_tokens: ServiceTokens) -> None:
        self._backends = backends
        self._service_tokens = service_tokens

    def routes(self) -> list[web.RouteDef]:
        """The calls that signed-in users do not have. Those that they have, too, are in `http`."""
        root = "/auth/roots/{root}"
        return [
            web.post("/auth/roots", self.create_root),
            web.get("/auth/roots", self.list_roots),
            web.delete(root, self.delete_root),
            web.get(root + "/members/{user_id}", self.get_member),
            web.post("/auth/members/bulk", self.change_members),
            web.post("/auth/users/{user_id}/disconnect", self.disconnect),
            web.post("/auth/revocations", self.revoke),
        ]

    async def create_root(self, request: web.Request) -> web.Response:
        answer = await self._answer("create_root", request)
        return json_answer(answer, status=201 if answer["changed"] else 200)

    async def list_roots(self, request: web.Request) -> web.Response:
        return json_answer(await self._answer("list_roots", request, _page(request)))

    async def delete_root(self, request: web.Request) -> web.Response:
        return json_answer(await self._answer("delete_root", request, _root(request)))

    async def list_members(self, request: web.Request) -> web.Response:
        return json_answer(await self._answer("list_members", request, {**_root(request), **_page(request)}))

    async def get_member(self, request: web.Request) -> web.Response:
        return json_answer(await self._answer("get_member", request, {**_root(request), **_user(request)}))

    async def put_member(self, request: web.Request) -> web.Response:
        return json_answer(await self._answer("put_member", request, {**_root(request), **_user(request)}))

    async def remove_member(self, request: web.Request) -> web.Response:
        await self._answer("remove_member", request, {**_root(request), **_user(request)})
        return web.Response(status=204)

    async def change_members(self, request: web.Request) -> web.Response:
        return json_answer(await self._answer("change_members", request))

    async def disconnect(self, request: web.Request) -> web.Response:
        await self._answer("disconnect", request, _user(request))
        return web.Response(status=204)

    async def revoke(self, request: web.Request) -> web.Response:
        return json_answer(await self._answer("revoke", request))

    async def _answer(self, call: str, request: web.Request, named: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer a call. `named` are the fields that the path and the query have."""
        body = await read_bytes(request, limit=MAX_BYTES)  # first: the token may be revoked while it arrives
        token = bearer_token(request)
        if _type_of(token) not in (SERVICE_TYPE, None):
            raise BeaconfireError(errors.FORBIDDEN, "this call needs a service token")
        caller = Caller(await self._service_tokens.issued_to(token), correlation_id(request))
        return dict(await self._backends.answer(call, body if named is None else _joined(named, body), caller))


def by_caller(of_user: Handler, of_service: Handler) -> Handler:
    """Return a handler for a call that signed-in users and services both have: the token's type decides."""

    async def decide(request: web.Request) -> web.StreamResponse:
        return await (of_service if _type_of(bearer_token(request)) == SERVICE_TYPE else of_user)(request)

    return decide


def _type_of(token: str) -> str | None:
    """Return what a token says that it is, which is not verified, or None if the text is no token."""
    try:
        return tokens.peek(token).type
    except InvalidToken:
        return None


def _joined(named: Mapping[str, Any], body: bytes) -> bytes:
    """Return the fields of path, query and body as one JSON object."""
    try:
        fields = _FIELDS.validate_json(body, strict=True) if body.strip() else {}
    except ValidationError as error:
        raise BeaconfireError(errors.BAD_REQUEST, describe(error)) from None
    if twice := sorted(named.keys() & fields.keys()):
        raise BeaconfireError(errors.BAD_REQUEST, f"{twice[0]}: the address names it already, leave it out of the body")
    return json.dumps({**fields, **named}).encode()


def _root(request: web.Request) -> Mapping[str, Any]:
    return {"root": request.match_info["root"]}


def _user(request: web.Request) -> Mapping[str, Any]:
    query = {name: value for name in ("issuer", "sub") if (value := request.query.get(name)) is not None}
    user_id = request.match_info["user_id"]
    if user_id == OUTSIDE:
        if len(query) < 2:
            raise BeaconfireError(errors.BAD_REQUEST, f"the user {OUTSIDE!r} is the one of ?issuer= and &sub=")
        return query
    if query:
        raise BeaconfireError(
            errors.BAD_REQUEST, f"the path names a user already: write {OUTSIDE!r} there, or leave the query out"
        )
    return {"userId": user_id}


def _page(request: web.Request) -> Mapping[str, Any]:
    page: dict[str, Any] = {name: request.query[name] for name in ("kind", "after") if name in request.query}
    if (limit := request.query.get("limit")) is not None:
        page["limit"] = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 10 else limit
    return page
