"""The delivering part of the line on a cluster: three servers, a gateway at each, writers at each, followers."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from nats.aio.client import Client

from beaconfire.local_services import ServiceProcess
from beaconfire_kit import broker
from tests.cluster.brokers import SIZE, Brokers
from tests.conftest import At, connected
from tests.fakes import FakeAuth
from tests.faults.checker import Verdict
from tests.faults.follower import Follower
from tests.faults.world import World
from tests.proxy import Proxy

RING_AGE_S = "1"
"""Short, so that clients that were away for longer are served from the stream."""


class ClusterWorld(World):
    """A world on three servers. `ways[g][s]` is how gateway g reaches server s."""

    def __init__(
        self,
        brokers: Brokers,
        gateways: list[ServiceProcess],
        ways: list[list[Proxy]],
        auth: FakeAuth,
        publishers: list[Client],
    ) -> None:
        routes = [way for one in ways for way in one]
        super().__init__(brokers.servers[0], gateways, routes, auth, publishers, whole=brokers)
        self.brokers = brokers
        self.ways = ways
        self.epoch = ""
        self.last_followers: list[Follower] = []
        """The followers of the last verdict."""
        self._names = itertools.count()

    def newcomer(self, *, since: str = "") -> Follower:
        """Add a follower, from now on or from a cursor. Every third follows only one settlement."""
        number = next(self._names)
        rooms = ("campaign:c1/settlement:s1",) if number % 3 == 2 else ()
        return self.follow(f"f{number}", *rooms, since=since)

    @property
    def cursor(self) -> str:
        """The newest that was acknowledged."""
        return f"{self.epoch}:{max(self.acknowledged)}"

    async def be_seated(self) -> None:
        """See to it that gateway g is connected to server g."""
        for number, ways in enumerate(self.ways):
            for server, way in enumerate(ways):
                if server != number:
                    way.refusing = True
                    way.cut()
        while not all(ways[number].is_used for number, ways in enumerate(self.ways)):
            await asyncio.sleep(0.05)
        for way in self.routes:
            way.refusing = False
        for gateway in self.gateways:
            await asyncio.to_thread(gateway.wait_ready)

    async def repaired(self) -> int:
        """How many messages the gateways had to read from the stream, because the live path had not brought them."""
        return await self.figure("beaconfire_gateway_messages_repaired_total")

    async def told(self, *states: str, timeout_s: float = 60.0) -> None:
        """Wait until every follower got exactly these messages about the broker, in this order."""
        async with asyncio.timeout(timeout_s):
            while any(tuple(one.states[-len(states) :]) != states for one in self.followers):
                await asyncio.sleep(0.05)

    async def judged(self) -> Mapping[str, Verdict]:
        """Send one last event to all followers, judge them, and disconnect them."""
        await self.publish(settlement="s1")
        await self.settle()
        verdicts = await self.verdicts()
        self.last_followers = self.followers
        await self.dismiss()
        return verdicts


@asynccontextmanager
async def cluster_world(folder: Path) -> AsyncIterator[ClusterWorld]:
    """Start it; everything is ended at the end of the block, whatever was done to it."""
    processes: list[ServiceProcess] = []
    try:
        async with AsyncExitStack() as stack:
            brokers = await stack.enter_async_context(Brokers(folder).running())
            auth = await stack.enter_async_context(FakeAuth().running(brokers))
            publishers = [await stack.enter_async_context(connected(brokers, "publisher"))]
            for server in brokers.servers:
                at = At(server.url, brokers.passwords)
                publishers.append(await stack.enter_async_context(connected(at, "publisher")))
            ways: list[list[Proxy]] = []
            for number in range(SIZE):
                ways.append(
                    [await stack.enter_async_context(Proxy(server.port).running()) for server in brokers.servers]
                )
                environment = {
                    **brokers.servers[number].environment("gateway"),
                    "BEACONFIRE_NATS_URL": ",".join(f"nats://127.0.0.1:{way.port}" for way in ways[-1]),
                    "BEACONFIRE_JWKS_URL": auth.jwks_url,
                    "BEACONFIRE_RING_AGE_S": RING_AGE_S,
                }
                processes.append(
                    ServiceProcess(f"gateway-{number}", "beaconfire_gateway", environment, folder=folder / "logs")
                )
                processes[-1].start(wait=False)
            for process in processes:
                await asyncio.to_thread(process.wait_ready)
            one = ClusterWorld(brokers, processes, ways, auth, publishers)
            stack.push_async_callback(one.stop)
            one.epoch = (await broker.stream_state(publishers[0])).epoch
            yield one
    finally:
        for process in processes:
            process.process.thaw()
            process.kill()
