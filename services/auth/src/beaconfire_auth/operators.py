"""Answer operators, on the operations port only and with their token (docs/reference/http.md, "Operations").

Access to the port is not enough, because a caller that can make a service token can publish in a service's name.
"""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import Field, IPvAnyAddress, model_validator
from pydantic.alias_generators import to_camel

from beaconfire_auth.attempts import Attempts
from beaconfire_auth.fields import Email
from beaconfire_auth.keys import Keys
from beaconfire_auth.service_tokens import ServiceTokens
from beaconfire_auth.user_views import UserViews
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.event import Id
from beaconfire_kit.models import Body
from beaconfire_kit.operator_tokens import OperatorToken
from beaconfire_kit.subjects import is_id
from beaconfire_kit.tokens import MAX_PATTERNS, MAX_SERVICE_LIFETIME_S
from beaconfire_kit.web import WHOLE, json_answer, read_body

DEFAULT_LIFE_S = 90 * 24 * 3600


class Rotation(Body):
    lead_s: Annotated[int, Field(ge=0, le=86_400), WHOLE] | None = None


class NewServiceToken(Body):
    service: Id
    publish: Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_PATTERNS)]
    expires_in_s: Annotated[int, Field(ge=60, le=MAX_SERVICE_LIFETIME_S), WHOLE] = DEFAULT_LIFE_S


class Reset(Body):
    address: IPvAnyAddress | None = None
    email: Email | None = None

    @model_validator(mode="after")
    def _check(self) -> "Reset":
        if self.address is None and self.email is None:
            raise ValueError("give an address, an email, or both")
        return self


class Operators:
    """The handlers. Each checks the operator token first."""

    def __init__(
        self,
        token: str,
        *,
        key_lead_s: int,
        keys: Keys,
        service_tokens: ServiceTokens,
        attempts: Attempts,
        users: UserViews,
    ) -> None:
        self._token = OperatorToken(token)
        self._key_lead_s = key_lead_s
        self._keys = keys
        self._service_tokens = service_tokens
        self._attempts = attempts
        self._users = users

    def routes(self) -> list[web.RouteDef]:
        def guarded(method: Callable[..., web.RouteDef], path: str, handler: Handler) -> web.RouteDef:
            return method(path, self._token.guarded(handler))

        return [
            guarded(web.get, "/api/v1/auth/keys", self.list_keys),
            guarded(web.post, "/api/v1/auth/keys", self.rotate),
            guarded(web.delete, "/api/v1/auth/keys/{kid}", self.retire),
            guarded(web.get, "/api/v1/auth/service-tokens", self.list_service_tokens),
            guarded(web.post, "/api/v1/auth/service-tokens", self.issue),
            guarded(web.delete, "/api/v1/auth/service-tokens/{id}", self.revoke),
            guarded(web.post, "/api/v1/auth/reset-attempts", self.reset_attempts),
            guarded(web.get, "/api/v1/auth/users/{name}", self.show_user),
        ]

    async def list_keys(self, _request: web.Request) -> web.Response:
        return json_answer({"keys": [_camel(asdict(key)) for key in await self._keys.list()]})

    async def rotate(self, request: web.Request) -> web.Response:
        body = await read_body(request, Rotation)
        key = await self._keys.rotate(lead_s=self._key_lead_s if body.lead_s is None else body.lead_s)
        return json_answer({"key": _camel(asdict(key))}, status=201)

    async def retire(self, request: web.Request) -> web.Response:
        await self._keys.retire(request.match_info["kid"])
        return web.Response(status=204)

    async def list_service_tokens(self, _request: web.Request) -> web.Response:
        return json_answer({"serviceTokens": [_camel(asdict(one)) for one in await self._service_tokens.list()]})

    async def issue(self, request: web.Request) -> web.Response:
        body = await read_body(request, NewServiceToken)
        row, text = await self._service_tokens.issue(body.service, body.publish, expires_in_s=body.expires_in_s)
        return json_answer({"serviceToken": _camel(asdict(row)), "token": text}, status=201)

    async def revoke(self, request: web.Request) -> web.Response:
        token_id = request.match_info["id"]
        if not is_id(token_id):  # PostgreSQL does not accept some texts, such as NUL
            raise BeaconfireError(errors.NOT_FOUND, "no such service token")
        await self._service_tokens.revoke(token_id)
        return web.Response(status=204)

    async def show_user(self, request: web.Request) -> web.Response:
        """Answer with a user, by id or e-mail address, and what they may hear of `?room=`."""
        user = await self._users.find(request.match_info["name"], request.query.getall("room", []))
        return json_answer({"user": user.as_json()})

    async def reset_attempts(self, request: web.Request) -> web.Response:
        body = await read_body(request, Reset)
        await self._attempts.reset(
            address=str(body.address) if body.address else None, email=body.email.canonical if body.email else None
        )
        return web.Response(status=204)


def _camel(row: dict[str, Any]) -> dict[str, Any]:
    return {
        to_camel(name): value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
        for name, value in row.items()
    }
