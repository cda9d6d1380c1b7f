"""Define the messages between clients and gateways, as plain objects.

They are independent of their bytes. A dialect reads requests and writes messages (`dialect`, `native`).
PROTOCOL.md describes each message under its `TYPE`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, NamedTuple, Protocol, TypeAlias

from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.resync import ResyncReason
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import RoomKey

MessageId: TypeAlias = str | int
"""The client chooses it, and the answer repeats it."""


MAX_ITEMS = 20
"""Items that a user may have selected in a room."""
MAX_ITEM_CHARS = 128
"""How long the name of one may be. Most are ids of at most 64 characters, with a kind."""


class Status(StrEnum):
    """How a user is, as their client says."""

    ONLINE = "online"
    AWAY = "away"
    BUSY = "busy"


# From clients.


@dataclass(frozen=True, slots=True)
class Client:
    """The software at the other end, for the log."""

    name: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Connect:
    """Identifies the user, joins rooms, and asks for the events since `cursor`."""

    TYPE: ClassVar[str] = "connect"

    id: MessageId
    token: str = ""
    """An access token. Empty if it came with the handshake."""
    rooms: Sequence[str] = ()
    types: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The wanted event types of a room, by the room's name. A room that is not here is wanted with every type."""
    cursor: str | None = None
    client: Client | None = None
    last_close: int | None = None
    """The close code that ended the client's previous connection."""
    away_ms: int | None = None
    """How long ago that connection was lost, as the client says."""
    replaces: str | None = None
    """The id of the session that this one takes over from."""
    presence: bool = False
    """Whether to tell who is in these rooms."""
    status: Status = Status.ONLINE
    """How the user is, as others see it from the start."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Joins rooms. With a cursor, the events since then in these rooms come first."""

    TYPE: ClassVar[str] = "subscribe"

    id: MessageId
    rooms: Sequence[str] = ()
    types: Sequence[str] | None = None
    """The wanted event types, of all these rooms. None: every type."""
    cursor: str | None = None
    presence: bool = False
    """Whether to tell who is in these rooms."""


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Leaves rooms."""

    TYPE: ClassVar[str] = "unsubscribe"

    id: MessageId
    rooms: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Refresh:
    """Replaces the session's token with a newer one."""

    TYPE: ClassVar[str] = "refresh"

    id: MessageId
    token: str = ""


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a sign of life."""

    TYPE: ClassVar[str] = "ping"

    id: MessageId
    remaining: bool = False
    """Whether the reply says what the client may still send."""


@dataclass(frozen=True, slots=True)
class SetPresence:
    """Says how the user is. Others in the session's rooms see it."""

    TYPE: ClassVar[str] = "presence"

    id: MessageId
    status: Status


@dataclass(frozen=True, slots=True)
class SetTyping:
    """Says whether the user is typing in a room. The other sessions in it are told."""

    TYPE: ClassVar[str] = "typing"

    id: MessageId
    room: str
    typing: bool = True


@dataclass(frozen=True, slots=True)
class Select:
    """Says what the user has selected in a room. The user's other sessions in it are told."""

    TYPE: ClassVar[str] = "select"

    id: MessageId
    room: str
    items: Sequence[str] = ()
    """What is selected, in words of the application. Empty: nothing."""


Request: TypeAlias = Connect | Subscribe | Unsubscribe | Refresh | Ping | SetPresence | SetTyping | Select


class InvalidMessage(BeaconfireError):
    """The client's bytes are not a request. `message_id` is the id in them, if it could be read."""

    def __init__(self, code: errors.ErrorCode, text: str, message_id: MessageId | None = None) -> None:
        super().__init__(code, text)
        self.message_id = message_id


# From the gateway.


class Person(NamedTuple):
    """A user in a room."""

    user_id: str
    status: Status
    devices: int
    """The user's sessions in the room, at least 1."""


@dataclass(frozen=True, slots=True)
class Presence:
    """Who is in a room. It replaces whatever the client knew of that."""

    TYPE: ClassVar[str] = "presence"

    room: str
    count: int
    """How many users are in the room."""
    users: Sequence[Person]
    """All of them, or a sample if there are very many."""


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """What has changed of the users of a room that the client knows."""

    TYPE: ClassVar[str] = "presence"

    room: str
    count: int
    joined: Sequence[Person] = ()
    changed: Sequence[Person] = ()
    left: Sequence[str] = ()
    """The ids of users."""


@dataclass(frozen=True, slots=True)
class Typing:
    """A user types in a room, or no longer does."""

    TYPE: ClassVar[str] = "typing"
    EVENT_TYPE: ClassVar[str] = "user.typing"
    """The event of the catalogue that means the same. A session that wants some types hears it if this is one."""

    room: RoomKey
    user_id: str
    typing: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """The user of the session has selected something in a room, in another session."""

    TYPE: ClassVar[str] = "selection"

    room: RoomKey
    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class RoomAnswer:
    """The answer for one of the rooms that a request names. Success unless it has an error."""

    error: BeaconfireError | None = None
    room: str | None = None
    """The room's long name, if the client asked for it by a short one."""
    recovered: bool | None = None
    """Whether everything since the cursor was sent. None if the request had no cursor."""
    presence: Presence | None = None
    """Who is there. None if the request did not ask, or the room has no presence."""
    selection: Sequence[str] = ()
    """What the user has selected there, in another session."""


