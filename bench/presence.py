"""`python -m bench.presence`: measure what it costs when many people join one room, on two gateway processes.

Every client is a user of their own on a WebSocket, and half of them are on each gateway. With presence, all of them are
told who is in the room. Without, they join as ever. `make bench` has a short form of this, and docs/performance.md the
figures.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from beaconfire.local_services import ServiceProcess
from beaconfire.nats_server import NatsServer
from beaconfire_kit.stream_setup import declare_stream
from bench.cores import raise_open_files
from bench.system import cpu_s, rss_anon_kib
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.processes import gateway_process

ROOM = "campaign:c1"
AT_ONCE = 50
"""Clients that connect at the same time."""
SETTLE_S = 6
ENVIRONMENT = {
    "BEACONFIRE_MAX_SESSIONS_PER_ADDRESS": "100000",
    "BEACONFIRE_MAX_CONNECTING_PER_ADDRESS": "10000",
}


class Clients:
    """The clients, and what they were told."""

    def __init__(self, *, presence: bool) -> None:
        self._presence = presence
        self._sockets: list[aiohttp.ClientWebSocketResponse] = []
        self._reading: list[asyncio.Task[None]] = []
        self.told = 0
        self.told_bytes = 0
        self.count = 0
        """The number of users in the last message."""

    async def join(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        """Connect one more."""
        socket = await http.ws_connect(f"{url}/ws", protocols=["beaconfire.v1"])
        hello = {"type": "connect", "id": 1, "token": token, "rooms": [ROOM], "presence": self._presence}
        await socket.send_json(hello)
        assert (await socket.receive_json())["rooms"][ROOM]["success"]
        self._sockets.append(socket)
        self._reading.append(asyncio.create_task(self._read(socket)))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.data.startswith('{"type":"presence"'):
                self.told += 1
                self.told_bytes += len(message.data)
                self.count = message.json()["count"]

    async def close(self) -> None:
        """Disconnect all."""
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*(socket.close() for socket in self._sockets))


@asynccontextmanager
async def gateways(folder: Path, server: NatsServer, auth: FakeAuth) -> AsyncIterator[list[ServiceProcess]]:
    """Two gateways."""
    async with (
        gateway_process(folder / "a", server, auth, **ENVIRONMENT) as first,
        gateway_process(folder / "b", server, auth, **ENVIRONMENT) as second,
    ):
        yield [first, second]


async def said(gateway: ServiceProcess) -> float:
    """How many messages about presence a gateway has sent to others."""
    async with aiohttp.ClientSession() as http, http.get(f"{gateway.ops_url}/metrics") as answer:
        text = await answer.text()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return sum(one.value for one in samples if one.name == "beaconfire_gateway_presence_messages_total")


@dataclass(frozen=True, slots=True)
class Joined:
    """What it cost that so many users joined. CPU and memory are for each, and of both gateways."""

    count: int
    presence: bool
    told: int
    """Messages to clients, besides their acks."""
    told_bytes: int
    between: float
    """Messages between the gateways."""
    cpu_ms: float
    memory_kib: float

    @property
    def told_per_join(self) -> float:
        return self.told / self.count

    def line(self) -> str:
        """Return a line of the table."""
        told = f"{self.told} ({self.told_per_join:.1f}) | {self.told_bytes / self.count / 1024:.1f} KiB"
        cost = f"{self.between:.0f} | {self.cpu_ms:.1f} ms | {self.memory_kib:.1f} KiB"
        return f"| {self.count} | {'yes' if self.presence else 'no'} | {told} | {cost} |"


def joins_of(folder: Path, count: int, *, presence: bool) -> Joined:
    """Let so many users join, in a new folder below this one."""
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as own:
        return uvloop.run(measure(Path(own), count, presence=presence))


async def measure(folder: Path, count: int, *, presence: bool) -> Joined:
    """See `joins_of`."""
    auth, server = FakeAuth(), NatsServer(folder / "broker")
    auth.members = {f"u{number}": {ROOM: "viewer"} for number in range(count)}
    await asyncio.to_thread(server.start)
    try:
        async with connected(server, "setup") as setup:
            await declare_stream(setup)
        async with (
            auth.running(server),
            gateways(folder, server, auth) as both,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        ):
            pids = [int(one.process.pid or 0) for one in both]
            clients = Clients(presence=presence)
            cpu, memory = sum(map(cpu_s, pids)), sum(map(rss_anon_kib, pids))
            for start in range(0, count, AT_ONCE):
                joining = range(start, min(count, start + AT_ONCE))
                tokens = ((number % 2, auth.token(f"u{number}")) for number in joining)
                await asyncio.gather(*(clients.join(http, both[which].url, token) for which, token in tokens))
            await asyncio.sleep(SETTLE_S)
            cpu, memory = sum(map(cpu_s, pids)) - cpu, sum(map(rss_anon_kib, pids)) - memory
            between = sum([await said(one) for one in both])
            if presence and clients.count != count:
                raise SystemExit(f"clients were told of {clients.count} users, and not of {count}")
            await clients.close()
    finally:
        await asyncio.to_thread(server.kill)
    return Joined(
        count, presence, clients.told, clients.told_bytes, between, cpu_ms=1e3 * cpu / count, memory_kib=memory / count
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.presence", description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=[500, 1000, 2000], help="users that join")
    raise_open_files()
    print(
        "| users | presence | messages to clients (for each join) | bytes to each | between gateways | CPU | memory |"
    )
    print("|---|---|---|---|---|---|---|")
    for count in parser.parse_args().counts:
        for presence in (False, True):
            print(joins_of(Path(tempfile.gettempdir()), count, presence=presence).line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
