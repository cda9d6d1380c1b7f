"""Which revision of the catalogue counts at which offset of the stream. No I/O.

timeline.begin([(0, seven), (1200, eight)])
timeline.add(5310, nine)             # the marker at offset 5310 was reached
timeline.at(4000)                    # → eight
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable

from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.checking import FEW_REMEMBERED, MAX_REMEMBERED

Start = tuple[int, Catalogue]
"""(offset of the marker, or 0; the revision that counts for everything behind it)."""


class Timeline:
    """The revisions of one epoch, in the order of their markers. Before `begin` it has the system's two types alone."""

    def __init__(self) -> None:
        self._offsets: list[int] = []
        self._catalogues: list[Catalogue] = []
        self.since = 0
        """The offset behind which `current` counts."""
        self.current = Catalogue.of(0, {})
        """The revision that counts for what comes next."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when another revision may count."""

    def __len__(self) -> int:
        return len(self._offsets)

    def __contains__(self, offset: int) -> bool:
        """Whether a revision begins at this offset."""
        index = bisect_left(self._offsets, offset)
        return self._offsets[index : index + 1] == [offset]

    def begin(self, starts: Iterable[Start]) -> None:
        """Start over, with at least one revision: in another epoch, or because markers may have been missed.

        The first revision also counts for everything before its offset.
        """
        pairs = sorted(starts, key=lambda start: start[0])
        self._offsets = [offset for offset, _ in pairs]
        self._catalogues = [catalogue for _, catalogue in pairs]
        self._settle()

    def add(self, offset: int, catalogue: Catalogue) -> None:
        """A marker was reached: this revision counts behind it, up to the next one that is known."""
        index = bisect_left(self._offsets, offset)
        self._offsets.insert(index, offset)
        self._catalogues.insert(index, catalogue)
        self._settle()

    def at(self, offset: int) -> Catalogue:
        """Return the revision that counts for the message at an offset."""
        if offset > self.since:
            return self.current
        return self._catalogues[max(0, bisect_left(self._offsets, offset) - 1)]

    def catalogues(self) -> frozenset[Catalogue]:
        """Return every revision that counts somewhere."""
        return frozenset(self._catalogues)

    def forget(self, first: int) -> None:
        """Drop revisions that count for nothing from the offset `first` on: the stream begins there."""
        gone = max(0, bisect_left(self._offsets, first) - 1)
        del self._offsets[:gone], self._catalogues[:gone]

    def _settle(self) -> None:
        """Note which revision counts for what comes next. The others are needed for old events only."""
        self.since, self.current = self._offsets[-1], self._catalogues[-1]
        for one in self._catalogues:
            one.checker.remember(MAX_REMEMBERED if one is self.current else FEW_REMEMBERED)
        self.on_change()
