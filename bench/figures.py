"""The rows of the table of results (title, unit, goal), and the samples that fill them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

OURS = "beaconfire"
SOCKETIO = "socket.io"
UWS = "uws"
CENTRIFUGO = "centrifugo"
FLOOR = "c floor"
PEERS = (SOCKETIO, UWS, CENTRIFUGO, FLOOR)
QUIET = 0.25
"""The share of a core that other programs may take before a figure counts as disturbed."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `least` and `most` are goals for our figure, `times` is a factor of a peer's figure.

    With `of_cpu` the factors apply to CPU seconds per million deliveries, and ours must not be larger. With `is_cost`
    they apply to the figure itself, and ours must not be larger.
    """

    id: str
    title: str
    unit: str
    least: float | None = None
    most: float | None = None
    times: dict[str, float] = field(default_factory=dict)
    of_cpu: bool = False
    is_cost: bool = False

    @property
    def goal(self) -> str:
        """Return the goal as the table prints it."""
        parts = []
        if self.least is not None:
            parts.append(f"≥ {number(self.least)}")
        if self.most is not None:
            parts.append(f"≤ {number(self.most)}")
        parts += [f"{'≤' if self.is_less_better else '≥'} {factor:g} x {peer}" for peer, factor in self.times.items()]
        return ", ".join(parts)

    @property
    def is_less_better(self) -> bool:
        """Whether our figure must not be larger than the factor of the peer's."""
        return self.of_cpu or self.is_cost


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. `limited` names another part that was at its limit; the figure is then a lower bound."""

    row: str
    value: float
    subject: str = OURS
    cpu: float | None = None
    """The server's CPU seconds per million deliveries, or per million events if the unit is events."""
    limited: str = ""
    others: float = 0.0
    """The share of a core that other programs or the hypervisor took meanwhile."""


class Results:
    """The medians of the samples of all runs."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def value(self, row: str, subject: str = OURS) -> float | None:
        """Return the median figure, or None if it was not measured."""
        found = self._of(row, subject)
        return statistics.median(one.value for one in found) if found else None

    def cpu(self, row: str, subject: str = OURS) -> float | None:
        """Return the median of the CPU seconds per million."""
        found = [one.cpu for one in self._of(row, subject) if one.cpu is not None]
        return statistics.median(found) if found else None

    def spread(self, row: str) -> tuple[float, float] | None:
        """Return the smallest and the largest of our own figures, or None if there is only one."""
        found = [one.value for one in self._of(row, OURS)]
        return (min(found), max(found)) if len(found) > 1 else None

    def limits(self, row: str) -> list[str]:
        """Return what else was at its limit while ours was measured."""
        return sorted({one.limited for one in self._of(row, OURS)} - {""})

    def ratio(self, row: Row, peer: str) -> float | None:
        """Return our figure divided by the peer's. If the row's goal is about CPU, that is the CPU figure."""
        look = self.cpu if row.of_cpu else self.value
        ours, theirs = look(row.id), look(row.id, peer)
        return ours / theirs if ours is not None and theirs else None

    def is_met(self, row: Row) -> bool | None:
        """Return whether the goal is reached, or None if there is no goal or its figures were not measured."""
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
                judged.append(ratio <= factor if row.is_less_better else ratio >= factor)
        return all(judged) if judged else None

    def disturbed(self, row: str) -> float:
        """Return the share of a core that other programs took while a row was measured, for us and for the peers."""
        return max((one.others for subject in (OURS, *PEERS) for one in self._of(row, subject)), default=0.0)

    def _of(self, row: str, subject: str) -> list[Sample]:
        """Return the samples without disturbance, or all of them if every one was disturbed."""
        found = [one for one in self._samples if one.row == row and one.subject == subject]
        return [one for one in found if one.others <= QUIET] or found


def number(value: float) -> str:
    """Format a figure with three significant digits and separated thousands."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
