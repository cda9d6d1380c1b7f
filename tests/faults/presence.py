"""Damage gateways while users of every way in are told who is in a room: who lingers, who is missing, who flickers.

A `Resident` is a user with one client, which comes back when it loses its connection, as a page does. So no other
resident may ever be told that it is gone, unless its gateway is cut off for long. A guest does not come back. It must
be gone from every list within 15 s.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from tests.faults import report
from tests.faults.report import Section
from tests.faults.world import World, world
from tests.gateway.transports.ways import ROOM, WAYS, Heard, Refused, Way

SILENCE_S = 5.0
"""A client takes its gateway for lost after this. Gateways of these tests write every two seconds."""
AGAIN_S = 0.05
"""How long a client waits before it connects again."""
AWAY_S = 2.0
"""How long the clients that are moved stay away."""
PATIENCE_S = 60.0
"""A user who is still there after this, or still missing, is not waited for any more."""
MOMENT_S = 4.0
"""Shorter than the time after which a silent gateway's users are gone."""
GHOST_S = 15.0
SETTINGS = {"BEACONFIRE_HEARTBEAT_S": "2", "BEACONFIRE_PLAIN_PING_S": "2", "BEACONFIRE_PLAIN_DEAD_AFTER_S": "30"}
RESIDENTS: Sequence[Way] = [
    replace(way, presence=True) for way in WAYS if way.transport == "handover" and way.name != "native in batches"
]
"""How the residents come in."""
LOST = (Refused, aiohttp.ClientError, OSError, TimeoutError)


