"""The gateway as its sessions see it: the state they share, and changes for all of them. No I/O."""

import secrets
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from beaconfire_gateway.fanout.busiest_root import BusiestRoot
from beaconfire_gateway.fanout.conflation import HELD_BEHIND, MAX_HELD_BYTES, Conflator
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.fanout.outbound import BATCH_BYTES, SLICE, Outbound
from beaconfire_gateway.fanout.ring import Ring
from beaconfire_gateway.sessions.automatic_rooms import AutomaticRooms
from beaconfire_gateway.sessions.beginnings import Beginnings
from beaconfire_gateway.sessions.catchup_cache import CatchUpCache
from beaconfire_gateway.sessions.fair_queue import STEPS, FairQueue, Step
from beaconfire_gateway.sessions.goaway import GoAways
from beaconfire_gateway.sessions.limits import Doorkeeper, Limits, Users
from beaconfire_gateway.sessions.offset_waiters import OffsetWaiters
from beaconfire_gateway.sessions.probes import Probes
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_gateway.sessions.timers import Timers
from beaconfire_gateway.wire.messages import Degraded, InvalidMessage, Live, Message, Presence, Request, Status
from beaconfire_kit import logs, metrics
from beaconfire_kit.catalogue.binary_fields import BinaryFields
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.resync import ResyncCause
from beaconfire_kit.subjects import Pair, RoomKey
from beaconfire_kit.tokens import Claims

if TYPE_CHECKING:
    from beaconfire_gateway.sessions.session import Session

log = logs.get(__name__)

RING_BYTES = metrics.Gauge(
    "beaconfire_gateway_ring_bytes", "Memory of the newest events, which the gateway keeps for clients that return."
)
ROOMS = metrics.Gauge("beaconfire_gateway_rooms", "Rooms with at least one session.")
CONNECTING = metrics.Gauge(
    "beaconfire_gateway_pending_connections", "Open connections that have not sent `connect` yet."
)
FRAMES = metrics.Counter(
    "beaconfire_gateway_event_frames_sent_total",
    "Event frames for live sessions. Missed events that a session gets later are not counted.",
)

LOSING_S = 60.0
"""A session that catches up and gets no nearer to the position within this is sent `resync`."""
Incoming: TypeAlias = Request | InvalidMessage
"""A client's message: a request, or why it is invalid."""


class HistoryGone(Exception):
    """The stream no longer has everything after the offset. `first` is the first offset that it has, if known."""

    def __init__(self, cause: ResyncCause, first: int | None = None) -> None:
        super().__init__(cause.meaning)
        self.cause = cause
        self.first = first


class Pending(Protocol):
    """A connection that is in no hub: without a session, or with one that has not started or was replaced.

    A stopping gateway waits for it, too.
    """

    def close(self, error: BeaconfireError) -> None: ...


class History(Protocol):
    """The stream, further back than the ring."""

    async def page(self, roots: Iterable[Pair], after: int, ring: Ring) -> tuple[Sequence[Entry], int]:
        """The next events of these roots after `after`, in order, and the offset through which that is all of them.

        Waits for the broker as long as it takes. Raises HistoryGone.
        """
        ...

    async def end(self) -> int:
        """The offset at which the stream ended after this was called. Waits for the broker as long as it takes."""
        ...

    def start(self, epoch: str) -> None:
        """Start, or start over in another epoch."""
        ...

    def lose(self, offset: int) -> None:
        """Events at or below `offset` are gone from the stream: no session can resume from before it."""
        ...

    def forget(self) -> None:
        """Drop what is old. Called every second."""
        ...


