"""Compare a client's events with the stream: lost, twice, out of order, unexpected. No I/O.

Events that a `resync` covers are not lost silently. They are counted separately.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """An event as the stream has it."""

    id: str
    rooms: frozenset[str]


@dataclass(frozen=True, slots=True)
class Reload:
    """A `resync`: the client loads its state again, so events in (after, upto] need not come."""

    after: int
    upto: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Offsets by their problem. Those in `told` were covered by a reload."""

    lost: tuple[int, ...]
    twice: tuple[int, ...]
    out_of_order: tuple[int, ...]
    unexpected: tuple[int, ...]
    told: tuple[int, ...]
    delivered: int

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.twice or self.out_of_order or self.unexpected)

    def __str__(self) -> str:
        parts = [f"{self.delivered} delivered"]
        for name in ("lost", "twice", "out_of_order", "unexpected", "told"):
            offsets = getattr(self, name)
            if offsets:
                parts.append(f"{len(offsets)} {name.replace('_', ' ')} (first {offsets[0]})")
        return ", ".join(parts)


def check(
    applied: Sequence[tuple[int, str]],
    stream: Mapping[int, Event],
    *,
    rooms: frozenset[str],
    after: int,
    upto: int,
    reloads: Sequence[Reload] = (),
) -> Verdict:
    """Judge what a client in `rooms` applied, as (offset, event id), of the stream's offsets in (after, upto]."""
    expected = {offset for offset, event in stream.items() if after < offset <= upto and event.rooms & rooms}
    counts = Counter(offset for offset, _ in applied)
    missing = expected - counts.keys()
    told = {offset for offset in missing if any(one.after < offset <= one.upto for one in reloads)}
    highest = after
    late: list[int] = []
    for offset, _ in applied:
        if offset < highest:
            late.append(offset)
        highest = max(highest, offset)
    wrong = {
        offset
        for offset, event_id in applied
        if offset <= upto and (offset not in expected or stream[offset].id != event_id)
    }
    return Verdict(
        lost=tuple(sorted(missing - told)),
        twice=tuple(sorted(offset for offset, count in counts.items() if count > 1)),
        out_of_order=tuple(late),
        unexpected=tuple(sorted(wrong)),
        told=tuple(sorted(told)),
        delivered=len(expected) - len(missing),
    )
