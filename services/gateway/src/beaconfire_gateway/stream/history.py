"""Read pages of the stream for sessions that were away longer than the ring remembers (ADR 0002).

A page holds the events of one root. It is read once and shared by all sessions that need a part of it, because after an
outage many need the same. It is complete through its end, whichever replica delivered it, because it ends at a message
that the read returned. That is an event of the root, or a tick that was acknowledged before.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from beaconfire_gateway.fanout.checking import NOT_EVENTS, Checker, Stored
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.ring import Ring
from beaconfire_gateway.sessions.gateway import HistoryGone
from beaconfire_gateway.stream.replay import Reader
from beaconfire_kit import broker, logs, metrics
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.reading import ReadFailed
from beaconfire_kit.resync import ResyncCause
from beaconfire_kit.subjects import Pair

log = logs.get(__name__)

PAGES = metrics.Counter(
    "beaconfire_gateway_history_pages_total", "Pages of missed events that sessions asked for, by source.", ["source"]
)

PAGE_EVENTS = 500
PAGE_BYTES = 1_048_576
READS_AT_ONCE = 4
"""Reads of the stream at one time: many of them must not fill the broker's buffer for this connection."""
KEEP_BYTES = 33_554_432
KEEP_S = 10.0
BARRIER_AGE_S = broker.TICK_TTL_S / 2
RETRY_S = 0.1
CHECK_IN_A_TURN = 50
"""Events checked in one turn of the loop, about 2 ms: live events do not wait for a long replay."""


@dataclass(frozen=True, slots=True)
class Page:
    """All events of a root with offsets in (after, through]."""

    root: Pair
    after: int
    through: int
    entries: tuple[Entry, ...]
    read_at: float

    @property
    def bytes(self) -> int:
        """Return its current size in bytes. Entries grow when they are encoded for a wire."""
        return sum(entry.size for entry in self.entries)


