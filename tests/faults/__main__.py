"""`make faults`: every fault for longer, and a report. Exits 1 where a client lost something or had it twice.

python -m tests.faults [--rounds 8] [--followers 20] [--only "broker killed -9"]

Without `--only`: every fault of one broker, then every scenario of a cluster of three.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shared import logs
from tests.cluster import report as cluster
from tests.cluster.scenarios import SCENARIOS
from tests.faults.checker import Verdict
from tests.faults.faults import FAULTS
from tests.faults.world import world

RING_AGE_S = "5"
"""Short, so that some resume from a gateway's memory and some from the stream."""


async def run(name: str, *, rounds: int, followers: int) -> tuple[list[Verdict], list[float], int, float]:
    """One fault. Returns the verdicts, the interruptions in seconds, the events published and the seconds it took."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with world(Path(folder), settings={"BEACONFIRE_RING_AGE_S": RING_AGE_S}) as one:
            for number in range(followers):
                one.follow(f"f{number}", *(("campaign:c1/settlement:s1",) if number % 3 == 2 else ()))
            await one.everybody_is_there()
            async with one.writing():
                await FAULTS[name](one, rounds)
            await one.publish(settlement="s1")
            await one.settle()
            verdicts = list((await one.verdicts()).values())
            interruptions = [back for follower in one.followers for back in follower.back_after_s]
            return verdicts, interruptions, len(one.acknowledged), time.monotonic() - started


def report(console: Console, names: list[str], *, rounds: int, followers: int) -> bool:
    """Run and print. Whether everything was clean."""
    table = Table(title=f"{followers} clients, {rounds} rounds of each fault, two gateways")
    for column in (
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
        "took",
    ):
        table.add_column(column, justify="left" if column == "fault" else "right")
    clean = True
    for name in names:
        verdicts, back, events, took = asyncio.run(run(name, rounds=rounds, followers=followers))
        clean = clean and all(verdict.is_clean for verdict in verdicts)
        table.add_row(
            name,
            str(events),
            str(sum(verdict.delivered for verdict in verdicts)),
            *(
                str(sum(len(getattr(verdict, field)) for verdict in verdicts))
                for field in ("lost", "twice", "out_of_order", "unexpected", "told")
            ),
            *(f"{_quantile(back, part):.2f} s" if back else "-" for part in (0.5, 0.95)),
            f"{took:.0f} s",
        )
    console.print(table)
    return clean


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--followers", type=int, default=20)
    parser.add_argument("--only", choices=[*FAULTS, *SCENARIOS, "cluster"], default=None)
    chosen = parser.parse_args()
    logs.configure("faults", level="error", format="console")
    console = Console(width=130)
    size = {"rounds": chosen.rounds, "followers": chosen.followers}
    wanted = {None: [*FAULTS, *SCENARIOS], "cluster": [*SCENARIOS]}.get(chosen.only, [chosen.only])
    alone, together = [name for name in wanted if name in FAULTS], [name for name in wanted if name in SCENARIOS]
    clean = not alone or report(console, alone, **size)
    clean = (not together or cluster.report(console, together, **size)) and clean
    console.print("clean" if clean else "[red]DAMAGED")
    sys.exit(0 if clean else 1)


def _quantile(values: list[float], part: float) -> float:
    return (
        statistics.quantiles(values, n=100, method="inclusive")[round(part * 100) - 1] if len(values) > 1 else values[0]
    )


if __name__ == "__main__":
    main()