class Access(Protocol):
    """Decides which users may connect, and which rooms they may hear."""

    async def verify(self, token: str) -> Claims:
        """Return the user that the token names. Raises BeaconfireError: `token_invalid` or `unavailable`."""
        ...

    async def decide(self, claims: Claims, rooms: Sequence[str]) -> Mapping[str, Subscription | BeaconfireError]:
        """Return a subscription or a refusal for each room, by the requested name.

        Without rooms it still asks whether the token was revoked. Raises BeaconfireError if no decision is possible
        now.
        """
        ...

    async def roots(self, claims: Claims, kind: str) -> Sequence[str]:
        """Return the user's roots of a kind, as `workspace:w1`, as many as one question may name.

        Raises BeaconfireError if no answer is possible now.
        """
        ...

    async def reconsider(self, session: "Session", claims: Claims) -> None:
        """Put a session out of the rooms that it may not hear with this newer token, and change its roles.

        Raises BeaconfireError, and then changes nothing.
        """
        ...

    def doubt(self, user_id: str | None = None) -> None:
        """A change of access may be lost, of this user or of any: hold the sessions and ask about them again."""
        ...


class Attendance(Protocol):
    """Knows who is in which room, over all gateways (the package `presence`)."""

    def joined(self, session: "Session", room: RoomKey) -> None:
        """A session is in a room. It may have been there before."""
        ...

    def left(self, session: "Session", room: RoomKey) -> None:
        """A session has left a room, or was removed from it."""
        ...

    def paused(self, session: "Session", room: RoomKey) -> None:
        """A session is out of a room for a moment."""
        ...

    def ended(self, session: "Session") -> None:
        """A session ends, and is still in its rooms."""
        ...

    def removed(self, user_id: str, root: Pair | None) -> None:
        """A user has lost the access to a root, or to all of them (None), after its sessions have left."""
        ...

    def caught_up(self, session: "Session") -> None:
        """A session is live again. While it was not, it was told nothing."""
        ...

    def set_status(self, session: "Session", status: Status) -> None:
        """A session says how its user is."""
        ...

    def status(self, session: "Session") -> Status:
        """Return what a session has said of its user."""
        ...

    def watch(self, session: "Session", room: RoomKey) -> Presence | None:
        """Tell a session from now on who is in a room that it is in, until it leaves.

        Returns who is there now. None if the room has no presence: then the session is told nothing.
        """
        ...

    def unwatch(self, session: "Session", room: RoomKey) -> None:
        """Undo `watch`."""
        ...

    def is_watching(self, session: "Session", room: RoomKey) -> bool:
        """Whether a session is told who is in a room."""
        ...


class TypingUsers(Protocol):
    """Knows who is typing in which room (`presence.typing_users`)."""

    def set(self, session: "Session", room: RoomKey, *, typing: bool) -> None:
        """A session that is in the room says whether its user is typing there. Raises LimitReached."""
        ...

    def turn(self, now: float) -> None:
        """Do what is due each second."""
        ...


class Selections(Protocol):
    """Knows what users have selected in rooms (`presence.selections`)."""

    def set(self, session: "Session", room: RoomKey, items: Sequence[str]) -> None:
        """A session that is in the room says what its user has selected there. Raises LimitReached."""
        ...

    def of(self, user_id: str, room: RoomKey) -> Sequence[str]:
        """Return what a user has selected in a room. Empty: nothing, or it is not known here."""
        ...

    def turn(self, now: float) -> None:
        """Do what is due each second."""
        ...


class Newest(Protocol):
    """The newest revision of the catalogue, for what has no offset: types in requests, and ephemeral events."""

    @property
    def known(self) -> Catalogue:
        """The newest revision that was read."""
        ...

    async def newest(self) -> Catalogue:
        """Read the newest revision, as it is after this call. Raises BeaconfireError (`unavailable`).

        Call it before something is refused because it is unknown. It bounds how often it really reads.
        """
        ...


async def catalogue_with(gateway: "Gateway", names: Iterable[str]) -> Catalogue:
    """Return the newest known revision. Reads the newest one first if these types are not all in it.

    Raises BeaconfireError (`unavailable`).
    """
    known = gateway.catalogue.known
    return known if known.types.keys() >= set(names) else await gateway.catalogue.newest()


