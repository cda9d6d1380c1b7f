"""Runs a gateway as a process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.fakes import FakeAuth
from tools.cluster import ServiceProcess
from tools.nats_server import NatsServer


@asynccontextmanager
async def gateway_process(
    folder: Path, server: NatsServer, auth: FakeAuth, **more: str
) -> AsyncIterator[ServiceProcess]:
    """Run a gateway as in production. It is killed at the end of the block if it still runs."""
    environment = {**server.environment("gateway"), "BEACONFIRE_JWKS_URL": auth.jwks_url, **more}
    process = ServiceProcess("gateway", "services.gateway", environment, folder=folder)
    try:
        await asyncio.to_thread(process.start)
        yield process
    finally:
        process.kill()
