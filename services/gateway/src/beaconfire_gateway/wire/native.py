"""The native protocol, `beaconfire.v1`, as JSON text (PROTOCOL.md §4 and §5)."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel

from beaconfire_gateway.wire import messages
from beaconfire_gateway.wire.compact_json import to_json
from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.messages import InvalidMessage, RoomAnswer
from beaconfire_kit import errors

SUBPROTOCOL = "beaconfire.v1"
BATCHING_SUBPROTOCOL = "beaconfire.v1.batch"
"""The same, except that the events of one moment come as one message (`batching`)."""
MAX_ROOMS_PER_MESSAGE = 100
MAX_TYPES = 100
MAX_CURSOR = 64
_MAX_NAMES = 100_000

_MessageId = Annotated[str, StringConstraints(min_length=1, max_length=64)] | int
RoomName = Annotated[str, StringConstraints(max_length=300)]
# `fail_fast`: a list may have thousands of items, and an error for each would take longer than anything else here.
RoomNames = Annotated[tuple[RoomName, ...], Field(max_length=MAX_ROOMS_PER_MESSAGE, fail_fast=True)]
TypeNames = Annotated[
    tuple[Annotated[str, StringConstraints(max_length=128)], ...],
    Field(min_length=1, max_length=MAX_TYPES, fail_fast=True),
]
TypesByRoom = Annotated[dict[RoomName, TypeNames], Field(max_length=MAX_ROOMS_PER_MESSAGE)]
_Item = Annotated[str, StringConstraints(max_length=messages.MAX_ITEM_CHARS)]
_Items = Annotated[tuple[_Item, ...], Field(max_length=messages.MAX_ITEMS, fail_fast=True)]
CursorText = Annotated[str, StringConstraints(max_length=MAX_CURSOR)]
StatusName = Literal["online", "away", "busy"]
CloseCode = Annotated[int, Field(ge=0, le=65_535)]
AwayMs = Annotated[int, Field(ge=0, le=2**53 - 1)]
SessionId = Annotated[str, StringConstraints(max_length=64)]


class Native:
    """Implements `dialect.Dialect`."""

    name = SUBPROTOCOL

    def __init__(self) -> None:
        self._names: dict[str, bytes] = {}

    def decode(self, data: bytes) -> messages.Request:
        """Read a client's message. Raises only InvalidMessage (`bad_request` or `unknown_type`)."""
        try:
            return _adapter().validate_json(data, by_alias=True, by_name=False).request()
        except ValidationError as error:
            raise _explain(data, error) from None

    def encode(self, message: messages.Message) -> bytes:
        """A message as JSON."""
        if isinstance(message, messages.Restored):
            head = to_json({"type": message.TYPE, "id": message.id, "rooms": list(message.rooms)})
            events = b",".join(b"".join(self.event(one)) for one in message.events)
            return b'%s,"events":[%s]}' % (head[:-1], events)
        return to_json({"type": message.TYPE, **fields_of(message)})

    def event(self, event: messages.Event) -> Spliced:
        """An event message around the publisher's own bytes."""
        route = event.route
        names = self._names.get(route.subject) or self._name_rooms(route)
        if event.offset:
            return b'{"type":"event","offset":%d,"rooms":%s,"event":' % (event.offset, names), event.body, b"}"
        cursor = event.cursor
        if cursor is None:
            return b'{"type":"event","rooms":%s,"event":' % names, event.body, b"}"
        return b'{"type":"event","cursor":"%s","rooms":%s,"event":' % (cursor.encode(), names), event.body, b"}"

    def _name_rooms(self, route: messages.Route) -> bytes:
        """The names of an event's rooms, kept by its subject if it has one."""
        if not route.subject:
            return to_json([str(room) for room in route.rooms])
        if len(self._names) >= _MAX_NAMES:
            self._names.clear()
        names = self._names[route.subject] = to_json([str(room) for room in route.rooms])
        return names


def several(messages: Sequence[bytes]) -> Spliced:
    """One message of several events, whose messages these are."""
    return b'{"type":"events","events":[', b",".join(messages), b"]}"


