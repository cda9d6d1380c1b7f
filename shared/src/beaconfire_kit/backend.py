"""Manage access from a backend: which roots there are, who is a member, and whose access ends at once.

    backend = Backend(nc, service_token)                        # an issued token that names `depot.*.member.*`
    await backend.create_root("depot:d1", owner=User.outside("acme", "42"))
    await backend.put_member("depot:d1", User(user_id="acme-43"), Role.VIEWER)
    await backend.change_members([MemberChange(root="depot:d1", user_id="acme-44", role=None)])

Every call may be repeated: a repeat changes nothing and publishes no event. The same calls exist over HTTP
(docs/howto/manage_access.md). Here each is a request on the subject `auth.access.<call>`:

    {"serviceToken": "…", "correlationId": "…", "request": {"root": "depot:d1", "owner": {"userId": "acme-42"}}}

A user whom an outside issuer's token will bring may be named before they connect for the first time.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import nats.errors
from nats.aio.client import Client
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from beaconfire_kit import errors
from beaconfire_kit.authorization import TIMEOUT_S, AuthUnavailable
from beaconfire_kit.envelope import CorrelationId
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.event import Id
from beaconfire_kit.models import Body, CamelModel
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import ID_PATTERN, RESERVED_KINDS, parse_root
from beaconfire_kit.tokens import MAX_TOKEN_BYTES
from beaconfire_kit.web import WHOLE

PREFIX = "auth.access."
ACCESS = f"{PREFIX}*"
"""The subjects of all calls. A call's own is `subject_of` its name."""
ROOT_PATTERN = f"^(?!(?:{'|'.join(sorted(RESERVED_KINDS))}|_INBOX[^:]*):){ID_PATTERN}:{ID_PATTERN}$"
MAX_CHANGES = 500
"""Changes of members in one call. They are one transaction."""
MAX_BYTES = 256 * 1024
"""Of a request: what the broker's `max_payload` allows."""
MAX_PAGE = 1_000


def _check_root(text: str) -> str:
    parse_root(text)
    return text


Root = Annotated[
    str,
    AfterValidator(_check_root),
    WithJsonSchema({"type": "string", "pattern": ROOT_PATTERN, "description": "A root, like `campaign:c1`"}),
]
"""The `kind:id` of a root. Raises InvalidRoom, a ValueError."""


def _read_moment(value: object) -> object:
    """Read a time as RFC 3339 writes it. pydantic would also take a number of seconds as a text."""
    if not isinstance(value, str):
        return value
    if _MOMENT.fullmatch(value) is None:
        raise ValueError("not a time like 2026-01-31T12:00:00Z, with its zone")
    return datetime.fromisoformat(value)


_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
Moment = Annotated[AwareDatetime, BeforeValidator(_read_moment)]


def _name_the_user_once(schema: dict[str, Any]) -> None:
    """Say in a JSON Schema what `User` checks: a user is named by an id, or by an issuer and a subject."""
    properties, required = schema.pop("properties"), schema.pop("required", [])
    types = {name: properties[name]["anyOf"][0] for name in _WAYS[0] + _WAYS[1]}
    shape = {"type": schema.pop("type"), "additionalProperties": schema.pop("additionalProperties")}
    schema["oneOf"] = [
        {
            **shape,
            "required": [*required, *way],
            "properties": properties | {name: one if name in way else {"type": "null"} for name, one in types.items()},
        }
        for way in _WAYS
    ]


_WAYS = (["userId"], ["issuer", "sub"])


class User(Body):
    """A user: our id of them, or an outside issuer (our name for it, or its `iss`) and its name for the user."""

    model_config = ConfigDict(json_schema_extra=_name_the_user_once)

    user_id: Id | None = None
    issuer: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    sub: Annotated[str, StringConstraints(min_length=1, max_length=1_000, pattern=r"^[^\x00]*$")] | None = None

    @classmethod
    def outside(cls, issuer: str, sub: str) -> "User":
        return cls(issuer=issuer, sub=sub)

    @model_validator(mode="after")
    def _check(self) -> "User":
        if (self.issuer is None) != (self.sub is None) or (self.user_id is None) == (self.issuer is None):
            raise ValueError("name the user by userId, or by issuer and sub")
        return self


class NewRoot(Body):
    """A root and its first owner."""

    root: Root
    owner: User


class OneRoot(Body):
    """A root."""

    root: Root


class Roots(Body):
    """A page of the roots of a kind, by id."""

    kind: Id
    after: Id | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE), WHOLE] = 200


class Members(Body):
    """A page of the members of a root, by user id."""

    root: Root
    after: Id | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE), WHOLE] = 200


class OneMember(User):
    """A user in a root."""

    root: Root


class MemberRole(OneMember):
    """The role that a user is to have in a root."""

    role: Role


class MemberChange(OneMember):
    """The role that a user is to have in a root, or null for a user who is to be no member."""

    role: Role | None