class Resident:
    """See the module. `known` is what its client knows of the room, by the rules of PROTOCOL.md."""

    def __init__(self, name: str, way: Way, token: str, urls: Sequence[str], home: int, *, comes_back: bool) -> None:
        self.name = name
        self.known: set[str] = set()
        self.told_gone: list[str] = []
        """The users that it was told as gone, in order."""
        self.home = home
        """The gateway at which it is, or is next."""
        self.is_there = False
        self.connects = 0
        self._way = way
        self._token = token
        self._urls = urls
        self._comes_back = comes_back
        self._pause_s = AGAIN_S
        self._connection: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Stay in the room, until the connection is lost for good."""
        while True:
            self._connection = asyncio.create_task(self._stay())
            (lost,) = await asyncio.gather(self._connection, return_exceptions=True)
            pause_s, self._pause_s = self._pause_s, AGAIN_S
            await asyncio.sleep(pause_s)
            if not self._comes_back:
                self.is_there = False
                return
            if isinstance(lost, LOST):
                self.home = (self.home + 1) % len(self._urls)
            elif lost is not None and not isinstance(lost, asyncio.CancelledError):
                raise lost

    def move(self, home: int, *, after_s: float = AGAIN_S) -> None:
        """Lose the connection, and come back at this gateway."""
        self.home = home
        self._pause_s = after_s
        if self._connection is not None:
            self._connection.cancel()

    async def _stay(self) -> None:
        async with self._way.open(self._urls[self.home], self._token) as visitor:
            self.known = {one["userId"] for one in visitor.ack["rooms"][ROOM]["presence"]["users"]}
            self.is_there = True
            self.connects += 1
            while True:
                async with asyncio.timeout(SILENCE_S):
                    self._hear(await visitor.find(lambda _: True))

    def _hear(self, heard: Heard) -> None:
        if heard.kind == "connection.ack":  # of a further poll
            self._replace(heard.body["rooms"][ROOM]["presence"]["users"])
        elif heard.kind == "presence" and "users" in heard.body:
            self._replace(heard.body["users"])
        elif heard.kind == "presence":
            self.known |= {one["userId"] for one in heard.body["joined"]}
            self.known -= set(heard.body["left"])
            self.told_gone += heard.body["left"]

    def _replace(self, users: Sequence[Mapping[str, Any]]) -> None:
        before, self.known = self.known, {one["userId"] for one in users}
        self.told_gone += sorted(before - self.known)


@dataclass
class Town:
    """The residents and guests of a world's room, and what a run has found."""

    world: World
    patience_s: float = PATIENCE_S
    residents: list[Resident] = field(default_factory=list)
    guests: list[Resident] = field(default_factory=list)
    gone_s: list[float] = field(default_factory=list)
    """From each fault until no list had any of the users that it took away."""
    healed_s: list[float] = field(default_factory=list)
    """From the end of each fault until every list had everybody."""
    trouble: list[str] = field(default_factory=list)
    """Who lingered, was missing or flickered."""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def enter(self, name: str, way: Way, home: int, *, comes_back: bool) -> Resident:
        """Add a user."""
        self.world.auth.members[name] = {ROOM: "viewer"}
        urls = [gateway.url for gateway in self.world.gateways]
        one = Resident(name, way, self.world.auth.token(name, ttl_s=3600), urls, home, comes_back=comes_back)
        (self.residents if comes_back else self.guests).append(one)
        self.tasks.append(asyncio.create_task(one.run(), name=name))
        return one

    @property
    def everybody(self) -> Sequence[Resident]:
        return [*self.residents, *self.guests]

    async def welcome(self, name: str, ways: Sequence[Way], home: int) -> None:
        """Add guests at a gateway, and wait until they are in."""
        come = [self.enter(f"{name}-{at}", way, home, comes_back=False) for at, way in enumerate(ways)]
        await self.until(lambda: all(one.is_there for one in come))

    def guests_at(self, home: int) -> list[str]:
        """The guests at a gateway."""
        return [one.name for one in self.guests if one.home == home and one.is_there]

    async def settle(self) -> None:
        """Wait until every resident knows exactly who is there."""
        began = time.monotonic()
        await self.until(lambda: all(one.is_there and one.known == self._there() for one in self.residents))
        there = self._there()
        for one in self.residents:
            self.trouble += [f"{one.name} misses {user}" for user in sorted(there - one.known)]
            self.trouble += [f"{one.name} still sees {user}" for user in sorted(one.known - there)]
        self.healed_s.append(time.monotonic() - began)

    async def until_gone(self, users: Sequence[str], seen_by: Callable[[Resident], bool]) -> None:
        """Wait until none of these residents has any of these users on its list. A fault has just begun."""
        began = time.monotonic()
        gone = set(users)
        await self.until(lambda: all(one.known.isdisjoint(gone) for one in self.residents if seen_by(one)))
        for one in filter(seen_by, self.residents):
            self.trouble += [f"{one.name} sees the ghost of {user}" for user in sorted(one.known & gone)]
        self.gone_s.append(time.monotonic() - began)

    def nobody_flickered(self) -> None:
        """Note the residents that any other was told as gone."""
        names = {one.name for one in self.residents}
        for one in self.residents:
            self.trouble += [f"{one.name} was told that {user} is gone" for user in one.told_gone if user in names]
        self.forget_told()

    def forget_told(self) -> None:
        """What was told until now was to be expected."""
        for one in self.residents:
            one.told_gone.clear()

    def _there(self) -> set[str]:
        return {one.name for one in self.everybody if one.is_there}

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something, as long as it is worth it."""
        deadline = time.monotonic() + self.patience_s
        while not holds() and time.monotonic() < deadline:
            await asyncio.sleep(0.02)


Fault = Callable[[Town, int], Awaitable[None]]
"""(town, the gateway that it happens to)."""


async def gateway_killed(town: Town, number: int) -> None:
    """A gateway killed -9 and started again. Its guests are gone, and its residents come back elsewhere."""
    gateway = town.world.gateways[number]
    gateway.kill()
    await town.until_gone(town.guests_at(number), lambda _: True)
    await asyncio.to_thread(gateway.start)


async def gateway_frozen(town: Town, number: int) -> None:
    """A gateway's clock stopped until its guests are gone. Its residents notice, and come back elsewhere."""
    process = town.world.gateways[number].process
    process.freeze()
    await town.until_gone(town.guests_at(number), lambda one: one.home != number)
    process.thaw()


