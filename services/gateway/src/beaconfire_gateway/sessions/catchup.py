"""Catching up: what one session that is behind is written, until it is level with the gateway again. No I/O.

It resumes, or its socket was full. It stands in no write list then: its place is one number, and the ring feeds it, or
the history where the ring no longer reaches back, in order.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol

from beaconfire_gateway.fanout.ring import Entry
from beaconfire_gateway.sessions.context import Context, HistoryGone
from beaconfire_gateway.sessions.pieces import Piece
from beaconfire_gateway.sessions.place import Place, heard
from beaconfire_gateway.wire import protocol
from beaconfire_kit import errors, logs
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.resync import ResyncReason

log = logs.get(__name__)

PAGE = 500
"""Events of the ring looked at for one session in one turn of the loop."""
LOSING_S = 60.0
"""A session whose distance does not shrink within this is told to reload."""


class Lagging(Protocol):
    """The session that is behind."""

    behind: "CatchUp | None"
    id: str
    rooms: dict[str, Place]

    @property
    def is_full(self) -> bool: ...
    def write(self, data: bytes, /) -> None: ...
    def close(self, error: BeaconfireError) -> None: ...
    def go_live(self) -> None: ...
    def resync(self, reason: ResyncReason) -> None: ...


class CatchUp:
    """Belongs to a session for as long as it is behind. Up to `offset` all is written or about to be, and no more."""

    __slots__ = ("_context", "_fetching", "_mark", "_queued", "_session", "is_held", "offset")

    def __init__(self, context: Context[Any], session: Lagging, offset: int) -> None:
        self._context = context
        self._session = session
        self._fetching = False
        self._mark = (time.monotonic(), context.position - offset)  # when it was last seen how far behind, and how far
        self._queued = 0
        self.is_held = False
        """Whether it writes nothing for now: what the session may hear is being asked."""
        self.offset = offset

    def wait_for_queued(self) -> None:
        """Write nothing before all that is queued now: some of it is for this session."""
        self._queued = self._context.outbound.queued

    def release(self) -> None:
        """What the session may hear is known: go on."""
        if self.is_held:
            self.is_held = False
            self._mark = (time.monotonic(), self._context.position - self.offset)  # it lost no ground by waiting
            self.step()

    def step(self) -> None:
        """Write some of what it missed; more in another turn, once its socket has taken this.

        Call it when there is room again. Does nothing while there is none, while it is held, and after its end.
        """
        context, session = self._context, self._session
        if session.behind is not self or session.is_full or self._fetching or self.is_held:
            return
        if not context.outbound.is_through(self._queued):
            context.pace.take(self.step)
            return
        if self._loses_ground():
            session.resync(ResyncReason.TOO_SLOW)
        if not context.ring.covers(self.offset):
            self._fetching = True
            context.spawn(self._fetch())
            return
        page = context.ring.after(self.offset, PAGE)
        if page:
            self._write(page, page[-1].offset)
            context.pace.take(self.step)
        else:
            session.go_live()  # without an await since the last look

    async def _fetch(self) -> None:
        """Write some of what the ring no longer has."""
        context, session = self._context, self._session
        epoch, after = context.epoch, self.offset
        roots = {place.room.root for place in session.rooms.values()}
        try:
            entries, through = await context.history.page(roots, after, context.ring)
        except HistoryGone:
            entries, through = (), None
        except Exception:
            log.exception("could not read the history", session=session.id)
            session.close(BeaconfireError(errors.INTERNAL, f"something went wrong on our side; quote {session.id}"))
            return
        self._fetching = False
        known = {place.room.root for place in session.rooms.values()} <= roots  # it may have joined one meanwhile
        is_here = session.behind is self and not self.is_held
        if known and is_here and (context.epoch, self.offset) == (epoch, after):
            if through is None:
                session.resync(ResyncReason.NOT_RESUMABLE)
            else:
                # What lies above the gateway's position comes live.
                self._write(entries, min(through, context.position))
        context.pace.take(self.step)

    def _write(self, entries: Sequence[Entry], through: int) -> None:
        """Write its part of these entries, which are all there are up to `through`, and its place after them."""
        context, places = self._context, frozenset(self._session.rooms.values())

        def make() -> Piece:
            mine, end = heard(entries, through, places)
            return b"".join(mine) + protocol.position(context.cursor(end)), end

        # Nothing else decides what it is: the same for all who stand in the same places, with the same cursor.
        data, self.offset = context.pieces.find((context.epoch, self.offset, through, places), make)
        self._session.write(data)

    def _loses_ground(self) -> bool:
        """Whether it is no nearer to the gateway's position than a minute ago."""
        now, distance = time.monotonic(), self._context.position - self.offset
        seen_at, was = self._mark
        if now - seen_at < LOSING_S:
            return False
        self._mark = (now, distance)
        return distance >= was
