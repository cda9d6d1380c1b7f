"""Three nats-servers as one cluster, as it is shipped, with a proxy on each route: it can be cut and delayed."""

import asyncio
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from beaconfire.broker_config import ROUTES_USER, Node, quoted
from beaconfire.broker_users import USERS
from beaconfire.nats_server import NatsServer, free_port
from beaconfire_kit import broker
from beaconfire_kit.stream_setup import declare_stream
from tests.conftest import connected
from tests.proxy import Proxy

SIZE = 3
NOWHERE = "127.0.0.1:1"
"""The address that servers advertise. Only the configured routes, which go through a proxy, are made."""


class Brokers:
    """Servers 0, 1 and 2. `routes[a, b]` is the way on which a reaches b; each pair has two."""

    def __init__(self, folder: Path) -> None:
        self._passwords = {user.name: secrets.token_hex(16) for user in USERS}
        self._routes_password = secrets.token_hex(16)
        self._folder = folder
        self._route_ports = [free_port() for _ in range(SIZE)]
        self.servers: list[NatsServer] = []
        self.routes = {(a, b): Proxy(self._route_ports[b]) for a in range(SIZE) for b in range(SIZE) if a != b}

    @property
    def passwords(self) -> dict[str, str]:
        return self._passwords

    @property
    def url(self) -> str:
        return ",".join(server.url for server in self.servers)

    def environment(self, user: str) -> dict[str, str]:
        """The settings with which a service connects as `user`, to any of them."""
        return {**self.servers[0].environment(user), "BEACONFIRE_NATS_URL": self.url}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Brokers"]:
        """Run the brokers, with the stream declared with three replicas."""
        async with self.empty():
            await declare_stream(self._setup, replicas=SIZE)
            yield self

    @asynccontextmanager
    async def empty(self) -> AsyncIterator["Brokers"]:
        """Run the brokers without any stream."""
        async with AsyncExitStack() as stack:
            for route in self.routes.values():
                await stack.enter_async_context(route.running())
            self.servers = [
                NatsServer(self._folder / f"nats-{number}", passwords=self.passwords, node=self._node(number))
                for number in range(SIZE)
            ]
            stack.callback(self._end)
            await asyncio.gather(*(asyncio.to_thread(server.start) for server in self.servers))
            self._setup = await stack.enter_async_context(connected(self, "setup"))
            yield self

    async def start(self, *numbers: int) -> None:
        """Start servers that were ended, and wait until all have caught up."""
        await asyncio.gather(*(asyncio.to_thread(self.servers[number].start) for number in numbers))
        await self.level()

    def replace(self, number: int) -> None:
        """Stop a server, and start another one with its name and an empty volume."""
        server = self.servers[number]
        server.stop()
        shutil.rmtree(server.folder / "jetstream")
        server.start()

    def thaw(self) -> None:
        for server in self.servers:
            server.thaw()

    async def leader(self) -> int:
        """Which server leads the stream; waits until one does."""
        while (name := (await self._cluster()).get("leader")) is None:
            await asyncio.sleep(0.05)
        return int(name.removeprefix("n"))

    async def follower(self) -> int:
        """One that does not lead."""
        return (await self.leader() + 1) % SIZE

    async def level(self) -> None:
        """Wait until every server has the whole stream."""
        while True:
            replicas = (await self._cluster()).get("replicas") or []
            if len(replicas) == SIZE - 1 and all(one["current"] and not one.get("offline") for one in replicas):
                return
            await asyncio.sleep(0.05)

    async def step_down(self) -> None:
        """The leader hands over in order."""
        await broker._api(self._setup, f"STREAM.LEADER.STEPDOWN.{broker.STREAM}", {})

    def cut(self, pairs: Iterable[tuple[int, int]] | None = None, *, refusing: bool = False) -> None:
        """Cut routes, all unless `pairs` says which; they are made again at once, or never while `refusing`."""
        for pair in self.routes if pairs is None else pairs:
            self.routes[pair].refusing = refusing
            self.routes[pair].cut()

    def mend(self) -> None:
        """All routes as they should be."""
        for route in self.routes.values():
            route.refusing = False
            route.delay_s = lambda: 0.0

    async def _cluster(self) -> dict[str, Any]:
        info = await broker._api(self._setup, f"STREAM.INFO.{broker.STREAM}", {}, required=True)
        assert info is not None
        return dict(info.get("cluster", {}))

    def _node(self, number: int) -> Node:
        others = [f"127.0.0.1:{route.port}" for (a, _), route in self.routes.items() if a == number]
        return Node(
            name=f"n{number}",
            listen=f'"127.0.0.1:{self._route_ports[number]}"',
            routes=json.dumps([f"nats-route://{ROUTES_USER}:{self._routes_password}@{other}" for other in others]),
            password=quoted(self._routes_password),
            advertise=quoted(NOWHERE),
        )

    def _end(self) -> None:
        for server in self.servers:
            server.thaw()
            server.kill()