async def gateway_cut_off(town: Town, number: int) -> None:
    """The bytes of a gateway to the broker are swallowed until each side has lost the other's users."""
    route = town.world.routes[number]
    here = [one.name for one in town.everybody if one.home == number]
    route.swallow = lambda _chunk: True
    await town.until_gone(here, lambda one: one.home != number)
    route.swallow = lambda _chunk: False
    route.cut()


async def gateway_cut_off_for_a_moment(town: Town, number: int) -> None:
    """The same for some seconds: nobody is told anything."""
    route = town.world.routes[number]
    route.swallow = lambda _chunk: True
    await asyncio.sleep(MOMENT_S)  # the fault itself
    route.swallow = lambda _chunk: False
    route.cut()


async def clients_moved(town: Town, number: int) -> None:
    """All residents of a gateway lose their connection, and come back at another one."""
    moved = {one: one.connects for one in town.residents if one.home == number}
    for one in moved:
        one.move((number + 1) % len(town.world.gateways), after_s=AWAY_S)
    await town.until(lambda: all(one.connects > before for one, before in moved.items()))


FAULTS: Mapping[str, Fault] = {
    "gateways killed -9": gateway_killed,
    "gateways frozen": gateway_frozen,
    "gateways cut off from the broker": gateway_cut_off,
    "gateways cut off for a moment": gateway_cut_off_for_a_moment,
    "clients moved to another gateway": clients_moved,
}

EXPECTED_TO_LEAVE = {"gateways cut off from the broker"}
"""Faults that take the residents of a gateway away from the others for a while."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a fault did to the lists of all residents."""

    gone_s: Sequence[float]
    healed_s: Sequence[float]
    trouble: Sequence[str]
    took_s: float

    @property
    def is_clean(self) -> bool:
        """Whether nobody lingered, was missing or flickered."""
        return not self.trouble


async def run(
    name: str, *, rounds: int, sabotage: str = "", patience_s: float = PATIENCE_S, ways: Sequence[Way] = RESIDENTS
) -> Outcome:
    """One fault, to each gateway in turn. `sabotage` is as in `world`."""
    began, healed_s = time.monotonic(), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        async with living(Path(folder), sabotage, patience_s, ways) as town:
            for number in range(rounds):
                at = number % len(town.world.gateways)
                for resident_number, one in enumerate(town.residents):
                    one.move(resident_number % len(town.world.gateways))
                await town.welcome(f"guest-{number}", [way for way in ways if way.over.stays], at)
                await town.settle()
                town.forget_told()
                town.healed_s.clear()
                await FAULTS[name](town, at)
                for home in range(len(town.world.gateways)):  # they are seen if the gateways hear each other again
                    await town.welcome(f"late-{number}-{home}", ways[:1], home)
                await town.settle()
                healed_s += town.healed_s
                if name not in EXPECTED_TO_LEAVE:
                    town.nobody_flickered()
            return Outcome(town.gone_s, healed_s, town.trouble, time.monotonic() - began)


@asynccontextmanager
async def living(folder: Path, sabotage: str, patience_s: float, ways: Sequence[Way]) -> AsyncIterator[Town]:
    """A world with a resident of each way at each of its gateways."""
    async with world(folder, settings=SETTINGS, sabotage=sabotage) as one:
        town = Town(one, patience_s)
        try:
            for home in range(len(one.gateways)):
                for way in ways:
                    town.enter(f"{way.name.replace(' ', '-')}-{home}", way, home, comes_back=True)
            yield town
        finally:
            for task in town.tasks:
                task.cancel()
            await asyncio.gather(*town.tasks, return_exceptions=True)


def section(outcomes: Mapping[str, Outcome], *, rounds: int) -> Section:
    """The results of each fault."""
    rows = [
        [
            name,
            *report.quantiles(one.gone_s, 1.0),
            *report.quantiles(one.healed_s, 1.0),
            str(len(one.trouble)),
            f"{one.took_s:.0f} s",
        ]
        for name, one in outcomes.items()
    ]
    title = f"Who is here, each fault {rounds} x, with users of every way in at two gateways"
    columns = ["fault", "gone after, at most", "complete again after, at most", "ghosts, missing, flickers", "took"]
    return Section(title, columns, rows)