class Gateway:
    """One for each process: its sessions, the newest events, and its place in the stream.

    `handle` does what a client asks (`requests.handle`). `spawn` runs a short question to the outside, and owns it.
    """

    def __init__(
        self,
        *,
        access: Access,
        history: History,
        catalogue: Newest,
        handle: Callable[["Session", Incoming], None],
        call_soon: Callable[[Step], object],
        call_later: Callable[[float, Callable[[], None]], object],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        limits: Limits,
        name: str = "",
        hub: "Hub[Session] | None" = None,
        users: Users | None = None,
        door: Doorkeeper | None = None,
        automatic_rooms: AutomaticRooms | None = None,
        ring_bytes: int = 67_108_864,
        ring_age_s: float = 60,
        batch_bytes: int = BATCH_BYTES,
        slice_sessions: int = SLICE,
        held_behind: int = HELD_BEHIND,
        max_held_bytes: int = MAX_HELD_BYTES,
        steps_per_turn: int = STEPS,
        losing_s: float = LOSING_S,
        now: int | None = None,
    ) -> None:
        self.name = name
        """Told to clients; may be empty."""
        self.access = access
        self.history = history
        self.catalogue = catalogue
        self.handle = handle
        self.spawn = spawn
        self.limits = limits
        self.hub: Hub[Session] = Hub() if hub is None else hub
        self.users = users or Users(limits)
        self.door = door or Doorkeeper(limits)
        self.automatic_rooms = automatic_rooms or AutomaticRooms({}, {})
        self.binary_fields = BinaryFields()
        """The fields of events that are bytes, for wires that have such."""
        self.ring = Ring(max_bytes=ring_bytes, max_age_s=ring_age_s)
        self.outbound = Outbound(self.hub, call_soon, batch_bytes=batch_bytes, slice_sessions=slice_sessions)
        self.steps = FairQueue(call_soon, steps_per_turn=steps_per_turn)
        self.losing_s = losing_s
        self.timers = Timers(int(time.monotonic()) if now is None else now)
        self.probes = Probes(self.timers)
        self.waiters = OffsetWaiters()
        self.catchup_cache = CatchUpCache()
        self.beginnings = Beginnings()
        """From which offset on sessions hear their rooms, as far as that is remembered."""
        self.connecting: set[Pending] = set()
        """Connections that are in no hub: sessions that have not started or were replaced, connections without a
        session, and handshakes that are being answered."""
        self.attendance: Attendance | None = None
        """Who is in which room. None if this gateway sends no `presence`."""
        self.typing: TypingUsers | None = None
        """Who is typing in which room. None if this gateway sends no `typing`."""
        self.selections: Selections | None = None
        """What users have selected in rooms. None if this gateway sends no `selection`."""
        self.process_id = secrets.token_hex(8)
        """Names this process for other gateway processes. It is another one after each start."""
        self.session_prefix = ""
        """The start of its sessions' ids."""
        self.replace_elsewhere: Callable[[str, str], None] = lambda _session_id, _user_id: None
        """Called with a session that is not here, and the user that replaces it. Another worker may have it."""
        self.epoch = ""
        self.position = 0
        self.conflation = Conflator(
            self.hub,
            self.outbound,
            self.waiters,
            call_later,
            position=lambda: self.position,
            cursor=lambda: self.cursor(self.position),
            held_behind=held_behind,
            max_held_bytes=max_held_bytes,
        )
        self.goaways: GoAways | None = None
        """Set when the gateway starts to stop. Sessions that connect from then on are sent `goaway`."""
        self.is_degraded = False
        """Whether the broker does not answer, so that events may be late."""
        self._busiest_root = BusiestRoot()
        self._frames_counted = 0

    # Its place in the stream.

    def cursor(self, offset: int) -> str:
        """The cursor that a client keeps for an offset."""
        return str(Cursor(self.epoch, offset))

    def read_cursor(self, cursor: str | None) -> int | None:
        """The offset of a cursor of this epoch, else None."""
        parsed = Cursor.parse(cursor) if cursor else None
        return parsed.offset if parsed is not None and parsed.epoch == self.epoch else None

    def find_start(self, cursor: str | None) -> tuple[int, ResyncCause | None]:
        """The offset to go on from; and if it is not the cursor's, the cause of a `resync`."""
        if cursor is None:
            return self.position, None
        parsed = Cursor.parse(cursor)
        if parsed is None:
            return self.position, ResyncCause.CURSOR_UNREADABLE
        if parsed.epoch != self.epoch:
            return self.position, ResyncCause.CURSOR_OF_OTHER_EPOCH
        return (parsed.offset, None) if parsed.offset <= self.position else (self.position, ResyncCause.CURSOR_AHEAD)

    def reach(self, offset: int) -> None:
        """Everything up to `offset` is delivered."""
        self.position = offset
        self.outbound.delivered(offset)
        if self.waiters.waiting:
            self.waiters.reached(offset)

    def begin(self, epoch: str, position: int) -> None:
        """Go on behind `position` in the stream of this epoch: at the start, or because the stream is another one."""
        changed = bool(self.epoch or self.position)
        self.history.start(epoch)
        self._go_on(epoch, position, ResyncCause.STREAM_REPLACED if changed else None)

    def lose(self, position: int) -> None:
        """Go on behind `position`: the stream lost events up to there that were not delivered."""
        self.history.lose(position)
        self._go_on(self.epoch, position, ResyncCause.HOLE_LOST)

    def _go_on(self, epoch: str, position: int, resync: ResyncCause | None) -> None:
        """Continue after `position`. If that breaks continuity, `resync` is the cause, and all get one.

        The missing events may have changed access to rooms, so auth is asked again.
        """
        self.conflation.flush()
        sessions = [] if resync is None else list(self.hub.all_sessions())
        cursors = [self.cursor(session.offset) for session in sessions]
        if epoch != self.epoch:
            self.beginnings.forget()
        self.epoch = epoch
        self.position = position
        self.waiters.release()
        self.catchup_cache.forget()
        self.ring.start(position)
        self.outbound.start(position)
        if resync is not None:
            for session, cursor in zip(sessions, cursors, strict=True):
                session.resync(resync, cursor)
            self.access.doubt()

    # All of its sessions.

    def tell_all(self, message: Message) -> None:
        """Send every session a message."""
        for session in list(self.hub.all_sessions()):
            session.send(message)

    def set_degraded(self, is_degraded: bool) -> None:
        """Send every session that events may be late, or are in time again. A later session reads it in its ack."""
        self.is_degraded = is_degraded
        self.tell_all(Degraded() if is_degraded else Live())

    def make_way(self, session_id: str, user_id: str) -> None:
        """A client of this user has connected to another worker. The session it had before, if it is here, ends."""
        for session in self.hub.sessions_of(user_id):
            if session.id == session_id:
                session.make_way()

    def send_goaways(self, window_s: float, now: float) -> GoAways:
        """Send every session a `goaway` with its time within the window, because the gateway stops.

        Call `close_due` of what it returns, for clients whose protocols have no `goaway`.
        """
        self.goaways = goaways = GoAways(window_s, now)
        sessions = list(self.hub.all_sessions())
        log.info("telling sessions to go elsewhere", count=len(sessions), window_s=window_s)
        for session, goaway in zip(sessions, goaways.to_all(len(sessions)), strict=True):
            session.send(goaway)
        return goaways

    @property
    def is_empty(self) -> bool:
        """Whether it has no connection any more."""
        return not self.hub.sessions and not self.connecting

    def close_all(self, error: BeaconfireError) -> None:
        """Write what is queued, then end every connection with the error's close code."""
        self.conflation.flush()
        self.outbound.drain()
        for session in list(self.hub.all_sessions()):
            session.close(error)
        while self.connecting:  # also what only now has no session any more
            self.connecting.pop().close(error)

    def turn(self, now: float) -> None:
        """Do what is due each second. `now` is on the clock of `time.monotonic`."""
        self.timers.turn(int(now))
        self.ring.forget(now)
        self.history.forget()
        self.catchup_cache.forget()
        self.users.forget(now)
        self.door.forget(now)
        if self.typing is not None:
            self.typing.turn(now)
        if self.selections is not None:
            self.selections.turn(now)
        self._busiest_root.look(self.ring, now)
        CONNECTING.set(self.door.connecting)
        RING_BYTES.set(self.ring.bytes)
        ROOMS.set(len(self.hub))
        FRAMES.inc(self.outbound.frames_sent - self._frames_counted)
        self._frames_counted = self.outbound.frames_sent
