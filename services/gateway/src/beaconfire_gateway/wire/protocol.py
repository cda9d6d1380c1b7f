"""The native protocol's messages (PROTOCOL.md §4 and §5): what clients may send, and what we send, as bytes.

Frames to clients are built here and nowhere else, WebSocket header included.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Annotated, Any, Literal

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

from beaconfire_gateway.wire.websocket_frames import encode, payload
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.resync import ResyncReason
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import RoomKey

SUBPROTOCOL = "beaconfire.v1"
MAX_ROOMS_PER_MESSAGE = 100
MAX_TYPES = 100

MessageId = Annotated[str, StringConstraints(min_length=1, max_length=64)] | int
RoomName = Annotated[str, StringConstraints(max_length=300)]
RoomNames = Annotated[tuple[RoomName, ...], Field(max_length=MAX_ROOMS_PER_MESSAGE)]
TypeNames = Annotated[
    tuple[Annotated[str, StringConstraints(max_length=64)], ...], Field(min_length=1, max_length=MAX_TYPES)
]


class _Message(BaseModel):
    # Unknown fields pass: a newer client may send what an older gateway does not know.
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, strict=True)

    id: MessageId


class ClientName(BaseModel):
    """Which software the client is, for the log line of its session."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(default="", max_length=64)
    version: str = Field(default="", max_length=64)


class Connect(_Message):
    """Proves who the user is, and restores rooms."""

    type: Literal["connect"]
    token: str = Field(default="", max_length=16_384)
    rooms: RoomNames = ()
    types: dict[RoomName, TypeNames] = Field(default={}, max_length=MAX_ROOMS_PER_MESSAGE)
    """By room; one that is not here is wanted with every type."""
    cursor: str | None = Field(default=None, max_length=64)
    client: ClientName | None = None
    last_close: int | None = Field(default=None, ge=0, le=65_535)
    """The close code that ended the client's last connection, for operators."""
    replaces: str | None = Field(default=None, max_length=64)

    @field_validator("types")
    @classmethod
    def _of_its_rooms(cls, types: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        stray = types.keys() - set(info.data.get("rooms", types))
        if stray:
            raise ValueError(f"{min(stray)!r} is not among `rooms`")
        return types


class Subscribe(_Message):
    """Joins rooms; with a cursor, after what came in them since."""

    type: Literal["subscribe"]
    rooms: RoomNames
    types: TypeNames | None = None
    """Of all these rooms; None: every type."""
    cursor: str | None = Field(default=None, max_length=64)


class Unsubscribe(_Message):
    """Leaves rooms."""

    type: Literal["unsubscribe"]
    rooms: RoomNames


class Refresh(_Message):
    """Takes over a newer token."""

    type: Literal["refresh"]
    token: str = Field(max_length=16_384)


class Ping(_Message):
    """Asks for a sign of life."""

    type: Literal["ping"]


ClientMessage = Connect | Subscribe | Unsubscribe | Refresh | Ping
_TYPES = frozenset({"connect", "subscribe", "unsubscribe", "refresh", "ping"})


class InvalidMessage(BeaconfireError):
    """A frame that is no message of the protocol. `message_id` is the client's, where it could be read."""

    def __init__(
        self, code: errors.ErrorCode, text: str, message_id: Any = None, *, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(code, text, retry_after_ms=retry_after_ms)
        self.message_id = message_id if isinstance(message_id, str | int) else None

    @classmethod
    def of(cls, error: BeaconfireError, text: bytes) -> "InvalidMessage":
        """The error as an answer to a message, naming its id where it has one."""
        try:
            message_id: MessageId | None = read_message(text).id
        except InvalidMessage as problem:
            message_id = problem.message_id
        return cls.answering(message_id, error)

    @classmethod
    def answering(cls, message_id: MessageId | None, error: BeaconfireError) -> "InvalidMessage":
        """The error as an answer to the message with this id."""
        return cls(error.code, error.message, message_id, retry_after_ms=error.retry_after_ms)


@cache
def _adapter() -> TypeAdapter[ClientMessage]:
    return TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])


