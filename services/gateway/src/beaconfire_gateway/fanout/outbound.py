"""Queue every write to sessions, in one queue for the whole gateway. No I/O of its own: a `targets.Writer` does it.

The events of one loop turn are joined and written once to each connection. Large rooms are written in slices with a
turn of the loop between them, so that pings, replies and joins do not wait. Events behind a slice do wait, because
order is total.

A write costs about as much as taking in an event, however few bytes it carries. So a busy gateway joins more events
before it writes again (docs/adr/0100), in two ways:

* It **listens**: it lets further turns bring events, for up to `LISTEN_TIMES` as long as the last writing took and for
  `LISTEN_S` at most, counted from the end of that writing. The first turn of the loop without a new event ends the
  listening. If the last writing is longer ago, or took less than `LISTEN_FROM_S`, an event is written in the turn after
  the one that brought it.
* It **rests**: if writing takes more than `WRITING_SHARE` of the time, it reads nothing from the broker for up to
  `REST_S` (`rest_s`). What comes meanwhile is then read, and written, together.
"""

import math
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import nlargest
from itertools import chain, islice
from typing import Generic, Protocol, TypeAlias

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.hub import Hub, Recipients, S
from beaconfire_gateway.fanout.targets import Target, Writer
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import metrics

SLICE = 1_000
"""Writes in one turn of the loop: about 10 ms of a core, most of it the kernel's."""
LISTEN_TIMES = 5
LISTEN_S = 0.03
LISTEN_FROM_S = 0.001
"""Listening delays an event by at least one turn of the loop, which a shorter writing is not worth."""
WRITING_SHARE = 0.45
REST_S = 0.03
BURST_S = 0.02
"""So much writing at a time needs no rest."""
JOINED = 5
"""If a write carries so many events, as a mean, it needs no rest, because more would not save much."""
BATCH_BYTES = 65_536
"""Of events queued at a time: no more than that, or one larger event, is written to a socket that is full."""


WRITTEN_AFTER = metrics.Histogram(
    "beaconfire_gateway_write_latency_seconds",
    "Time from receiving an event until it is written to clients. Of events that are written together, the "
    "first one counts.",
    buckets=metrics.LATENCIES,
)


class Addressee(Protocol):
    """One session."""

    @property
    def target(self) -> Target: ...
    @property
    def writer(self) -> Writer: ...
    def write(self, data: bytes, /) -> None: ...


class _One:
    """Bytes for one session. After it, everything up to `offset` is written."""

    __slots__ = ("_data", "_target", "_writer", "is_done", "offset")

    def __init__(self, writer: Writer, target: Target, data: bytes, offset: int) -> None:
        self._writer = writer
        self._target = target
        self._data = data
        self.is_done = False
        self.offset = offset

    def run(self, _budget: int) -> int:
        """Make the write. Returns how many were made."""
        self.is_done = True
        self._writer.write_same((self._target,), self._data)
        return 1


class _Lists:
    """Bytes for each of several lists of sessions: the events of this turn, if no session is in two of the lists."""

    __slots__ = ("_lists", "_made", "_part", "is_done", "offset")

    def __init__(self, lists: Iterable[tuple[Recipients, bytes]], offset: int) -> None:
        self._lists = iter(lists)
        self._part: tuple[Recipients, bytes] | None = None  # the list of which only the first `_made` are written
        self._made = 0
        self.is_done = False
        self.offset = offset

    def run(self, budget: int) -> int:
        """Make `budget` writes, or those that are left. Returns how many were made."""
        left = budget - self._write_part(budget)
        if not left:
            return budget
        for recipients, data in self._lists:
            targets = recipients.targets
            if len(targets) > left:
                self._part, self._made = (recipients, data), 0
                self._write_part(left)
                return budget
            left -= len(targets)
            recipients.writer.write_same(targets, data)
            if not left:
                return budget
        self.is_done = True
        return budget - left

    def _write_part(self, budget: int) -> int:
        """Write some more of the list that is written in parts, if there is one."""
        if self._part is None:
            return 0
        recipients, data = self._part
        start, self._made = self._made, min(self._made + budget, len(recipients.targets))
        if self._made == len(recipients.targets):
            self._part = None
        recipients.writer.write_same(recipients.targets[start : self._made], data)
        return self._made - start


