"""Gateway processes that speak Engine.IO to clients: real HTTP, a real broker between them, and an echo application."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import pytest
from aiohttp import web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_gateway.transports.admission import Admission
from beaconfire_gateway.transports.relay import Relay
from beaconfire_gateway.transports.socketio.connection import EngineCarrier, EngineConnection
from beaconfire_gateway.transports.socketio.handler import SocketIOHandler
from beaconfire_gateway.transports.socketio.polling_carrier import Carriers, PollingCarrier
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.websocket_opening import WebSocketOpening
from beaconfire_gateway.transports.write_buffers import WriteBuffers
from beaconfire_kit import broker, errors
from beaconfire_kit.errors import BeaconfireError
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
    carriers: Carriers
    nc: DirectClient
    now: int = 0

    def carrier(self, sid: str) -> PollingCarrier:
        """What carries a connection of this process."""
        carrier = self.carriers.get(sid)
        assert carrier is not None
        return carrier

    async def cut_off(self) -> None:
        """Lose the broker for good: for other processes it is dead."""
        await broker.close(self.nc)

    def turn(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.now += 1
            self.core.turn(self.now)


class MakesConnection(Protocol):
    """Makes the connection of an application, such as its class."""

    def __call__(self, gateway: Gateway, carrier: EngineCarrier, /, *, address: str) -> EngineConnection: ...


@asynccontextmanager
async def engine_process(
    server: Broker,
    limits: Limits | None = None,
    application_: MakesConnection = EchoConnection,
    transport: str = "handover",
) -> AsyncIterator[EngineProcess]:
    """A process of its own: core, relay and HTTP server. `application_` is what its clients' messages go to."""
    loop, client = asyncio.get_running_loop(), DirectClient()
    spawn = spawning(loop)
    core = build_core(call_soon=loop.call_soon, spawn=spawn, limits=limits, epoch="e")
    relay = Relay(client, core.process_id, spawn=spawn)

    def connect(carrier: EngineCarrier, address: str, _request: web.Request) -> EngineConnection:
        return application_(core, carrier, address=address)

    def adopt(carrier: EngineCarrier, address: str, packed: Mapping[str, Any]) -> EngineConnection:
        connection = application_(core, carrier, address=address)
        connection.unpack(packed)
        return connection

    settings = BehindProxies(port=0)
    admission = Admission(core, allowed_origins=(), addresses=ClientAddresses(settings))
    sockets = None if transport == "aiohttp" else Sockets(loop)
    opening = WebSocketOpening(core, admission, sockets=sockets, buffers=WriteBuffers(spawn, max_buffer_bytes=262_144))
    handler = SocketIOHandler(core, admission, opening, relay, connect, adopt)
    app = application(settings, ready=lambda: None)
    app.router.add_route("*", PATH, handler.handle)
    app.on_shutdown.append(_closing(core))
    await broker.connect(
        broker_settings(server, "gateway"), "test", client=client, on_closed=lambda: pytest.fail("lost the broker")
    )
    await relay.subscribe()
    await client.flush()
    watching = asyncio.create_task(relay.run())
    try:
        with nullcontext() if sockets is None else closing(sockets):
            async with listening(app, settings, name="test") as at:
                yield EngineProcess(at.url, core, handler.carriers, client)
    finally:
        watching.cancel()
        await asyncio.wait((watching,))
        await broker.close(client)


def _closing(core: Gateway) -> Callable[[web.Application], Awaitable[None]]:
    async def close(_app: web.Application) -> None:
        core.close_all(BeaconfireError(errors.UNAVAILABLE, "going away"))

    return close


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

    @asynccontextmanager
    async def websocket(self, **query: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket for its connection, at the next process."""
        whole = {"EIO": "4", "transport": "websocket", "sid": self.sid, **query}
        async with self._http.ws_connect(self._next().url + PATH, params=whole) as socket:
            yield socket

    async def request(self, method: str, payload: str | bytes | None = None, **query: str) -> tuple[int, str]:
        process = self._next()
        named = {"sid": self.sid} if self.sid else {}
        whole = {"EIO": "4", "transport": "polling", **named, **query}
        body = payload.encode() if isinstance(payload, str) else payload
        url = process.url + PATH
        async with self._http.request(method, url, params=whole, data=body, headers=self.headers) as answer:
            return answer.status, await answer.text()

    def go_to(self, process: int) -> None:
        """Have the next request go to this one of the processes."""
        self._requests = process

    def _next(self) -> EngineProcess:
        self._requests += 1
        return self._processes[(self._requests - 1) % len(self._processes)]


@asynccontextmanager
async def polling_client(*processes: EngineProcess) -> AsyncIterator[PollingClient]:
    """A client that has not connected."""
    async with aiohttp.ClientSession() as http:
        yield PollingClient(http, *processes)
