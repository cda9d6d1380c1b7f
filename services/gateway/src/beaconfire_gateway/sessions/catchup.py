"""Send a session that is behind its missed events, until it is level with the gateway again. No I/O.

A session is behind because it resumes, or because its connection was full. It is in no write list then. Its place is
one offset, and the ring feeds it in order, or the history if the ring no longer reaches back that far.

Before that it is sent conflated events at or below its place that it may lack (`reread`).
"""

import time
from collections.abc import Sequence
from typing import Protocol

from beaconfire_gateway.fanout.conflation import Latest
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.sessions.catchup_cache import CatchUpWrite
from beaconfire_gateway.sessions.gateway import Gateway, HistoryGone
from beaconfire_gateway.sessions.reread import reread, reread_ring
from beaconfire_gateway.sessions.subscription import WRITE_BYTES, Subscription, heard
from beaconfire_gateway.wire.messages import Position
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import errors, logs
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.resync import ResyncCause

log = logs.get(__name__)

PAGE = 500
"""Events of the ring looked at for one session in one turn of the loop."""


class Lagging(Protocol):
    """The session that is behind."""

    behind: "CatchUp | None"
    id: str
    rooms: dict[str, Subscription]
    wire: Wire

    @property
    def is_full(self) -> bool: ...
    def write(self, data: bytes, /) -> None: ...
    def write_again(self, data: bytes, /) -> None: ...
    def close(self, error: BeaconfireError) -> None: ...
    def go_live(self) -> None: ...
    def resync(self, cause: ResyncCause, cursor: str) -> None: ...


