"""`make faults`: every fault for longer, and a report. Exits 1 where a client lost something or had it twice.

python -m tests.faults [--rounds 8] [--followers 20] [--only "broker killed -9"]

Without `--only`: every fault of one broker, how long resumes take, then every scenario of a cluster of three.
"""

import argparse
import asyncio
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from shared import logs
from tests.cluster import report as cluster
from tests.cluster.scenarios import SCENARIOS
from tests.faults.checker import Verdict
from tests.faults.faults import FAULTS
from tests.faults.follower import Resume
from tests.faults.world import world

RING_AGE_S = "5"
"""Short, so that some resume from a gateway's memory and some from the stream."""
FEW = 100
"""Missed events: resumes of no more than these are measured."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a fault did."""

    verdicts: Sequence[Verdict]
    events: int
    back_s: Sequence[float]
    caught_up_s: Sequence[float]
    resumes: Sequence[Resume]
    took_s: float


async def run(
    name: str, *, rounds: int, followers: int, ring_age_s: str = RING_AGE_S, load: Mapping[str, Any] | None = None
) -> Outcome:
    """One fault, while as much is written as `load` says (`World.writing`)."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with world(Path(folder), settings={"BEACONFIRE_RING_AGE_S": ring_age_s}) as one:
            for number in range(followers):
                one.follow(f"f{number}", *(("campaign:c1/settlement:s1",) if number % 3 == 2 else ()))
            await one.everybody_is_there()
            async with one.writing(**(load or {})):
                await FAULTS[name](one, rounds)
            await one.publish(settlement="s1")
            await one.settle()
            return Outcome(
                verdicts=list((await one.verdicts()).values()),
                events=len(one.acknowledged),
                back_s=[back for follower in one.followers for back in follower.back_after_s],
                caught_up_s=one.caught_up_s,
                resumes=[resume for follower in one.followers for resume in follower.resumes],
                took_s=time.monotonic() - started,
            )


def report(console: Console, names: Sequence[str], *, rounds: int, followers: int) -> bool:
    """Run and print. Whether everything was clean."""
    table = Table(title=f"{followers} clients, {rounds} rounds of each fault, two gateways")
    columns = (
        "fault",
        "events",
        "delivered",
        "lost",
        "twice",
        "order",
        "wrong",
        "told",
        "back p50",
        "p95",
        "caught up",
    )
    for column in (*columns, "took"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    outcomes = {name: asyncio.run(run(name, rounds=rounds, followers=followers)) for name in names}
    for name, outcome in outcomes.items():
        table.add_row(
            name,
            str(outcome.events),
            *_counts(outcome),
            *_shown(outcome.back_s, 0.5, 0.95),
            *_shown(outcome.caught_up_s, 1.0),
            f"{outcome.took_s:.0f} s",
        )
    console.print(table)
    return all(verdict.is_clean for outcome in outcomes.values() for verdict in outcome.verdicts)


def report_resumes(console: Console, *, rounds: int, followers: int) -> bool:
    """How long it takes a client that was away for two seconds to have all it missed. Whether everything was clean."""
    name = "clients away for 2 s"
    table = Table(title=f"{followers} clients at once, back after two seconds, {rounds} times; from asking to the last")
    for column in ("missed events come from", "resumes", "missed", "p50", "p95", "p99", "lost", "twice", "order"):
        table.add_column(column, justify="left" if column.startswith("missed events") else "right")
    clean = True
    for source, ring_age_s in (("the gateway's memory", "60"), ("the stream", "1")):
        outcome = asyncio.run(
            run(name, rounds=rounds, followers=followers, ring_age_s=ring_age_s, load={"writers": 1, "pause_s": 0.03})
        )
        short = [resume for resume in outcome.resumes if resume.missed <= FEW]
        table.add_row(
            source,
            str(len(short)),
            f"{min(one.missed for one in short)}-{max(one.missed for one in short)}" if short else "-",
            *_shown([one.took_s for one in short], 0.5, 0.95, 0.99),
            *_counts(outcome)[1:4],
        )
        clean = clean and all(verdict.is_clean for verdict in outcome.verdicts)
    console.print(table)
    return clean


def _counts(outcome: Outcome) -> list[str]:
    """Delivered, lost, twice, out of order, unexpected, told."""
    damage = ("lost", "twice", "out_of_order", "unexpected", "told")
    return [
        str(sum(verdict.delivered for verdict in outcome.verdicts)),
        *(str(sum(len(getattr(verdict, kind)) for verdict in outcome.verdicts)) for kind in damage),
    ]


def _shown(seconds: Sequence[float], *parts: float) -> list[str]:
    """Quantiles of the samples, 1.0 being the longest."""
    ordered = sorted(seconds)
    return [f"{ordered[math.ceil(part * len(ordered)) - 1]:.2f} s" if ordered else "-" for part in parts]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--followers", type=int, default=20)
    parser.add_argument("--only", choices=[*FAULTS, *SCENARIOS, "resumes", "cluster"], default=None)
    chosen = parser.parse_args()
    logs.configure("faults", level="error", format="console")
    console = Console(width=130)
    size = {"rounds": chosen.rounds, "followers": chosen.followers}
    wanted = {None: [*FAULTS, *SCENARIOS], "cluster": [*SCENARIOS]}.get(chosen.only, [chosen.only])
    alone, together = [name for name in wanted if name in FAULTS], [name for name in wanted if name in SCENARIOS]
    clean = not alone or report(console, alone, **size)
    if chosen.only in (None, "resumes"):
        clean = report_resumes(console, **size) and clean
    clean = (not together or cluster.report(console, together, **size)) and clean
    console.print("clean" if clean else "[red]DAMAGED")
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    main()
