"""The gateway around its sessions: what they share, and what they ask of what is outside. No I/O."""

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol

from beaconfire_gateway.fanout.hub import Hub, S
from beaconfire_gateway.fanout.outbound import Outbound
from beaconfire_gateway.fanout.ring import Entry, Ring
from beaconfire_gateway.sessions.arrivals import Arrivals
from beaconfire_gateway.sessions.farewell import Farewell
from beaconfire_gateway.sessions.limits import Doorkeeper, Limits, Users
from beaconfire_gateway.sessions.pace import Pace
from beaconfire_gateway.sessions.pieces import Pieces
from beaconfire_gateway.sessions.place import Place
from beaconfire_gateway.sessions.probes import Probes
from beaconfire_gateway.sessions.timers import Wheel
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.resync import ResyncReason
from beaconfire_kit.subjects import Pair
from beaconfire_kit.tokens import Claims


class HistoryGone(Exception):
    """The stream no longer has everything after the offset."""


class History(Protocol):
    """The stream, further back than the ring (`history`)."""

    async def page(self, roots: Iterable[Pair], after: int, ring: Ring) -> tuple[Sequence[Entry], int]: ...
    async def end(self) -> int: ...


class Access(Protocol):
    """Who may connect, and who may see what (`membership`)."""

    async def verify(self, token: str) -> Claims: ...
    async def decide(self, claims: Claims, rooms: Sequence[str]) -> Mapping[str, Place | BeaconfireError]: ...


@dataclass(slots=True)
class Context(Generic[S]):
    """One for each gateway. `handle` does what a client's message says (`requests`)."""

    hub: Hub[S]
    ring: Ring
    outbound: Outbound[S]
    access: Access
    history: History
    handle: Callable[[S, bytes], None]
    wheel: Wheel
    spawn: Callable[[Coroutine[Any, Any, None]], object]
    pace: Pace
    limits: Limits
    users: Users
    door: Doorkeeper
    session_prefix: str = ""
    """What the ids of its sessions begin with."""
    replace_elsewhere: Callable[[str, str], None] = lambda _session_id, _user_id: None
    """Called with a session that is not here, and the user who replaces it: another worker may have it (`siblings`)."""
    connecting: set[S] = field(default_factory=set)
    pieces: Pieces = field(default_factory=Pieces)
    arrivals: Arrivals = field(default_factory=Arrivals)
    epoch: str = ""
    probes: Probes = field(init=False)
    position: int = 0
    farewell: Farewell | None = None
    """Set once the gateway is to stop: who connects from then on is told so."""
    is_degraded: bool = False
    """Whether the broker does not answer, so that events may be late."""

    def __post_init__(self) -> None:
        self.probes = Probes(self.wheel)

    def cursor(self, offset: int) -> str:
        """What a client keeps of its place."""
        return str(Cursor(self.epoch, offset))

    def read_cursor(self, cursor: str | None) -> int | None:
        """The offset of a cursor of this epoch, else None."""
        parsed = Cursor.parse(cursor) if cursor else None
        return parsed.offset if parsed is not None and parsed.epoch == self.epoch else None

    def find_place(self, cursor: str | None) -> tuple[int, ResyncReason | None]:
        """The offset to go on from, and why it cannot be the cursor's."""
        if cursor is None:
            return self.position, None
        offset = self.read_cursor(cursor)
        if offset is None:
            return self.position, ResyncReason.EPOCH_CHANGED
        return (offset, None) if offset <= self.position else (self.position, ResyncReason.AHEAD)
