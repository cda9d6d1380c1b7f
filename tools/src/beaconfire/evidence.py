"""What `beaconfire why` knows about one event and one user. `why` judges it. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from beaconfire.deadletters import Letter
from beaconfire.stream_search import Message, event_of
from beaconfire_kit.broker import StreamState
from beaconfire_kit.outbox_table import Written
from beaconfire_kit.subjects import InvalidSubject, RoomKey, parse_subject


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the user's membership in the event's root, as the stream has it."""

    offset: int
    at: datetime
    role: str | None
    """None: the user was removed."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """An end of the user's access that the stream has: of all tokens, or of what was granted in one root."""

    offset: int
    at: datetime
    reason: str
    root: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """The event in the outbox of a service."""

    service: str
    written: Written


@dataclass(frozen=True, slots=True)
class SessionSeen:
    """A session of the user, and the gateway that has it, as the gateway answered."""

    gateway: str
    process: Mapping[str, Any]
    session: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was found. `unseen` are sentences about what could not be looked at."""

    asked: str
    user: Mapping[str, Any]
    """As auth's call for operators answers."""
    stream: StreamState
    offset: int | None = None
    """Where the event is, or was, in the stream."""
    message: Message | None = None
    rows: Sequence[Row] = ()
    outboxes: Sequence[str] = ()
    """The services whose outboxes were searched."""
    searched_from: int | None = None
    """The first offset of a search for an id. None: there was none."""
    letter: Letter | None = None
    opinion: Mapping[str, Any] | None = None
    """What a gateway says of the message. None: none was asked, or none answered."""
    processes: Sequence[Mapping[str, Any]] = ()
    """The gateway processes that answered."""
    sessions: Sequence[SessionSeen] = ()
    history: Sequence[Change] = ()
    revocations: Sequence[Revocation] = ()
    next_on_subject: Message | None = None
    """The next event on the same subject."""
    unseen: Sequence[str] = field(default_factory=tuple)

    @property
    def row(self) -> Row | None:
        """The event's row in an outbox."""
        return self.rows[0] if self.rows else None

    @property
    def subject(self) -> str:
        if self.message is not None:
            return self.message.subject
        return self.row.written.subject if self.row is not None else ""

    @property
    def event(self) -> Mapping[str, Any]:
        """The event's JSON, as far as it is still there."""
        if self.message is not None:
            return self.message.event
        return event_of(self.row.written.body) if self.row is not None else {}

    @property
    def event_id(self) -> str:
        """The event's id, or empty."""
        given = self.event.get("id")
        if isinstance(given, str):
            return given
        return self.row.written.event_id if self.row is not None else ""

    @property
    def type(self) -> str:
        return str(self.event.get("type", ""))

    @property
    def audience(self) -> Sequence[str] | None:
        """The roles that may see it. None: all."""
        metadata = self.event.get("metadata")
        audience = metadata.get("audience") if isinstance(metadata, dict) else None
        return list(map(str, audience)) if isinstance(audience, list) else None

    @property
    def rooms(self) -> Sequence[RoomKey]:
        try:
            return parse_subject(self.subject).rooms
        except InvalidSubject:
            return ()

    @property
    def root(self) -> str:
        """The event's root, or empty."""
        return str(self.rooms[0].root) if self.rooms else ""