def read_message(text: bytes) -> ClientMessage:
    """Read a client's message. Raises InvalidMessage (`bad_request` or `unknown_type`), never anything else."""
    try:
        return _adapter().validate_json(text, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _explain(text, error) from None


def is_unsubscribe(text: bytes) -> bool:
    """Whether this is a proper `unsubscribe`. One that spells its type with escapes is not recognised."""
    if b'"unsubscribe"' not in text:
        return False
    try:
        return isinstance(read_message(text), Unsubscribe)
    except InvalidMessage:
        return False


def _explain(text: bytes, error: ValidationError) -> InvalidMessage:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return InvalidMessage(errors.BAD_REQUEST, "a message is one JSON object")
    if not isinstance(raw, dict):
        return InvalidMessage(errors.BAD_REQUEST, "a message is one JSON object")
    message_id = raw.get("id")
    if isinstance(message_id, str):
        # Half of a surrogate pair is a string to Python's parser, and no text: it could not be sent back.
        message_id = message_id[:64] if message_id.isascii() or _is_text(message_id) else None
    kind = raw.get("type")
    if not isinstance(kind, str):
        return InvalidMessage(errors.BAD_REQUEST, "`type` is missing", message_id)
    if kind not in _TYPES:
        return InvalidMessage(errors.UNKNOWN_TYPE, f"there is no message type {kind[:64]!r}", message_id)
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(step) for step in first["loc"][1:]) or "message"
    return InvalidMessage(errors.BAD_REQUEST, f"{where}: {first['msg'].removeprefix('Value error, ')}", message_id)


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


# What we send.


def room_names(rooms: Iterable[RoomKey]) -> bytes:
    """The `rooms` of an event frame, as JSON: cached by the caller for each subject."""
    return json.dumps([str(room) for room in rooms], separators=(",", ":")).encode()


def event(offset: int | None, rooms: bytes, body: bytes) -> bytes:
    """An event frame around the publisher's own bytes; `offset` None for an ephemeral one."""
    if offset is None:
        return encode(b'{"type":"event","rooms":%s,"event":%s}' % (rooms, body))
    return encode(b'{"type":"event","offset":%d,"rooms":%s,"event":%s}' % (offset, rooms, body))


def restored(message_id: MessageId, rooms: Iterable[str], frames: Iterable[bytes]) -> bytes:
    """Event frames of the past, as they were sent, for the subscription that asked for them."""
    head = json.dumps(
        {"type": "restored", "id": message_id, "rooms": list(rooms)}, separators=(",", ":"), ensure_ascii=False
    )
    return encode(b'%s,"events":[%s]}' % (head[:-1].encode(), b",".join(map(payload, frames))))


@lru_cache(maxsize=16)
def position(cursor: str) -> bytes:
    """Mostly the same for all who are told at one time."""
    return _frame({"type": "position", "cursor": cursor})


def ack(
    message_id: MessageId,
    *,
    session_id: str,
    user_id: str,
    cursor: str,
    heartbeat_s: int,
    limits: Mapping[str, int],
    degraded: bool,
    rooms: Mapping[str, Any],
) -> bytes:
    return _frame(
        {
            "type": "connection.ack",
            "id": message_id,
            "sessionId": session_id,
            "userId": user_id,
            "cursor": cursor,
            "heartbeatS": heartbeat_s,
            "limits": limits,
            "degraded": degraded,
            "rooms": rooms,
        }
    )


def reply(message_id: MessageId, *, rooms: Mapping[str, Any] | None = None, cursor: str | None = None) -> bytes:
    body: dict[str, Any] = {"type": "reply", "id": message_id, "success": True}
    if rooms is not None:
        body["rooms"] = rooms
    if cursor is not None:
        body["cursor"] = cursor
    return _frame(body)


def refusal(message_id: MessageId, error: BeaconfireError) -> bytes:
    return _frame({"type": "reply", "id": message_id, "success": False, "error": error.body()})


def error(problem: InvalidMessage) -> bytes:
    body: dict[str, Any] = {"type": "error"}
    if problem.message_id is not None:
        body["id"] = problem.message_id
    return _frame(body | problem.body())


def room_left(room: str, reason: str) -> bytes:
    return _frame({"type": "room.left", "room": room, "reason": reason})


def role_changed(root: str, role: Role) -> bytes:
    return _frame({"type": "role.changed", "root": root, "role": role})


def token_expiring(in_s: int) -> bytes:
    return _frame({"type": "token.expiring", "inS": in_s})


def resync(rooms: Iterable[str], reason: ResyncReason, cursor: str) -> bytes:
    return _frame({"type": "resync", "rooms": list(rooms), "reason": reason, "cursor": cursor})


def degraded() -> bytes:
    return _frame({"type": "degraded", "reason": "broker_unreachable"})


def live() -> bytes:
    return _frame({"type": "live"})


def goaway(after_ms: int, within_ms: int) -> bytes:
    return _frame({"type": "goaway", "afterMs": after_ms, "withinMs": within_ms})


def _frame(body: Mapping[str, Any]) -> bytes:
    return encode(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())
