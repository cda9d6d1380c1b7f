"""The cluster's part of `make faults`: every scenario for longer, one row each."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.cluster.scenarios import SCENARIOS
from tests.cluster.world import ClusterWorld, cluster_world
from tests.faults.checker import Verdict

COLUMNS = ("acknowledged", "delivered", "lost", "twice", "order", "wrong", "told", "repaired", "pause", "hold", "took")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one scenario came to. Times are in seconds."""

    acknowledged: int
    verdicts: Sequence[Verdict]
    repaired: int
    pause_s: float
    """The longest time without an acknowledgement."""
    hold_s: float
    """The longest time from an acknowledgement to a client that was there."""
    took_s: float

    @property
    def is_clean(self) -> bool:
        return all(verdict.is_clean and not verdict.told for verdict in self.verdicts)

    def row(self) -> list[str]:
        """In the order of `COLUMNS`."""
        fields = ("lost", "twice", "out_of_order", "unexpected", "told")
        return [
            str(self.acknowledged),
            str(sum(verdict.delivered for verdict in self.verdicts)),
            *(str(sum(len(getattr(verdict, field)) for verdict in self.verdicts)) for field in fields),
            str(self.repaired),
            f"{self.pause_s:.1f} s",
            f"{self.hold_s:.2f} s",
            f"{self.took_s:.0f} s",
        ]


async def run(world: ClusterWorld, name: str, *, rounds: int, followers: int) -> Outcome:
    """One scenario, to the verdicts. An acknowledged event that is not in the stream is an AssertionError."""
    started = time.monotonic()
    await world.be_seated()
    there = [world.newcomer() for _ in range(followers)]
    await world.everybody_is_there()
    before, repaired = set(world.acknowledged), await world.repaired()
    async with world.writing():
        await SCENARIOS[name](world, rounds)
    verdicts = list((await world.judged()).values())
    times = {offset: at for offset, at in world.acknowledged_at.items() if offset not in before}
    holds = [at - times[offset] for one in there for offset, at in one.applied_at.items() if offset in times]
    return Outcome(
        acknowledged=len(times),
        verdicts=verdicts,
        repaired=await world.repaired() - repaired,
        pause_s=max(b - a for a, b in pairwise(sorted(times.values()))),
        hold_s=max(holds),
        took_s=time.monotonic() - started,
    )


def report(console: Console, names: Sequence[str], *, rounds: int, followers: int) -> bool:
    """Run on one cluster and print. Whether everything was clean."""
    return asyncio.run(_report(console, names, rounds=rounds, followers=followers))


async def _report(console: Console, names: Sequence[str], *, rounds: int, followers: int) -> bool:
    table = Table(title=f"three brokers, a gateway at each, {followers} clients, {rounds} rounds of each")
    table.add_column("cluster")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    clean = True
    with tempfile.TemporaryDirectory() as folder:
        async with cluster_world(Path(folder)) as world:
            for name in names:
                outcome = await run(world, name, rounds=rounds, followers=followers)
                clean = clean and outcome.is_clean
                table.add_row(name, *outcome.row())
    console.print(table)
    return clean