# Messages from clients.


class _Message(BaseModel):
    # Unknown fields are ignored: a newer client may send fields that an older gateway does not know.
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, strict=True)

    id: _MessageId


class ClientFields(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(default="", max_length=64)
    version: str = Field(default="", max_length=64)

    def client(self) -> messages.Client:
        return messages.Client(self.name, self.version)


class _Connect(_Message):
    type: Literal["connect"]
    token: str = Field(default="", max_length=16_384)
    rooms: RoomNames = ()
    types: TypesByRoom = {}
    cursor: CursorText | None = None
    client: ClientFields | None = None
    last_close: CloseCode | None = None
    away_ms: AwayMs | None = None
    replaces: SessionId | None = None
    presence: bool = False
    status: StatusName | None = None

    @field_validator("types")
    @classmethod
    def _of_its_rooms(cls, types: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        stray = types.keys() - set(info.data.get("rooms", types))
        if stray:
            raise ValueError(f"{min(stray)!r} is not among `rooms`")
        return types

    def request(self) -> messages.Connect:
        return messages.Connect(
            self.id,
            token=self.token,
            rooms=self.rooms,
            types=self.types,
            cursor=self.cursor,
            client=None if self.client is None else self.client.client(),
            last_close=self.last_close,
            away_ms=self.away_ms,
            replaces=self.replaces,
            presence=self.presence,
            status=messages.Status(self.status or messages.Status.ONLINE),
        )


class _Subscribe(_Message):
    type: Literal["subscribe"]
    rooms: RoomNames
    types: TypeNames | None = None
    cursor: CursorText | None = None
    presence: bool = False

    def request(self) -> messages.Subscribe:
        return messages.Subscribe(self.id, self.rooms, self.types, self.cursor, self.presence)


class _Unsubscribe(_Message):
    type: Literal["unsubscribe"]
    rooms: RoomNames

    def request(self) -> messages.Unsubscribe:
        return messages.Unsubscribe(self.id, self.rooms)


class _Refresh(_Message):
    type: Literal["refresh"]
    token: str = Field(max_length=16_384)

    def request(self) -> messages.Refresh:
        return messages.Refresh(self.id, self.token)


class _Ping(_Message):
    type: Literal["ping"]
    remaining: bool = False

    def request(self) -> messages.Ping:
        return messages.Ping(self.id, self.remaining)


class _SetPresence(_Message):
    type: Literal["presence"]
    status: StatusName

    def request(self) -> messages.SetPresence:
        return messages.SetPresence(self.id, messages.Status(self.status))


class _SetTyping(_Message):
    type: Literal["typing"]
    room: RoomName
    typing: bool = True

    def request(self) -> messages.SetTyping:
        return messages.SetTyping(self.id, self.room, self.typing)


class _Select(_Message):
    type: Literal["select"]
    room: RoomName
    items: _Items

    def request(self) -> messages.Select:
        return messages.Select(self.id, self.room, self.items)


_ClientMessage = _Connect | _Subscribe | _Unsubscribe | _Refresh | _Ping | _SetPresence | _SetTyping | _Select
_TYPES = frozenset(one.TYPE for one in get_args(messages.Request))


@cache
def _adapter() -> TypeAdapter[_ClientMessage]:
    return TypeAdapter(Annotated[_ClientMessage, Field(discriminator="type")])


def _explain(data: bytes, error: ValidationError) -> InvalidMessage:
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        return InvalidMessage(errors.BAD_REQUEST, "a message is one JSON object")
    if not isinstance(raw, dict):
        return InvalidMessage(errors.BAD_REQUEST, "a message is one JSON object")
    message_id = read_id(raw.get("id"))
    kind = raw.get("type")
    if not isinstance(kind, str):
        return InvalidMessage(errors.BAD_REQUEST, "`type` is missing", message_id)
    if kind not in _TYPES:
        return InvalidMessage(errors.UNKNOWN_TYPE, f"there is no message type {kind[:64]!r}", message_id)
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(step) for step in first["loc"][1:]) or "message"
    return InvalidMessage(errors.BAD_REQUEST, f"{where}: {first['msg'].removeprefix('Value error, ')}", message_id)


def read_id(found: Any) -> messages.MessageId | None:
    """Return the id of a message that may be invalid, or None if it has no id that could be sent back."""
    if isinstance(found, str):
        # Python's JSON parser also accepts half of a surrogate pair, which cannot be encoded again.
        return found[:64] if found.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in found) else None
    return found if isinstance(found, int) else None


