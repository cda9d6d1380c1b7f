"""What is measured, as rows of a table: title, unit, goal. And the samples that fill them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

OURS = "beaconfire"
SOCKETIO = "socket.io"
UWS = "uws"
FLOOR = "c floor"
PEERS = (SOCKETIO, UWS, FLOOR)
QUIET = 0.25
"""Share of a core that other programs may take without a figure being disturbed."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `least` and `most` bound our own figure; `times` gives a factor to a peer's figure.

    With `of_cpu` the factors are of CPU seconds a million deliveries, and ours may be no larger.
    """

    id: str
    title: str
    unit: str
    least: float | None = None
    most: float | None = None
    times: dict[str, float] = field(default_factory=dict)
    of_cpu: bool = False

    @property
    def goal(self) -> str:
        """The goal as the table prints it."""
        parts = []
        if self.least is not None:
            parts.append(f"≥ {number(self.least)}")
        if self.most is not None:
            parts.append(f"≤ {number(self.most)}")
        parts += [f"{'≤' if self.of_cpu else '≥'} {factor:g} x {peer}" for peer, factor in self.times.items()]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. `limited` says what else was at its limit, so that the figure is a lower bound."""

    row: str
    value: float
    subject: str = OURS
    cpu: float | None = None
    """CPU seconds of the server a million deliveries (or events, where the unit is events)."""
    limited: str = ""
    others: float = 0.0
    """Share of a core that other programs took meanwhile, or the hypervisor."""


class Results:
    """The samples of all runs, as medians."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def value(self, row: str, subject: str = OURS) -> float | None:
        """The median figure, None where it was not measured."""
        found = self._of(row, subject)
        return statistics.median(one.value for one in found) if found else None

    def cpu(self, row: str, subject: str = OURS) -> float | None:
        """The median of the CPU seconds a million."""
        found = [one.cpu for one in self._of(row, subject) if one.cpu is not None]
        return statistics.median(found) if found else None

    def spread(self, row: str) -> tuple[float, float] | None:
        """The smallest and the largest of our own figures; None for a single one."""
        found = [one.value for one in self._of(row, OURS)]
        return (min(found), max(found)) if len(found) > 1 else None

    def limits(self, row: str) -> list[str]:
        """What else was at its limit while ours was measured."""
        return sorted({one.limited for one in self._of(row, OURS)} - {""})

    def ratio(self, row: Row, peer: str) -> float | None:
        """Our figure through the peer's; of CPU where that is the row's goal."""
        look = self.cpu if row.of_cpu else self.value
        ours, theirs = look(row.id), look(row.id, peer)
        return ours / theirs if ours is not None and theirs else None

    def is_met(self, row: Row) -> bool | None:
        """Whether the goal is reached; None where there is none, or what it needs was not measured."""
        ours = self.value(row.id)
        if ours is None:
            return None
        judged = []
        if row.least is not None:
            judged.append(ours >= row.least)
        if row.most is not None:
            judged.append(ours <= row.most)
        for peer, factor in row.times.items():
            ratio = self.ratio(row, peer)
            if ratio is not None:
                judged.append(ratio <= factor if row.of_cpu else ratio >= factor)
        return all(judged) if judged else None

    def disturbed(self, row: str) -> float:
        """The share of a core that others took while what the table says of a row was measured, ours and the peers'."""
        return max((one.others for subject in (OURS, *PEERS) for one in self._of(row, subject)), default=0.0)

    def _of(self, row: str, subject: str) -> list[Sample]:
        """Samples in which others were quiet, where there are such."""
        found = [one for one in self._samples if one.row == row and one.subject == subject]
        return [one for one in found if one.others <= QUIET] or found


def number(value: float) -> str:
    """A figure with three digits that count, and thousands set apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
