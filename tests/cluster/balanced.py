"""The load balancers' part of `make faults`: everything at once behind each of them, while each part is lost."""

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tests.cluster.everything import everything, lose_each_part
from tests.databases import Databases, Postgres, chosen
from tests.faults import report
from tests.faults.checker import Verdict
from tests.faults.report import Section
from tests.proxies import KINDS


@dataclass(frozen=True, slots=True)
class Outcome:
    """The effect on the clients behind one load balancer. Times are in seconds."""

    verdicts: Sequence[Verdict]
    back_s: Sequence[float]
    events: int
    trouble: Sequence[str]
    took_s: float

    @property
    def is_clean(self) -> bool:
        """Whether no client lost an event, or had it twice, or out of order, and none was refused or started over."""
        return not self.trouble and all(one.is_clean and not one.told for one in self.verdicts)


def run_all(*, rounds: int) -> dict[str, Outcome]:
    """Lose each part `rounds` times, behind each load balancer."""
    return {kind: _run(kind, rounds) for kind in KINDS}


def _run(kind: str, rounds: int) -> Outcome:
    server = Postgres()
    try:
        server.make()
        databases = Databases(server)
        with chosen(databases):
            return asyncio.run(_lose_each_part(kind, server, rounds))
    finally:
        server.remove()


async def _lose_each_part(kind: str, server: Postgres, rounds: int) -> Outcome:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with everything(kind, Path(folder)) as whole:
            for _ in range(rounds):
                await lose_each_part(whole, server)
            verdicts = await whole.verdicts()
            return Outcome(
                verdicts=list(verdicts.values()),
                back_s=list(chain.from_iterable(one.back_after_s for one in whole.clients)),
                events=len(whole.published),
                trouble=whole.trouble,
                took_s=time.monotonic() - started,
            )


def section(outcomes: Mapping[str, Outcome], *, rounds: int) -> Section:
    """The results, by load balancer."""
    columns = ["load balancer", "events", "deliveries", *report.DAMAGE.values(), "back p50", "back p95", "took"]
    rows = [
        [
            kind,
            f"{one.events:,}",
            *report.counts(one.verdicts),
            *report.quantiles(one.back_s, 0.5, 0.95),
            f"{one.took_s:.0f} s",
        ]
        for kind, one in outcomes.items()
    ]
    clients = max((len(one.verdicts) for one in outcomes.values()), default=0)
    often = "once" if rounds == 1 else f"{rounds} times"
    title = f"Behind each load balancer, each part was lost {often}, with {clients} clients of all protocols together"
    return Section(title, columns, rows)