# Messages to clients: the fields of each, in the order of PROTOCOL.md.


def fields_of(message: messages.Message) -> Mapping[str, Any]:
    """The fields of a message without its type, for dialects that write them in another frame. Not for `Restored`."""
    return _FIELDS[type(message)](message)


def _ack(message: messages.Ack) -> Mapping[str, Any]:
    return {
        "id": message.id,
        "sessionId": message.session_id,
        **({"gateway": message.gateway} if message.gateway else {}),
        "userId": message.user_id,
        "cursor": message.cursor,
        "heartbeatS": message.heartbeat_s,
        "limits": message.limits,
        "degraded": message.degraded,
        "rooms": _rooms(message.rooms),
    }


def _reply(message: messages.Reply) -> Mapping[str, Any]:
    fields: dict[str, Any] = {"id": message.id, "success": True}
    if message.rooms is not None:
        fields["rooms"] = _rooms(message.rooms)
    if message.cursor is not None:
        fields["cursor"] = message.cursor
    if message.remaining is not None:
        fields["remaining"] = message.remaining
    return fields


def _error(message: messages.Error) -> Mapping[str, Any]:
    return message.error.body() if message.id is None else {"id": message.id, **message.error.body()}


_FIELDS: dict[type, Callable[[Any], Mapping[str, Any]]] = {
    messages.Ack: _ack,
    messages.Reply: _reply,
    messages.Refusal: lambda message: {"id": message.id, "success": False, "error": message.error.body()},
    messages.Error: _error,
    messages.Position: lambda message: {"cursor": message.cursor},
    messages.RoomLeft: lambda message: {"room": message.room, "reason": message.reason},
    messages.RoleChanged: lambda message: {"root": message.root, "role": message.role},
    messages.TokenExpiring: lambda message: {"inS": message.in_s},
    messages.Resync: lambda message: {
        "rooms": list(message.rooms),
        "reason": message.reason,
        "cursor": message.cursor,
    },
    messages.Degraded: lambda message: {"reason": message.reason},
    messages.Live: lambda _message: {},
    messages.GoAway: lambda message: {"afterMs": message.after_ms, "withinMs": message.within_ms},
    messages.Presence: lambda message: {"room": message.room, **_present(message)},
    messages.PresenceChange: lambda message: {
        "room": message.room,
        "count": message.count,
        "joined": list(map(_person, message.joined)),
        "changed": list(map(_person, message.changed)),
        "left": list(message.left),
    },
    messages.Typing: lambda message: {
        "room": str(message.room),
        "userId": message.user_id,
        "typing": message.typing,
    },
    messages.Selection: lambda message: {"room": str(message.room), "items": list(message.items)},
}


def _rooms(answers: Mapping[str, RoomAnswer]) -> dict[str, Any]:
    return {name: _room(answer) for name, answer in answers.items()}


def _room(answer: RoomAnswer) -> dict[str, Any]:
    if answer.error is not None:
        return {"success": False, "error": answer.error.body()}
    fields: dict[str, Any] = {"success": True}
    if answer.room is not None:
        fields["room"] = answer.room
    if answer.recovered is not None:
        fields["recovered"] = answer.recovered
    if answer.presence is not None:
        fields["presence"] = _present(answer.presence)
    if answer.selection:
        fields["selection"] = list(answer.selection)
    return fields


def _present(presence: messages.Presence) -> dict[str, Any]:
    return {"count": presence.count, "users": list(map(_person, presence.users))}


def _person(person: messages.Person) -> dict[str, Any]:
    return {"userId": person.user_id, "status": person.status, "devices": person.devices}
