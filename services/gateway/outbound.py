"""Outbound: every write to sessions, as one queue a gateway. No I/O of its own: it calls bound `transport.write`s.

Frames of one loop turn are joined and written once to each connection. Large rooms are written in slices with a turn of
the loop between, so that pings, replies and joins do not wait; events behind a slice do, because order is total.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from services.gateway.hub import Hub, S, Write
from services.gateway.ring import Entry
from shared.subjects import RoomKey

SLICE = 1_000
"""Writes in one turn of the loop: about 10 ms of a core, most of it the kernel's."""


@dataclass(slots=True)
class _Job:
    """The same bytes for many sessions. After it, everything up to `offset` is written."""

    writers: list[Write]
    data: bytes
    offset: int


class Outbound(Generic[S]):
    """Collects events and writes them.

    Whoever changes who is in a room calls `seal` first: what is pending then goes to those who were in the rooms when
    it was delivered.
    """

    def __init__(self, hub: Hub[S], call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._hub = hub
        self._call_soon = call_soon
        self._pending: list[tuple[int, Entry]] = []
        self._jobs: deque[_Job] = deque()
        self._scheduled = False
        self._written = 0
        self._delivered = 0
        self.frames_sent = 0
        self.writes = 0

    @property
    def settled(self) -> int:
        """The last offset up to which everything was written. A `position` never says more."""
        return self._delivered if not self._jobs and not self._pending else self._written

    def start(self, offset: int) -> None:
        """Begin (anew) at an offset: what is queued is written first."""
        self.drain()
        self._written = self._delivered = offset

    def delivered(self, offset: int) -> None:
        """Everything up to `offset` was put here."""
        self._delivered = offset

    def put(self, offset: int, entry: Entry) -> None:
        """Queue an event for the sessions that are in its rooms now. Written in this turn or a following one.

        After it, everything up to `offset` is written: its own, or for an ephemeral event that of the one before it.
        """
        if not self._pending:
            self._schedule()
        self._pending.append((offset, entry))

    def tell(self, write: Write, frame: bytes) -> None:
        """Write one session a frame that must not pass the events queued for it."""
        self.seal()
        if self._jobs:
            self._jobs.append(_Job([write], frame, self._jobs[-1].offset))
            self._schedule()
        else:
            write(frame)

    def seal(self) -> None:
        """Decide who gets what is pending."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        last = pending[-1][0]
        places = [self._hub.populated(entry.route.rooms) for _, entry in pending]
        if self._go_to_the_same(places, pending):
            first = pending[0][1]
            writers = self._hub.writers(places[0], first.type, first.audience)
            self.frames_sent += len(writers) * len(pending)
            self._jobs.append(_Job(writers, b"".join([entry.frame for _, entry in pending]), last))
            return
        gathered: dict[Write, list[bytes]] = {}
        for rooms, (_, entry) in zip(places, pending, strict=True):
            for write in self._hub.writers(rooms, entry.type, entry.audience):
                frames = gathered.get(write)
                if frames is None:
                    gathered[write] = [entry.frame]
                else:
                    frames.append(entry.frame)
        # Only when the last of them is written is everything up to `last` written.
        before = self._jobs[-1].offset if self._jobs else self._written
        for write, frames in gathered.items():
            self.frames_sent += len(frames)
            self._jobs.append(_Job([write], frames[0] if len(frames) == 1 else b"".join(frames), before))
        self._jobs.append(_Job([], b"", last))

    def _go_to_the_same(self, places: Sequence[Sequence[RoomKey]], pending: Sequence[tuple[int, Entry]]) -> bool:
        """Whether all that is pending is for the same sessions."""
        rooms, first = places[0], pending[0][1]
        return all(
            other == rooms and entry.audience == first.audience
            for other, (_, entry) in zip(places, pending, strict=True)
        ) and (all(entry.type == first.type for _, entry in pending) or not self._hub.is_narrowed(rooms))

    def drain(self) -> None:
        """Write everything that is queued, now."""
        self.seal()
        while self._jobs:
            self._run(1_000_000)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        self.seal()
        left = SLICE
        while self._jobs and left > 0:
            left -= self._run(left)
        if self._jobs:
            self._schedule()

    def _run(self, budget: int) -> int:
        """Run the first job, or `budget` writes of it. Returns how many writes were made."""
        job = self._jobs[0]
        writers, data = job.writers, job.data
        now = iter(writers[:budget])
        while True:
            try:
                for write in now:
                    write(data)
                break
            except RuntimeError:
                continue  # uvloop's answer to a write on a connection that was aborted this very turn
        made = min(budget, len(writers))
        self.writes += made
        if made == len(writers):
            self._jobs.popleft()
            self._written = max(self._written, job.offset)
        else:
            job.writers = writers[made:]
        return max(1, made)
