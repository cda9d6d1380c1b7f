"""Clients of the `socket.io-client` package, and a process that speaks Engine.IO to clients of other kinds."""

from collections.abc import AsyncIterator

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.sessions.limits import Limits
from tests.gateway.engine_processes import EngineProcess, engine_process
from tests.socketio.clients import Driver, npm_clients


@pytest.fixture(name="driver")
async def _driver() -> AsyncIterator[Driver]:
    """A process that runs unmodified clients."""
    async with npm_clients() as driver:
        yield driver


@pytest.fixture(name="process", params=["handover", "aiohttp"])
async def _process(request: pytest.FixtureRequest, stream: NatsServer) -> AsyncIterator[EngineProcess]:
    """A process whose WebSockets are on sockets of ours, and one where they are aiohttp's."""
    async with engine_process(stream, Limits(heartbeat_s=2), transport=request.param) as process:
        yield process
