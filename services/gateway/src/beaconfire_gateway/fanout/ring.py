"""The ring: the newest events of the stream, in memory, from which resuming and lagging sessions are fed.

Complete above `floor`: every event of the catalogue with an offset above it is here, of every root.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.route import Route
from beaconfire_kit.subjects import Pair

REMEMBERED = 20_000
"""Events that left the ring, of which it still knows the offset and the rooms: 90 bytes each."""


class Ring:
    """Bounded by bytes and by age (seconds); the oldest events go first. Implements `entry.Keeper`.

    Call `forget` now and then: without it, age counts only when an event comes.
    """

    def __init__(self, *, max_bytes: int, max_age_s: float) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._entries: list[Entry] = []
        self._first = 0  # entries before it are gone; cut off when they are half of the list
        self._left: deque[tuple[int, Route]] = deque(maxlen=REMEMBERED)  # oldest first
        self.bytes = 0
        self.floor = 0
        self.least = 0
        """Events that are kept however old they are, as far as the bound in bytes allows."""
        self.gone_unchecked = 0
        """Events that left before they were checked."""

    def __len__(self) -> int:
        return len(self._entries) - self._first

    def start(self, floor: int) -> None:
        """Empty it: complete above `floor` from now on."""
        for entry in self._entries:
            entry.keeper = None
        self._entries.clear()
        self._left.clear()
        self._first = 0
        self.bytes = 0
        self.floor = floor

    def append(self, entry: Entry) -> None:
        """Add the next event."""
        entries = self._entries
        entries.append(entry)
        entry.keeper = self
        self.bytes += entry.size
        oldest = entry.at - self._max_age_s
        while self._first < len(entries) and (
            self.bytes > self._max_bytes or (entries[self._first].at < oldest and len(self) > self.least)
        ):
            self._evict()

    def grow(self, count: int) -> None:
        """One of its entries takes `count` bytes more than before: it was encoded for a wire."""
        self.bytes += count
        while self.bytes > self._max_bytes and self._first < len(self._entries):
            self._evict()

    def forget(self, now: float) -> None:
        """Drop events that are too old, also while no new ones come. `now` is on the clock of `Entry.at`."""
        oldest = now - self._max_age_s
        while len(self) > self.least and self._entries[self._first].at < oldest:
            self._evict()

    def covers(self, offset: int) -> bool:
        """Whether everything after `offset` is here."""
        return offset >= self.floor

    def after(self, offset: int, limit: int) -> Sequence[Entry]:
        """The next events after `offset`, in order, `limit` at most."""
        start = bisect_right(self._entries, offset, lo=self._first, key=_offset)
        return self._entries[start : start + limit]

    def heard(self, root: Pair, after: int, through: int) -> set[int]:
        """The offsets in (after, through] at which events of a root came, as far as they are remembered.

        Refused events do not count.
        """
        offsets: set[int] = set()
        for offset, route in reversed(self._left):
            if offset <= after:
                break
            if offset <= through and _is_of(route, root):
                offsets.add(offset)
        for entry in self.after(after, REMEMBERED):
            if entry.offset > through:
                break
            if not entry.is_refused and _is_of(entry.route, root):
                offsets.add(entry.offset)
        return offsets

    def newest(self, limit: int) -> Sequence[Entry]:
        """The newest events, in order, `limit` at most."""
        return self._entries[max(self._first, len(self._entries) - limit) :]

    def _evict(self) -> None:
        gone = self._entries[self._first]
        self._entries[self._first] = _GONE
        self._first += 1
        self.bytes -= gone.size
        gone.keeper = None
        if not gone.type:  # it was refused, or nobody has checked it
            self.gone_unchecked += not gone.is_checked
        if gone.type or not gone.is_refused:
            self._left.append((gone.offset, gone.route))
        self.floor = gone.offset
        if self._first > 1024 and self._first * 2 > len(self._entries):
            del self._entries[: self._first]
            self._first = 0


def _is_of(route: Route, root: Pair) -> bool:
    return any(room.root == root for room in route.rooms)


def _offset(entry: Entry) -> int:
    return entry.offset


_GONE = Entry(0, Route("user.none", ()), b"", 0.0)
