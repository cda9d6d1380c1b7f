"""Runs a gateway as a process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from beaconfire.local_services import ServiceProcess
from beaconfire.nats_server import NatsServer
from tests.fakes import FakeAuth


@asynccontextmanager
async def gateway_process(
    folder: Path, server: NatsServer, auth: FakeAuth, **more: str
) -> AsyncIterator[ServiceProcess]:
    """Run a gateway as in production. It is killed at the end of the block if it still runs."""
    environment = {**server.environment("gateway"), "BEACONFIRE_JWKS_URL": auth.jwks_url, **more}
    process = ServiceProcess("gateway", "beaconfire_gateway", environment, folder=folder)
    try:
        await asyncio.to_thread(process.start)
        yield process
    finally:
        process.kill()
