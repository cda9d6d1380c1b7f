"""Gateway processes that speak Engine.IO to clients: real HTTP, a real broker between them, and an echo application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_gateway.transports.admission import Admission
from beaconfire_gateway.transports.socketio.connection import EngineCarrier, EngineConnection
from beaconfire_gateway.transports.socketio.polling import Polling
from beaconfire_gateway.transports.socketio.relay import Relay
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_kit import broker
from beaconfire_kit.forwarding import ClientAddresses
from beaconfire_kit.seams.nats_direct import DirectClient
from beaconfire_kit.serving import listening
from beaconfire_kit.settings import BehindProxies
from beaconfire_kit.web import application
from tests.conftest import Broker, broker_settings
from tests.gateway.core import build_core, spawning
from tests.gateway.engines import EchoConnection

PATH = "/engine.io/"


@dataclass
class EngineProcess:
    """One process, and the core behind it. `turn` makes a second pass."""

    url: str
    core: Gateway
    polling: Polling
    now: int = 0

    def turn(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.now += 1
            self.core.turn(self.now)


@asynccontextmanager
async def engine_process(
    server: Broker, limits: Limits | None = None, application_: type[EngineConnection] = EchoConnection
) -> AsyncIterator[EngineProcess]:
    """A process of its own: core, relay and HTTP server. `application_` is what its clients' messages go to."""
    loop, client = asyncio.get_running_loop(), DirectClient()
    spawn = spawning(loop)
    core = build_core(call_soon=loop.call_soon, spawn=spawn, limits=limits, epoch="e")
    relay = Relay(client, core.process_id, spawn=spawn)

    def connect(carrier: EngineCarrier, sid: str, address: str, _request: web.Request) -> EngineConnection:
        return application_(core, carrier, sid, address=address)

    settings = BehindProxies(port=0)
    admission = Admission(core, allowed_origins=(), addresses=ClientAddresses(settings))
    polling = Polling(core, admission, relay, connect)
    app = application(settings, ready=lambda: None)
    app.router.add_route("*", PATH, polling.handle)
    await broker.connect(
        broker_settings(server, "gateway"), "test", client=client, on_closed=lambda: pytest.fail("lost the broker")
    )
    await relay.subscribe()
    await client.flush()
    watching = asyncio.create_task(relay.run())
    try:
        with closing(Sockets(loop)):
            async with listening(app, settings, name="test") as at:
                yield EngineProcess(at.url, core, polling)
    finally:
        watching.cancel()
        await asyncio.wait((watching,))
        await broker.close(client)


class PollingClient:
    """An Engine.IO client of HTTP requests, each to the next of several processes."""

    def __init__(self, http: aiohttp.ClientSession, *processes: EngineProcess) -> None:
        self._http = http
        self._processes = processes
        self._requests = 0
        self.sid = ""
        self.headers = {"Content-Type": "text/plain;charset=UTF-8"}

    async def open(self) -> str:
        """Connect, and return the open packet."""
        status, packet = await self.get()
        assert status == 200, packet
        self.sid = packet.split('"sid":"')[1].split('"')[0]
        return packet

    async def get(self, **query: str) -> tuple[int, str]:
        """Poll: the status and the payload of the answer."""
        return await self.request("GET", **query)

    async def post(self, payload: str | bytes, **query: str) -> tuple[int, str]:
        """Send packets."""
        return await self.request("POST", payload, **query)

    async def request(self, method: str, payload: str | bytes | None = None, **query: str) -> tuple[int, str]:
        process = self._processes[self._requests % len(self._processes)]
        self._requests += 1
        named = {"sid": self.sid} if self.sid else {}
        whole = {"EIO": "4", "transport": "polling", **named, **query}
        body = payload.encode() if isinstance(payload, str) else payload
        url = process.url + PATH
        async with self._http.request(method, url, params=whole, data=body, headers=self.headers) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def polling_client(*processes: EngineProcess) -> AsyncIterator[PollingClient]:
    """A client that has not connected."""
    async with aiohttp.ClientSession() as http:
        yield PollingClient(http, *processes)
