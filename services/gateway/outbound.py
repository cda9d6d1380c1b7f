"""Outbound: every write to sessions, as one queue a gateway. No I/O of its own: it calls bound `transport.write`s.

Frames of one loop turn are joined and written once to each connection. Large rooms are written in slices with a turn of
the loop between, so that pings, replies and joins do not wait; events behind a slice do, because order is total.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Generic

from services.gateway.hub import Hub, S, Write
from services.gateway.ring import Entry

SLICE = 1_000
"""Writes in one turn of the loop: about 10 ms of a core, most of it the kernel's."""
BATCH_BYTES = 65_536
"""Of events queued at a time: no more than that, or one larger event, is written to a socket that is full."""


class _Same:
    """The same bytes for many sessions. After it, everything up to `offset` is written."""

    __slots__ = ("_data", "_made", "_writers", "offset")

    def __init__(self, writers: Sequence[Write], data: bytes, offset: int) -> None:
        self._writers = writers
        self._data = data
        self._made = 0
        self.offset = offset

    def run(self, budget: int) -> int:
        """Make `budget` writes, or those that are left. Returns how many were made."""
        start, self._made = self._made, min(self._made + budget, len(self._writers))
        data = self._data
        writers = iter(self._writers[start : self._made])
        while True:
            try:
                for write in writers:
                    write(data)
                return self._made - start
            except RuntimeError:
                continue  # uvloop's answer to a write on a connection that was aborted this very turn

    @property
    def is_done(self) -> bool:
        return self._made == len(self._writers)


class _Each:
    """Bytes of its own for each of many sessions: the frames of this turn. Else as `_Same`."""

    __slots__ = ("_left", "_writes", "offset")

    def __init__(self, gathered: dict[Write, list[bytes]], offset: int) -> None:
        self._writes = iter(gathered.items())
        self._left = len(gathered)
        self.offset = offset

    def run(self, budget: int) -> int:
        made = min(budget, self._left)
        self._left -= made
        writes = islice(self._writes, made)
        while True:
            try:
                for write, frames in writes:
                    write(b"".join(frames))
                return made
            except RuntimeError:
                continue

    @property
    def is_done(self) -> bool:
        return not self._left


class Outbound(Generic[S]):
    """Collects events and writes them.

    Whoever changes who is in a room calls `seal` first: what is pending then goes to those who were in the rooms when
    it was delivered.
    """

    def __init__(
        self, hub: Hub[S], call_soon: Callable[[Callable[[], None]], object], *, batch_bytes: int = BATCH_BYTES
    ) -> None:
        self._hub = hub
        self._call_soon = call_soon
        self._batch_bytes = batch_bytes
        self._unwritten = 0  # bytes of the events put since the queue was last empty
        self._pending: list[tuple[int, Entry]] = []
        self._jobs: deque[_Same | _Each] = deque()
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
        Where much is queued (a hole was read), that is written first, now: sockets that fill up say so before there is
        more for them.
        """
        self._unwritten += len(entry.frame)
        if self._unwritten > self._batch_bytes:
            self.drain()
            self._unwritten = len(entry.frame)
        if not self._pending:
            self._schedule()
        self._pending.append((offset, entry))

    def tell(self, write: Write, frame: bytes) -> None:
        """Write one session a frame that must not pass the events queued for it."""
        self.seal()
        if self._jobs:
            self._jobs.append(_Same((write,), frame, self._jobs[-1].offset))
            self._schedule()
        else:
            write(frame)

    def seal(self) -> None:
        """Decide who gets what is pending."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        last = pending[-1][0]
        find = self._hub.writers
        # Lists that are the same object go to the same sessions: their frames are joined once for all of them.
        lists: dict[int, list[Write]] = {}
        frames: dict[int, list[bytes]] = {}
        order: list[tuple[list[Write], bytes]] = []
        for _, entry in pending:
            route = entry.route
            writers = find(route.subject, route.rooms, entry.type, entry.audience)
            order.append((writers, entry.frame))
            same = id(writers)
            if same in lists:
                frames[same].append(entry.frame)
            else:
                lists[same], frames[same] = writers, [entry.frame]
            self.frames_sent += len(writers)
        # Only when the last of them is written is everything up to `last` written.
        before = self._jobs[-1].offset if self._jobs else self._written
        if _are_disjoint(lists.values()):
            for same, writers in lists.items():
                self._jobs.append(_Same(writers, b"".join(frames[same]), before))
        else:
            self._jobs.append(_Each(_gather(order), before))
        self._jobs[-1].offset = last

    def drain(self) -> None:
        """Write everything that is queued, now."""
        self.seal()
        while self._jobs:
            self._run(1_000_000)
        self._unwritten = 0

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
        else:
            self._unwritten = 0

    def _run(self, budget: int) -> int:
        """Run the first job, or `budget` writes of it. Returns how many writes were made, at least 1."""
        job = self._jobs[0]
        made = job.run(budget)
        self.writes += made
        if job.is_done:
            self._jobs.popleft()
            self._written = max(self._written, job.offset)
        return max(1, made)


def _are_disjoint(lists: Collection[list[Write]]) -> bool:
    """Whether nobody is in two of them. Costs a hundredth of the writes that follow."""
    return len(lists) == 1 or len(set().union(*lists)) == sum(map(len, lists))


def _gather(order: Iterable[tuple[list[Write], bytes]]) -> dict[Write, list[bytes]]:
    """The frames for each session, in order."""
    gathered: dict[Write, list[bytes]] = defaultdict(list)
    for writers, frame in order:
        for write in writers:
            gathered[write].append(frame)
    return gathered