class History:
    """Implements `gateway.History` and `entry.Keeper` with the broker. One for each gateway.

    `position` returns how far the gateway has delivered the stream.
    """

    def __init__(self, reader: Reader, checker: Checker, position: Callable[[], int]) -> None:
        self._reader = reader
        self._checker = checker
        self._position = position
        self._slots = asyncio.Semaphore(READS_AT_ONCE)
        self._kept: deque[Page] = deque()  # oldest first
        self._kept_of: dict[Pair, list[Page]] = {}
        self._kept_bytes = 0
        self._life = 0
        self._epoch = ""
        self._lost_up_to = 0
        # One read of a root at a time: a session that waited looks first whether the read has its part, too.
        self._reading: WeakValueDictionary[Pair, asyncio.Lock] = WeakValueDictionary()
        self._ticking = asyncio.Lock()
        self._tick_began = float("-inf")
        self._tick = 0

    def start(self, epoch: str) -> None:
        """Start, or start over in another epoch: the pages belong to the one before."""
        self._life += 1
        self._epoch = epoch
        self._lost_up_to = 0
        self._tick, self._tick_began = 0, float("-inf")
        self._forget_pages(read_before=float("inf"))

    def lose(self, offset: int) -> None:
        """Events at or below `offset` are gone from the stream: no session can resume from before it."""
        self._lost_up_to = offset

    def grow(self, count: int) -> None:
        """An entry of a page takes `count` bytes more: it was encoded for a wire. `forget` keeps to the bound."""
        self._kept_bytes += count

    def forget(self) -> None:
        """Forget pages that are old. Call it now and then."""
        self._forget_pages(read_before=time.monotonic() - KEEP_S)

    async def end(self) -> int:
        """Find where the stream ends: the offset of a tick that was published after this call.

        All calls while one tick is under way share the next one. Waits for the broker as long as it takes.
        """
        asked_at = time.monotonic()
        async with self._ticking:
            while self._tick_began <= asked_at:
                broker.check_cancelled()
                began = time.monotonic()
                tick = await self._reader.find_end()
                if tick is None:
                    await asyncio.sleep(RETRY_S)
                else:
                    self._tick, self._tick_began = tick, began
            return self._tick

    async def page(self, roots: Iterable[Pair], after: int, ring: Ring) -> tuple[Sequence[Entry], int]:
        """Return the next events of these roots after `after`, and the offset through which they are complete.

        The events are in order. That offset lies between `after` and the end of the stream. If there are no events, it
        lies where `ring` covers the rest. Waits for the broker as long as it takes. Raises HistoryGone if the stream no
        longer has everything after `after`: an event that `ring` remembers and the read does not return was erased.
        """
        barrier = await self._barrier(ring.floor)
        pages = [await self._page(root, after, barrier, ring) for root in roots]
        if after < self._lost_up_to:
            raise HistoryGone(ResyncCause.HOLE_LOST_EARLIER, first=self._lost_up_to + 1)
        through = min((page.through for page in pages), default=barrier)
        entries = [entry for page in pages for entry in page.entries if after < entry.offset <= through]
        return sorted(entries, key=lambda entry: entry.offset), through

    async def _barrier(self, floor: int) -> int:
        """Return a tick at or above the ring's floor that is still in the stream."""
        if self._tick < floor or time.monotonic() - self._tick_began > BARRIER_AGE_S:
            return await self.end()
        return self._tick

    async def _page(self, root: Pair, after: int, barrier: int, ring: Ring) -> Page:
        page = self._find(root, after)
        if page is not None:
            PAGES.labels("memory").inc()
            return page
        lock = self._reading.setdefault(root, asyncio.Lock())
        async with lock:
            page = self._find(root, after)
            if page is not None:
                PAGES.labels("memory").inc()
                return page
            life = self._life
            async with self._slots:
                page = await self._read_until_done(root, after, barrier, ring)
            PAGES.labels("stream").inc()
            if life == self._life:
                self._keep(page)
            return page

    async def _read_until_done(self, root: Pair, after: int, barrier: int, ring: Ring) -> Page:
        while True:
            broker.check_cancelled()
            try:
                page = await self._read(root, after, barrier, ring)
            except ReadFailed as error:
                log.warning("could not read the history, trying again", reason=str(error), root=str(root))
                await asyncio.sleep(RETRY_S)
                barrier = await self.end()  # the tick itself may have expired
                if barrier <= after:  # the stream went back
                    raise HistoryGone(ResyncCause.STREAM_WENT_BACK) from error
                continue
            # Ask after the read: it misses what retention removed before it or during it.
            stream = await self._reader.stream_state()
            if stream.epoch != self._epoch:
                raise HistoryGone(ResyncCause.STREAM_REPLACED_DURING_READ)
            if stream.first > after + 1:
                raise HistoryGone(ResyncCause.EVENTS_REMOVED, first=stream.first)
            return page

    async def _read(self, root: Pair, after: int, barrier: int, ring: Ring) -> Page:
        epoch = self._epoch
        stored: list[tuple[int, Stored]] = []
        size = 0

        def keep(offset: int, message: Stored, _at: float) -> None:
            nonlocal size
            size += len(message.body)
            stored.append((offset, message))

        through = await self._reader.read(
            after=after,
            upto=barrier,
            on_message=keep,
            subjects=(f"{root.kind}.{root.id}.>", broker.TICK),
            enough=lambda: len(stored) >= PAGE_EVENTS or size >= PAGE_BYTES,
        )
        erased = ring.heard(root, after, through) - {offset for offset, _ in stored}
        if erased:
            log.warning("events are gone from the stream", root=str(root), count=len(erased), first=min(erased))
            raise HistoryGone(ResyncCause.EVENTS_ERASED)
        # A marker behind the position may say that another revision counts there. Sessions hear those events live.
        through = min(through, max(after, self._position()))
        entries: list[Entry] = []
        for number, (offset, message) in enumerate(stored, 1):
            if offset > through:
                break
            if message.subject not in NOT_EVENTS and (entry := self._check(epoch, offset, message)) is not None:
                entries.append(entry)
            if number % CHECK_IN_A_TURN == 0:
                await asyncio.sleep(0)
        return Page(root, after, through, tuple(entries), time.monotonic())

    def _check(self, epoch: str, offset: int, message: Stored) -> Entry | None:
        try:
            return self._checker.check(epoch, offset, message)
        except InvalidEvent:  # set aside when it was live
            return None
        except Exception:
            # As for live messages (`Intake._deliver_next`): no session could ever resume past it.
            log.exception("could not replay", offset=offset)
            return None

    def _find(self, root: Pair, after: int) -> Page | None:
        for page in self._kept_of.get(root, ()):
            if page.after <= after < page.through:
                return page
        return None

    def _keep(self, page: Page) -> None:
        """Keep a page for the sessions that ask next."""
        for entry in page.entries:
            entry.keeper = self
        self._kept.append(page)
        self._kept_of.setdefault(page.root, []).append(page)
        self._kept_bytes += page.bytes
        self.forget()

    def _forget_pages(self, *, read_before: float) -> None:
        while self._kept and (self._kept_bytes > KEEP_BYTES or self._kept[0].read_at < read_before):
            page = self._kept.popleft()
            self._kept_bytes -= page.bytes
            for entry in page.entries:
                entry.keeper = None
            pages = self._kept_of[page.root]
            pages.remove(page)
            if not pages:
                del self._kept_of[page.root]