class CatchUp:
    """Belongs to a session as long as it is behind. All up to `offset` is written or about to be, and no more."""

    __slots__ = ("_fetching", "_gateway", "_lacking", "_mark", "_queued", "_session", "is_held", "offset", "rereads")

    def __init__(self, gateway: Gateway, session: Lagging, offset: int, lacking: Sequence[Entry] = ()) -> None:
        self._gateway = gateway
        self._session = session
        self._fetching = False
        self._mark = (time.monotonic(), gateway.position - offset)  # when it was last seen how far behind, and how far
        self._queued = 0
        self.is_held = False
        """Whether it waits, because auth is being asked which rooms the session may hear."""
        self.offset = offset
        self.rereads = False
        """Whether it has yet to find out which events at or below `offset` its client may lack."""
        self._lacking = lacking

    @property
    def is_complete(self) -> bool:
        """Whether its client lacks nothing at or below `offset`."""
        return not self.rereads and not self._lacking

    def start_over(self, offset: int) -> None:
        """Go on from another place. Its client loads the state there again, so it lacks nothing."""
        self.offset = offset
        self.rereads = False
        self._lacking = ()

    def wait_for_queued(self) -> None:
        """Wait until everything that is queued now is written: some of it is for this session."""
        self._queued = self._gateway.outbound.queued

    @property
    def is_settled(self) -> bool:
        """Whether it is held, and everything that was queued for its session is written."""
        return self.is_held and self._gateway.outbound.is_through(self._queued)

    def release(self) -> None:
        """Go on: auth has said what the session may hear."""
        if self.is_held:
            self.is_held = False
            self._mark = (time.monotonic(), self._gateway.position - self.offset)  # it lost no ground by waiting
            self.step()

    def step(self) -> None:
        """Write some of its missed events. Write more in another turn, once its connection has taken these.

        Call it when the connection has room again. It does nothing while there is none, while it is held, and after
        its end.
        """
        gateway, session = self._gateway, self._session
        if session.behind is not self or session.is_full or self._fetching or self.is_held:
            return
        if not gateway.outbound.is_through(self._queued):
            gateway.steps.add(self.step)
            return
        if self._loses_ground():
            session.resync(ResyncCause.NO_PROGRESS, gateway.cursor(self.offset))
            gateway.steps.add(self.step)  # what is written here must not pass the `resync`, which may be queued
            return
        if self.rereads:
            found = reread_ring(gateway, session.rooms.values(), self.offset)
            if found is None:
                self._fetching = True
                gateway.spawn(self._fetch_lacking())
                return
            self.rereads, self._lacking = False, found
        if self._lacking:
            self._write_lacking()
            gateway.steps.add(self.step)
            return
        if not gateway.ring.covers(self.offset):
            self._fetching = True
            gateway.spawn(self._fetch())
            return
        page = gateway.ring.after(self.offset, PAGE)
        if page:
            self._write(page, page[-1].offset)
            gateway.steps.add(self.step)
        else:
            session.go_live()  # without an await since the last look

    async def _fetch_lacking(self) -> None:
        """Find the conflated events that its client may lack, and that the ring no longer has."""
        gateway, session = self._gateway, self._session
        epoch, subscriptions = gateway.epoch, list(session.rooms.values())
        try:
            found = await reread(gateway, subscriptions, self.offset)
        except Exception:
            log.exception("could not read the history", session=session.id)
            session.close(errors.internal(session.id))
            return
        self._fetching = False
        if gateway.epoch == epoch and self.rereads:  # else it has started over
            self.rereads, self._lacking = False, found
        gateway.steps.add(self.step)

    def _write_lacking(self) -> None:
        """Write some of the conflated events that its client may lack, without offsets: its place is above them."""
        gateway, session = self._gateway, self._session
        cursor, left = gateway.cursor(self.offset), list(heard(self._lacking, self.offset, session.rooms.values()))
        wire = session.wire

        def make() -> CatchUpWrite:
            frames: list[bytes] = []
            size, end = 0, self.offset
            for entry in left:
                frame = Latest(entry, cursor).frame(wire)
                frames.append(frame)
                size += len(frame)
                if size >= WRITE_BYTES:
                    end = entry.offset
                    break
            return CatchUpWrite(wire.join(frames), end)

        # Sessions with the same wire and cursor share the bytes of the same events.
        data, through = gateway.catchup_cache.find((wire, cursor, tuple(entry.offset for entry in left)), make)
        self._lacking = [entry for entry in left if entry.offset > through]
        if data:
            session.write_again(data)

    async def _fetch(self) -> None:
        """Write some events that the ring no longer has."""
        gateway, session = self._gateway, self._session
        epoch, after = gateway.epoch, self.offset
        roots = {one.room.root for one in session.rooms.values()}
        try:
            entries, through = await gateway.history.page(roots, after, gateway.ring)
            gone = None
        except HistoryGone as error:
            entries, through, gone = (), after, error.cause
        except Exception:
            log.exception("could not read the history", session=session.id)
            session.close(errors.internal(session.id))
            return
        self._fetching = False
        known = {one.room.root for one in session.rooms.values()} <= roots  # it may have joined one meanwhile
        # If something was queued for it meanwhile, that comes first. The events are read again then.
        is_here = session.behind is self and not self.is_held and gateway.outbound.is_through(self._queued)
        if known and is_here and (gateway.epoch, self.offset) == (epoch, after):
            if gone is not None:
                session.resync(gone, gateway.cursor(after))
            else:
                # Events above the gateway's position come live.
                self._write(entries, min(through, gateway.position))
        gateway.steps.add(self.step)

    def _write(self, entries: Sequence[Entry], through: int) -> None:
        """Write its part of these entries, which are all there are up to `through`, and the position after them."""
        gateway, wire = self._gateway, self._session.wire
        subscriptions = frozenset(self._session.rooms.values())

        def make() -> CatchUpWrite:
            frames: list[bytes] = []
            size, end = 0, through
            for entry in heard(entries, through, subscriptions):
                frame = entry.frame(wire)
                frames.append(frame)
                size += len(frame)
                if size >= WRITE_BYTES:
                    end = entry.offset
                    break
            return CatchUpWrite(wire.join(frames) + wire.encode(Position(gateway.cursor(end))), end)

        # This decides the bytes: sessions with the same wire, subscriptions and cursor share them.
        key = (wire, gateway.epoch, self.offset, through, subscriptions)
        data, self.offset = gateway.catchup_cache.find(key, make)
        if data:  # a dialect may have no `position`
            self._session.write(data)

    def _loses_ground(self) -> bool:
        """Whether it is as far from the gateway's position as `losing_s` ago, or farther."""
        now, distance = time.monotonic(), self._gateway.position - self.offset
        seen_at, was = self._mark
        if now - seen_at < self._gateway.losing_s:
            return False
        self._mark = (now, distance)
        return distance >= was
