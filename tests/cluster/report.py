"""The cluster's part of `make faults`: every scenario for longer, a row each."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.cluster.scenarios import SCENARIOS
from tests.cluster.world import ClusterWorld, cluster_world
from tests.faults.checker import Verdict
from tests.faults.report import DAMAGE, Section, counts

COLUMNS = ("acknowledged", "deliveries", *DAMAGE.values(), "repaired", "no acknowledgement for", "longest hold", "took")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one scenario. Times are in seconds."""

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
        times = (f"{self.pause_s:.1f} s", f"{self.hold_s:.2f} s", f"{self.took_s:.0f} s")
        return [f"{self.acknowledged:,}", *counts(self.verdicts), f"{self.repaired:,}", *times]


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


async def run_all(names: Sequence[str], *, rounds: int, followers: int) -> dict[str, Outcome]:
    """Scenarios, one after the other, on one cluster."""
    with tempfile.TemporaryDirectory() as folder:
        async with cluster_world(Path(folder)) as world:
            return {name: await run(world, name, rounds=rounds, followers=followers) for name in names}


def section(outcomes: Mapping[str, Outcome], *, rounds: int, followers: int) -> Section:
    """The results of all scenarios."""
    title = (
        f"Each fault happened {rounds} times in a cluster of three brokers, with {followers} clients at three gateways"
    )
    return Section(title, ["fault", *COLUMNS], [[name, *one.row()] for name, one in outcomes.items()])
