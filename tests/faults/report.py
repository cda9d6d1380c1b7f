"""The report of `make faults`: tables, for a terminal and for the page that promises what they show. No I/O."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from tests.faults.checker import Verdict
from tests.faults.follower import Resume

DAMAGE = {"lost": "lost", "twice": "twice", "out_of_order": "out of order", "unexpected": "wrong", "told": "told"}
"""Fields of a verdict, and how the tables call them."""
FEW = 100
"""Missed events: resumes of no more than these are measured."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The effect of a fault on the clients of two gateways. Times are in seconds."""

    verdicts: Sequence[Verdict]
    events: int
    back_s: Sequence[float]
    """From each lost connection to the next one."""
    caught_up_s: Sequence[float]
    """After each return of the broker: the time until every follower had every event."""
    resumes: Sequence[Resume]
    took_s: float

    @property
    def is_clean(self) -> bool:
        return all(verdict.is_clean for verdict in self.verdicts)

    @property
    def short_resumes_s(self) -> list[float]:
        """How long each resume of a few missed events took, from asking to the last of them."""
        return [one.took_s for one in self.resumes if one.missed <= FEW]


@dataclass(frozen=True, slots=True)
class Section:
    """A table. The first column holds words, the others figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def table(self) -> Table:
        """Return the table for a terminal."""
        table = Table(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Return the table for a page, as Markdown."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(line)} |" for line in lines)])


@dataclass(frozen=True, slots=True)
class Promise:
    """A figure that is promised to be `at` most (or at `least`) so much. `measured` is None if there was no
    measurement."""

    title: str
    measured: float | None
    at: float
    unit: str = ""
    least: bool = False

    @property
    def is_kept(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.at if self.least else self.measured <= self.at

    def row(self) -> list[str]:
        """Return the promise's row of the table."""
        measured = "not measured" if self.measured is None else self._shown(self.measured)
        return [
            self.title,
            measured,
            f"{'≥' if self.least else '≤'} {self._shown(self.at)}",
            {None: "", True: "kept", False: "BROKEN"}[self.is_kept],
        ]

    def _shown(self, value: float) -> str:
        digits = {"%": 3, "s": 2}.get(self.unit, 0)
        return f"{value:.{digits}f} {self.unit}".rstrip()


def faults(outcomes: Mapping[str, Outcome], *, rounds: int, followers: int) -> Section:
    """The results of each fault."""
    columns = ["fault", "events", "deliveries", *DAMAGE.values(), "back p50", "back p95", "caught up", "took"]
    rows = [
        [
            name,
            f"{outcome.events:,}",
            *counts(outcome.verdicts),
            *quantiles(outcome.back_s, 0.5, 0.95),
            *quantiles(outcome.caught_up_s, 1.0),
            f"{outcome.took_s:.0f} s",
        ]
        for name, outcome in outcomes.items()
    ]
    return Section(f"Each fault happened {rounds} times, to {followers} clients at two gateways", columns, rows)


def resumes(outcomes: Mapping[str, Outcome], *, rounds: int, followers: int) -> Section:
    """How long clients took that came back, by where their missed events came from."""
    columns = ["missed events come from", "resumes", "missed by each", "p50", "p95", "p99", *list(DAMAGE.values())[:3]]
    rows = []
    for source, outcome in outcomes.items():
        missed = [one.missed for one in outcome.resumes if one.missed <= FEW]
        rows.append(
            [
                source,
                f"{len(missed):,}",
                f"{min(missed)} to {max(missed)}" if missed else "-",
                *quantiles(outcome.short_resumes_s, 0.5, 0.95, 0.99),
                *counts(outcome.verdicts)[1:4],
            ]
        )
    return Section(
        f"{followers} clients connected again together after two seconds, {rounds} times: the time from `connect` to "
        "the last missed event",
        columns,
        rows,
    )


def promises(kept: Sequence[Promise]) -> Section:
    """The promises beside the measured figures."""
    return Section(
        "What is promised, and what was measured",
        ["what", "measured", "promised", "result"],
        [one.row() for one in kept],
    )


def counts(verdicts: Sequence[Verdict]) -> list[str]:
    """Delivered, then each kind of damage, over all clients."""
    delivered = sum(verdict.delivered for verdict in verdicts)
    return [f"{delivered:,}", *(f"{damaged(verdicts, kind):,}" for kind in DAMAGE)]


def damaged(verdicts: Sequence[Verdict], *kinds: str) -> int:
    """How many events came to harm in these ways, over all clients."""
    return sum(len(getattr(verdict, kind)) for verdict in verdicts for kind in kinds)


def delivered_percent(verdicts: Sequence[Verdict]) -> float:
    """The share of what should have come that did."""
    delivered = sum(verdict.delivered for verdict in verdicts)
    return 100 * delivered / (delivered + damaged(verdicts, "lost", "told"))


def quantile(seconds: Sequence[float], part: float) -> float | None:
    """A quantile, 1.0 being the largest; None of nothing."""
    ordered = sorted(seconds)
    return ordered[math.ceil(part * len(ordered)) - 1] if ordered else None


def quantiles(seconds: Sequence[float], *parts: float) -> list[str]:
    """Quantiles for a table."""
    found = [quantile(seconds, part) for part in parts]
    return [f"{one:.2f} s" if one is not None else "-" for one in found]
