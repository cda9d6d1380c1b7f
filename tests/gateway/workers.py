"""Runs a gateway of several workers on one port, as real processes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from nats.aio.client import Client
from prometheus_client.parser import text_string_to_metric_families

from beaconfire.local_services import ServiceProcess
from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.envelope import Envelope, Metadata
from tests.client import SocketClient, open_socket
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import settlement

ROOM = "campaign:c1"
WAIT_S = 30.0
OPERATOR_TOKEN = "b7d5a1c3e9f80246813579bdfeca8642"
AUTHORIZED = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
STATS = "/api/v1/ws/stats"


class Workers:
    """A running gateway of several workers. `stack` holds its clients, and whatever else a test leaves open."""

    def __init__(
        self, process: ServiceProcess, count: int, auth: FakeAuth, publisher: Client, stack: AsyncExitStack
    ) -> None:
        self.process = process
        self.count = count
        self.auth = auth
        self.publisher = publisher
        self.stack = stack

    async def ask(self, path: str, *, method: str = "GET") -> tuple[int, Any]:
        """Return the operations port's answer: a status, and the JSON if it is JSON."""
        async with aiohttp.ClientSession() as http, http.request(method, f"{self.process.ops_url}{path}") as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if is_json else answer.text())

    async def operate(self, path: str) -> Any:
        """Return the JSON that the operations port answers to an operator."""
        async with self._operating(path) as answer:
            assert answer.status == 200
            return await answer.json()

    async def first_line(self, path: str) -> Any:
        """Return the first line of an answer that does not end, besides signs of life."""
        async with self._operating(path) as answer:
            while not (line := (await answer.content.readline()).strip()):
                pass
            return json.loads(line)

    @asynccontextmanager
    async def _operating(self, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        url = f"{self.process.ops_url}{path}"
        async with aiohttp.ClientSession(headers=AUTHORIZED) as http, http.get(url) as answer:
            yield answer

    async def stats(self) -> dict[str, Any]:
        """Of all workers: one that is too busy to answer is asked again."""
        async with asyncio.timeout(WAIT_S):
            while len((stats := dict((await self.ask(STATS))[1]))["workers"]) < self.count:
                await asyncio.sleep(0.05)
        return stats

    async def readiness(self) -> tuple[int, dict[str, str]]:
        """The status of `/readyz` and the state of each worker, once all have answered."""
        async with asyncio.timeout(WAIT_S):
            while "does not answer" in (answer := await self.ask("/readyz"))[1]["workers"].values():
                await asyncio.sleep(0.05)
        return answer[0], answer[1]["workers"]

    async def pids(self) -> dict[int, int]:
        return {one["worker"]: one["pid"] for one in (await self.stats())["workers"]}

    async def clients_by_worker(self) -> dict[int, int]:
        return {one["worker"]: one["clients"] for one in (await self.stats())["workers"]}

    async def samples(self, name: str) -> dict[str, float]:
        """A metric by worker. If it has other labels, these must be the same for all clients."""
        text = (await self.ask("/metrics"))[1]
        families = text_string_to_metric_families(text)
        return {one.labels["worker"]: one.value for family in families for one in family.samples if one.name == name}

    async def all_ready(self) -> None:
        """Wait until every worker takes clients."""
        async with asyncio.timeout(WAIT_S):
            while set((await self.ask("/readyz"))[1]["workers"].values()) != {"ready"}:
                await asyncio.sleep(0.05)

    async def client(self, user: str = "viewer", **fields: Any) -> SocketClient:
        """A client in the room, at the worker that the kernel chooses."""
        client = await self.stack.enter_async_context(open_socket(self.process.url))
        await client.connect(self.auth.token(user), [ROOM], **fields)
        return client

    async def client_at_each(self) -> dict[int, SocketClient]:
        """Clients, until every worker has at least one; the first of each."""
        firsts: dict[int, SocketClient] = {}
        before = await self.clients_by_worker()
        while len(firsts) < len(before):
            client = await self.client(f"user{len(before) + sum(before.values())}")
            after = await self.clients_by_worker()
            (worker,) = [number for number in after if after[number] > before[number]]
            firsts.setdefault(worker, client)
            before = after
        return firsts

    async def publish(self, name: str = "s1") -> int:
        envelope = Envelope(settlement(name), Metadata(source="api"))
        return await broker.publish(self.publisher, envelope.subject, envelope.encode(), message_id=envelope.id)

    async def ended(self) -> int | None:
        """Wait for the end of the parent; its exit code."""
        assert await asyncio.to_thread(self.process.process.wait, WAIT_S)
        return self.process.process.exit_code


@asynccontextmanager
async def running_workers(
    server: NatsServer, auth: FakeAuth, folder: Path, count: int = 2, **settings: str
) -> AsyncIterator[Workers]:
    """Start a gateway with so many workers; yields when all are ready."""
    auth.members |= {f"user{number}": {ROOM: "viewer"} for number in range(100)}
    environment = {
        **server.environment("gateway"),
        "BEACONFIRE_JWKS_URL": auth.jwks_url,
        "BEACONFIRE_OPERATOR_TOKEN": OPERATOR_TOKEN,
        **{f"BEACONFIRE_{name}": value for name, value in settings.items()},
    }
    process = ServiceProcess(
        "gateway", "beaconfire_gateway", environment, arguments=("--workers", str(count)), folder=folder
    )
    process.start(wait=False)
    try:
        async with connected(server, "publisher") as publisher, AsyncExitStack() as stack:
            await asyncio.to_thread(process.wait_ready)
            workers = Workers(process, count, auth, publisher, stack)
            await workers.all_ready()
            yield workers
    finally:
        process.kill()