class _Each:
    """Bytes of its own for each of many sessions: the events of this turn. Otherwise as `_Lists`."""

    __slots__ = ("_left", "_writer", "_writes", "offset")

    def __init__(self, writer: Writer, batching: Wire | None, gathered: dict[Target, list[bytes]], offset: int) -> None:
        """`batching` is the wire of all these sessions, if it is one that batches."""
        self._writer = writer
        self._writes = iter(gathered.items()) if batching is None else _joined(batching, gathered)
        self._left = len(gathered)
        self.offset = offset

    def run(self, budget: int) -> int:
        made = min(budget, self._left)
        self._left -= made
        self._writer.write_each(islice(self._writes, made))
        return made

    @property
    def is_done(self) -> bool:
        return not self._left


class _Then:
    """Something to do when everything queued before it is written."""

    __slots__ = ("_callback", "is_done", "offset")

    def __init__(self, callback: Callable[[], None], offset: int) -> None:
        self._callback = callback
        self.offset = offset
        self.is_done = False

    def run(self, _budget: int) -> int:
        if not self.is_done:  # one that failed is not called again: the jobs behind it must be done
            self.is_done = True
            self._callback()
        return 0


_Alike: TypeAlias = tuple[Writer, Wire | None]
_Job = _One | _Lists | _Each | _Then


class _Batch:
    """Events that wait to be joined, in order, with the sessions that get each."""

    __slots__ = ("_counted", "_overlap", "_seen", "bytes", "largest", "offset", "order", "since", "with_share")

    def __init__(self) -> None:
        self.since = 0.0
        """When its first event was put into it."""
        self.order: list[tuple[Recipients, bytes]] = []
        # The same object stands for the same sessions: it has their share, which is joined once for all of them.
        self.with_share: list[Recipients] = []
        self.bytes = 0
        self.largest = 0
        """The bytes of its largest share."""
        self.offset = 0
        self._overlap = 1  # of the first `_counted` shares
        self._counted = 0
        self._seen: set[Target] = set()  # the sessions of these, if they are several and none has two

    def add(self, offset: int, recipients: Recipients, frame: bytes) -> None:
        self.order.append((recipients, frame))
        self.offset = offset
        size = len(frame)
        self.bytes += size
        frames = recipients.frames
        if frames is None:
            recipients.frames = [frame]
            self.with_share.append(recipients)
        else:
            frames.append(frame)
            size += recipients.share
        recipients.share = size
        if size > self.largest:
            self.largest = size

    def _count_overlap(self) -> int:
        """Return the most shares that any one session has. Each share is looked at once, if that is 1."""
        counted, self._counted = self._counted, len(self.with_share)
        if counted == self._counted:
            return self._overlap
        if self._overlap == 1:
            new = [recipients.targets for recipients in self.with_share[counted:]]
            expected = len(self._seen) + sum(map(len, new))
            self._seen.update(*new)
            if len(self._seen) == expected:
                return 1
        self._overlap = max(Counter(chain.from_iterable(one.targets for one in self.with_share)).values())
        return self._overlap

    def largest_share(self) -> int:
        """The most bytes of it that any one session may get: those of the largest shares, as many as one has."""
        overlap = self._count_overlap()
        if overlap == 1:
            return self.largest
        return sum(nlargest(overlap, (recipients.share for recipients in self.with_share)))

    def jobs(self, before: int) -> list[_Job]:
        """Return the jobs to write, once. Everything up to `offset` is written after the last, else up to `before`."""
        shares = [(recipients, recipients.frames or []) for recipients in self.with_share]
        for recipients in self.with_share:
            recipients.frames = None
        if len(shares) == 1 or self._count_overlap() == 1:
            return [_Lists([(some, some.wire.join(frames)) for some, frames in shares], self.offset)]
        jobs: list[_Job] = [_Each(*alike, gathered, before) for alike, gathered in _gather(self.order).items()]
        jobs[-1].offset = self.offset
        return jobs