class MemberChanges(Body):
    """Changes of members, each a `MemberChange`. One that is wrong is refused alone."""

    members: tuple[Any, ...] = Field(min_length=1, max_length=MAX_CHANGES)
    dry_run: bool = False
    """Answer what would happen, and change nothing."""


class Revocation(User):
    """What to revoke: every token of a user, or what tokens and an authorizer say of one root.

    `issued_before` spares newer tokens. `authorizer_version` spares newer answers of the root's authorizer.
    """

    root: Root | None = None
    issued_before: Moment | None = None
    authorizer_version: Annotated[int, Field(ge=0, lt=2**63), WHOLE] = 0


class Call(CamelModel):
    """A call over the broker."""

    service_token: str = Field(max_length=MAX_TOKEN_BYTES, repr=False)
    correlation_id: CorrelationId | None = None
    request: Mapping[str, Any] = Field(default_factory=dict)


class _Refusal(CamelModel):
    code: str
    message: str
    retry_after_ms: int | None = None


class _Answer(BaseModel):
    """Any answer. Its other fields are those that the call has over HTTP."""

    model_config = ConfigDict(extra="allow")

    error: _Refusal | None = None


def subject_of(call: str) -> str:
    """Return the subject of a call, such as `put_member`."""
    return f"{PREFIX}{call}"


class Backend:
    """Calls auth over the broker with a service token. Each call raises BeaconfireError."""

    def __init__(self, nc: Client, service_token: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._nc = nc
        self._token = service_token
        self._timeout_s = timeout_s

    async def create_root(self, root: str, *, owner: User, correlation_id: str | None = None) -> bool:
        """Make a root's first owner. Return False if the user owns the root already.

        Raises `conflict` if the root has members, and the user is not an owner among them.
        """
        request = NewRoot(root=root, owner=owner)
        return bool((await self.call("create_root", request, correlation_id=correlation_id))["changed"])

    async def delete_root(self, root: str, *, correlation_id: str | None = None) -> int:
        """Remove all members of a root. Return how many there were."""
        return int((await self.call("delete_root", OneRoot(root=root), correlation_id=correlation_id))["removed"])

    async def put_member(self, root: str, user: User, role: Role, *, correlation_id: str | None = None) -> bool:
        """Give a user a role in a root. Return False if the user has it already."""
        request = MemberRole(root=root, role=role, **user.model_dump())
        return bool((await self.call("put_member", request, correlation_id=correlation_id))["changed"])

    async def remove_member(self, root: str, user: User, *, correlation_id: str | None = None) -> bool:
        """Remove a user from a root. Return False if the user is not a member."""
        request = OneMember(root=root, **user.model_dump())
        return bool((await self.call("remove_member", request, correlation_id=correlation_id))["changed"])

    async def change_members(
        self, changes: Sequence[MemberChange], *, correlation_id: str | None = None
    ) -> list[bool | BeaconfireError]:
        """Make up to `MAX_CHANGES` changes in one transaction.

        Return for each whether it changed something, or why it was refused, which stops no other.
        """
        request = MemberChanges(members=tuple(one.model_dump(mode="json", by_alias=True) for one in changes))
        results = (await self.call("change_members", request, correlation_id=correlation_id))["results"]
        return [bool(one["changed"]) if "changed" in one else _raised(one["error"]) for one in results]

    async def disconnect(self, user: User, *, correlation_id: str | None = None) -> None:
        """Close all open sockets of a user. Their tokens stay valid."""
        await self.call("disconnect", user, correlation_id=correlation_id)

    async def revoke(self, revocation: Revocation, *, correlation_id: str | None = None) -> None:
        """Revoke tokens of a user, or a user's access to one root."""
        await self.call("revoke", revocation, correlation_id=correlation_id)

    async def call(self, name: str, request: BaseModel, *, correlation_id: str | None = None) -> Mapping[str, Any]:
        """Make a call by its name. Return the answer's fields."""
        body = request.model_dump(mode="json", by_alias=True, exclude_none=True)
        call = Call(service_token=self._token, correlation_id=correlation_id, request=body)
        asked = call.model_dump_json(exclude_none=True).encode()
        try:
            message = await self._nc.request(subject_of(name), asked, timeout=self._timeout_s)
            answer = _Answer.model_validate_json(message.data)
        except (nats.errors.Error, ValidationError) as error:
            raise AuthUnavailable from error
        if answer.error is not None:
            raise _raised(answer.error.model_dump(by_alias=True))
        fields: Mapping[str, Any] = answer.model_extra or {}
        return fields


def _raised(told: Mapping[str, Any]) -> BeaconfireError:
    code = errors.row_of(str(told["code"]), errors.INTERNAL)
    return BeaconfireError(code, str(told["message"]), retry_after_ms=told.get("retryAfterMs"))
