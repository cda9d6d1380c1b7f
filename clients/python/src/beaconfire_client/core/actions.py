"""What comes out of the core: what to do on the network, and what to tell the application."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from beaconfire_client.core.backoff import MAX_ATTEMPTS
from beaconfire_client.core.protocol import Frame, Message
from beaconfire_client.core.ways import Way

TokenReason = Literal["connect", "reconnect", "refused", "expiring"]
"""Why a token is wanted: the first one, for the next connection, instead of a refused one, or before it expires."""
PresenceStatus = Literal["online", "away", "busy"]


class State(StrEnum):
    """Where the connection is."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the state is `error`: a code of PROTOCOL.md §6, `closed_<close code>`, `unreachable` or `unusable`."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the connection."""

    state: State = State.DISCONNECTED
    attempt: int = 0
    """The number of the current or next attempt, from 1. In the state `error`, how many have failed. Else 0."""
    max_attempts: int | None = MAX_ATTEMPTS
    is_reconnect: bool = False
    """Whether there was a connection before."""
    transport: Way | None = None
    """What connects it. None unless it is connected."""
    reason: Reason | None = None
    """Why the state is `error`, or why the last attempt failed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the gateway said no. The codes are those of PROTOCOL.md §6."""

    code: str
    message: str
    retry_after_s: float = 0.0

    @classmethod
    def of(cls, error: Mapping[str, Any] | None) -> "Refusal":
        """Read the `error` of an answer."""
        if not error:
            return cls("bad_request", "It was refused without a reason")
        after_ms = error.get("retryAfterMs") or 0
        return cls(str(error.get("code", "bad_request")), str(error.get("message", "")), after_ms / 1000)


@dataclass(frozen=True, slots=True)
class Resync:
    """Events of these rooms were missed for good: load their state again. Events after `cursor` follow."""

    rooms: Sequence[str]
    reason: str
    cursor: str


@dataclass(frozen=True, slots=True)
class PresentUser:
    """A user in a room."""

    user_id: str
    status: PresenceStatus
    devices: int


@dataclass(frozen=True, slots=True)
class WhoIsHere:
    """The users in a room. In a room of more than 100 users, `users` is a sample of 100."""

    count: int = 0
    users: Mapping[str, PresentUser] = field(default_factory=dict)


# On the network.


@dataclass(frozen=True, slots=True)
class Open:
    """Open a link. Report `opened`, `received` and `ended` of it."""

    link: int
    way: Way


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message on a link."""

    link: int
    message: Message


@dataclass(frozen=True, slots=True)
class Drop:
    """Close a link. Nothing more of it need be reported."""

    link: int


@dataclass(frozen=True, slots=True)
class FetchToken:
    """Get a token. Report `token_arrived` or `token_failed` with this number."""

    number: int
    reason: TokenReason


# For the application. `consumer` is what `Connection.subscribe` returned.


@dataclass(frozen=True, slots=True)
class StateChanged:
    status: Status


@dataclass(frozen=True, slots=True)
class Delivered:
    """An event for a consumer."""

    consumer: int
    frame: Frame
    epoch: str


@dataclass(frozen=True, slots=True)
class Joined:
    """The room is joined: the consumer gets every event from now on and, if it has a cursor, it had all since then."""

    consumer: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The gateway does not let the consumer into its room, at least for the moment."""

    consumer: int
    refusal: Refusal
    will_retry: bool


@dataclass(frozen=True, slots=True)
class Left:
    """The gateway has taken the client out of the room for good."""

    consumer: int
    reason: str


@dataclass(frozen=True, slots=True)
class Resynced:
    """A consumer must load the state of its room again."""

    consumer: int
    resync: Resync


@dataclass(frozen=True, slots=True)
class HereChanged:
    """Other users are in the consumer's room than before."""

    consumer: int
    here: WhoIsHere


@dataclass(frozen=True, slots=True)
class TypingChanged:
    """Other users type in the consumer's room than before."""

    consumer: int
    users: frozenset[str]


@dataclass(frozen=True, slots=True)
class Degraded:
    """Events may be late: the gateway cannot reach the broker."""

    reason: str


@dataclass(frozen=True, slots=True)
class Live:
    """Events flow again. Nothing was lost."""


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """The user's role in a root has changed."""

    root: str
    role: str


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """The gateway could not use a message of the client."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Answered:
    """The gateway has answered a request of the application. `refusal` is None if it was carried out."""

    request: int
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class Sighted:
    """A change came back, or never will: then `code` says why."""

    sighting: int
    code: str | None = None
    message: str = ""


Action = (
    Open
    | Send
    | Drop
    | FetchToken
    | StateChanged
    | Delivered
    | Joined
    | Refused
    | Left
    | Resynced
    | HereChanged
    | TypingChanged
    | Degraded
    | Live
    | RoleChanged
    | MessageRefused
    | Answered
    | Sighted
)
Notice = StateChanged | Degraded | Live | RoleChanged | MessageRefused
"""What concerns the application as a whole."""