class Outbound(Generic[S]):
    """Collects events and writes them.

    Call `seal` before a session joins or leaves a room. Pending events then go to the sessions that were in the rooms
    when the events were delivered.
    """

    def __init__(
        self,
        hub: Hub[S],
        call_soon: Callable[[Callable[[], None]], object],
        *,
        batch_bytes: int = BATCH_BYTES,
        slice_sessions: int = SLICE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._call_soon = call_soon
        self._clock = clock
        self._batch_bytes = batch_bytes
        self._slice_sessions = slice_sessions
        self._batch = _Batch()
        self._jobs: deque[_Job] = deque()
        self._queued = 0  # bytes that the jobs may hold for one session
        self._bounded_to = batch_bytes  # up to so many bytes of the batch, no session's share is too large
        self._scheduled = False
        self._since = 0.0  # when the first event of the jobs was put here
        self._took = 0.0  # how long writing the jobs took so far
        self._listen_until = 0.0
        self._free_at = -math.inf  # when writing will have taken no more than `WRITING_SHARE` of the time
        self._looked_at = 0  # events that were pending when it was last decided to go on listening
        self._written = 0
        self._through = 0  # jobs done so far
        self._delivered = 0
        self.frames_sent = 0
        self.writes = 0
        self._frames_before = self._writes_before = 0  # as they were when the last writing ended

    @property
    def settled(self) -> int:
        """The last offset up to which everything was written. A `position` message never names a higher one."""
        return self._delivered if not self._jobs and not self._batch.order else self._written

    @property
    def queued(self) -> int:
        """A number for all that is queued and sealed now, which `is_through` takes."""
        return self._through + len(self._jobs)

    def is_through(self, queued: int) -> bool:
        """Whether all is written that was queued when `queued` was this."""
        return self._through >= queued

    @property
    def rest_s(self) -> float:
        """For how many seconds nothing should be read from the broker; 0 if it may be read."""
        return max(0.0, self._free_at - BURST_S - self._clock())

    def start(self, offset: int) -> None:
        """Start, or start over, at an offset. Everything queued is written first."""
        self.drain()
        self._written = self._delivered = offset

    def delivered(self, offset: int) -> None:
        """Everything up to `offset` was put here."""
        self._delivered = offset

    def put(self, offset: int, entry: Entry, recipients: Sequence[Recipients] | None = None) -> None:
        """Queue an event for these sessions, or else for those that are in its rooms now. It is written in a following
        turn.

        After it, everything up to `offset` is written: its own, or for an ephemeral event that of the one before it. If
        much is queued for any one session because a hole was read, that is written first, now. So a socket that fills
        up is noticed before there is more for it.
        """
        batch = self._batch
        if batch.bytes + entry.size > self._bounded_to:
            self._bound(entry.size)
            batch = self._batch
        if not batch.order:
            batch.since = self._clock()
            self._schedule()
        route = entry.route
        if recipients is None:
            recipients = self._hub.recipients(route.subject, route.rooms, entry.type, entry.audience)
        for some in recipients:
            self.frames_sent += len(some.targets)
            batch.add(offset, some, entry.frame(some.wire))

    def send(self, session: Addressee, data: bytes) -> None:
        """Send one session bytes that must not pass the events queued for it."""
        self.seal()
        if self._jobs:
            self._jobs.append(_One(session.writer, session.target, data, self._jobs[-1].offset))
            self._schedule()
        else:
            session.write(data)

    def after(self, callback: Callable[[], None]) -> None:
        """Call back when everything that is queued now is written, or at once if the queue is empty."""
        self.seal()
        if self._jobs:
            self._jobs.append(_Then(callback, self._jobs[-1].offset))
            self._schedule()
        else:
            callback()

    def seal(self) -> None:
        """Decide which sessions get the pending events."""
        if not self._batch.order:
            return
        batch, self._batch = self._batch, _Batch()
        if not self._jobs:
            self._since = batch.since
        self._queued += batch.bytes if batch.bytes <= self._batch_bytes // 4 else batch.largest_share()
        self._bounded_to = max(0, self._batch_bytes - self._queued)
        self._jobs += batch.jobs(self._jobs[-1].offset if self._jobs else self._written)

    def _bound(self, more: int) -> None:
        """Keep what is queued for any one session below the bound, with `more` bytes to come for it."""
        free = self._batch_bytes - self._queued - self._batch.largest_share()
        if free < max(more, self._batch_bytes // 4):
            self.drain()
            free = self._batch_bytes
        self._bounded_to = self._batch.bytes + free

    def drain(self) -> None:
        """Write everything that is queued, now."""
        self.seal()
        self._write(sys.maxsize)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        try:
            if not self._is_listening():
                if not self._jobs:
                    self.seal()  # not before: events that came during the last writing are joined, too
                self._write(self._slice_sessions)
        finally:
            if self._jobs or self._batch.order:
                self._schedule()

    def _is_listening(self) -> bool:
        """Whether to let another turn bring more events before the pending ones are written."""
        before, self._looked_at = self._looked_at, len(self._batch.order)
        return not self._jobs and self._looked_at > before and self._clock() < self._listen_until

    def _write(self, budget: int) -> None:
        """Make `budget` writes of the jobs, or those that are left."""
        if not self._jobs:
            return
        began = self._clock()
        while self._jobs and budget > 0:
            budget -= self._run(budget)
        ended = self._clock()
        self._took += ended - began
        self._looked_at = 0
        if not self._jobs:
            WRITTEN_AFTER.observe(ended - self._since)
            if self._took >= LISTEN_FROM_S:
                self._listen_until = ended + min(LISTEN_S, LISTEN_TIMES * self._took)
            self._count_writing(ended)
            self._took = 0.0
            self._queued = 0
            self._bounded_to = self._batch_bytes

    def _count_writing(self, ended: float) -> None:
        """Count the writing that has just ended towards `WRITING_SHARE`, if it was of few events for each write."""
        frames, writes = self.frames_sent - self._frames_before, self.writes - self._writes_before
        if frames < JOINED * writes:
            free_at = max(self._free_at, ended - self._took) + self._took / WRITING_SHARE
            self._free_at = min(free_at, ended + BURST_S + REST_S)
        self._frames_before, self._writes_before = self.frames_sent, self.writes

    def _run(self, budget: int) -> int:
        """Run the first job, or `budget` writes of it. Returns how many writes were made, at least 1."""
        job = self._jobs[0]
        made = job.run(budget)
        self.writes += made
        if job.is_done:
            self._jobs.popleft()
            self._through += 1
            self._written = max(self._written, job.offset)
        return max(1, made)


def _gather(order: Iterable[tuple[Recipients, bytes]]) -> dict[_Alike, dict[Target, list[bytes]]]:
    """The bytes for each target, in order, by its writer, and by its wire if that batches."""
    gathered: dict[_Alike, dict[Target, list[bytes]]] = {}
    for recipients, data in order:
        alike = recipients.writer, recipients.wire if recipients.wire.batches else None
        of_alike = gathered.get(alike)
        if of_alike is None:
            of_alike = gathered[alike] = defaultdict(list)
        for target in recipients.targets:
            of_alike[target].append(data)
    return gathered


def _joined(wire: Wire, gathered: dict[Target, list[bytes]]) -> Iterator[tuple[Target, list[bytes]]]:
    """The message for each target. Sessions that get the same events share one."""
    messages: dict[tuple[int, ...], list[bytes]] = {}
    for target, events in gathered.items():
        key = tuple(map(id, events))  # each event's bytes are one object for all sessions of the wire
        message = messages.get(key)
        if message is None:
            message = messages[key] = [wire.join(events)]
        yield target, message