@dataclass(frozen=True, slots=True)
class Ack:
    """Answers `connect`: the session has started."""

    TYPE: ClassVar[str] = "connection.ack"

    id: MessageId
    session_id: str
    user_id: str
    cursor: str
    """The cursor at which the session starts. Missed events after it follow."""
    heartbeat_s: int
    """The client hears something at least this often."""
    limits: Mapping[str, int]
    """Every limit that a client can reach, by the name clients know it by."""
    degraded: bool
    """Whether events may be late because the broker does not answer."""
    rooms: Mapping[str, RoomAnswer]
    """By the name the client used."""
    recovery_secret: str = ""
    """What a client sends to recover the session, if it cannot name its rooms (ADR 0050)."""
    gateway: str = ""
    """The gateway's name, for people."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Answers any other request that succeeded, at least in part."""

    TYPE: ClassVar[str] = "reply"

    id: MessageId
    to: str
    """The type of the request. Clients of most protocols know it by the id."""
    rooms: Mapping[str, RoomAnswer] | None = None
    """By the name the client used. None if the request names no rooms."""
    cursor: str | None = None
    """After `subscribe`: the cursor at which the new rooms start."""
    remaining: Mapping[str, int] | None = None
    """After a `ping` that asked for it: what the client may still send, by the name of the limit."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Answers a request that was refused as a whole."""

    TYPE: ClassVar[str] = "reply"

    id: MessageId
    error: BeaconfireError


@dataclass(frozen=True, slots=True)
class Error:
    """Answers bytes that are not a request, or a request over a rate limit."""

    TYPE: ClassVar[str] = "error"

    id: MessageId | None
    """None if it could not be read."""
    error: BeaconfireError


class Route(Protocol):
    """The address of an event."""

    @property
    def subject(self) -> str: ...
    @property
    def rooms(self) -> Sequence[RoomKey]:
        """All rooms of the subject, whether or not the session is in them."""
        ...


class Event(Protocol):
    """An event of one or several of the session's rooms. The ring's entries are events (`entry.Entry`)."""

    TYPE: ClassVar[str] = "event"

    @property
    def type(self) -> str:
        """The publisher's type, such as `settlement_updated`."""
        ...

    @property
    def offset(self) -> int:
        """Its place in the stream; 0 if it has none because it is ephemeral, or if it was held back (conflation)."""
        ...

    @property
    def cursor(self) -> str | None:
        """The cursor of a client that has everything up to it; None for an ephemeral event.

        An event that was held back has the cursor that its receiver has reached, which is not below its own.
        """
        ...

    @property
    def route(self) -> Route: ...
    @property
    def body(self) -> bytes:
        """The publisher's own JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Position:
    """Moves the client's cursor: it was sent everything up to here."""

    TYPE: ClassVar[str] = "position"

    cursor: str


@dataclass(frozen=True, slots=True)
class Restored:
    """Missed events, for the `subscribe` that asked for them. Its `reply` comes after the last of these."""

    TYPE: ClassVar[str] = "restored"

    id: MessageId
    rooms: Sequence[str]
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class RoomLeft:
    """The session is no longer in a room, although its client did not ask to leave."""

    TYPE: ClassVar[str] = "room.left"

    room: str
    reason: str


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """The user's role in a root has changed. The session stays in its rooms."""

    TYPE: ClassVar[str] = "role.changed"

    root: str
    role: Role


@dataclass(frozen=True, slots=True)
class TokenExpiring:
    """The token is about to expire: the client should send `refresh`."""

    TYPE: ClassVar[str] = "token.expiring"

    in_s: int


@dataclass(frozen=True, slots=True)
class Resync:
    """Events of these rooms may be missing: the client must load their state again."""

    TYPE: ClassVar[str] = "resync"

    rooms: Sequence[str]
    reason: ResyncReason
    cursor: str
    """The cursor at which these rooms continue."""


@dataclass(frozen=True, slots=True)
class Degraded:
    """Events may be late from now on."""

    TYPE: ClassVar[str] = "degraded"

    reason: str = "broker_unreachable"


@dataclass(frozen=True, slots=True)
class Live:
    """Undoes `degraded`."""

    TYPE: ClassVar[str] = "live"


@dataclass(frozen=True, slots=True)
class GoAway:
    """The gateway stops: the client should connect elsewhere after a while, and no later than `within_ms`."""

    TYPE: ClassVar[str] = "goaway"

    after_ms: int
    within_ms: int


Message: TypeAlias = (
    Ack
    | Reply
    | Refusal
    | Error
    | Position
    | Restored
    | RoomLeft
    | RoleChanged
    | TokenExpiring
    | Resync
    | Degraded
    | Live
    | GoAway
    | Presence
    | PresenceChange
    | Typing
    | Selection
)
"""Everything a gateway sends except events, whose bytes are shared (`wire.Wire.encode_event`)."""
