"""SIGINT and SIGTERM end every service in order while it serves clients."""

import asyncio
import os
import signal

import aiohttp
import pytest

from beaconfire.local_services import Services
from tests.client import open_socket
from tests.e2e.conftest import Line

PATIENCE_S = 60.0


@pytest.mark.timeout(150)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_ends_every_service_with_0_after_its_clients_were_told(
    services: Services, number: signal.Signals
) -> None:
    """One client leaves when it is told. The other stays until its gateway closes the connection."""
    first, second = services.gateways
    async with aiohttp.ClientSession() as http, open_socket(first.url) as leaves, open_socket(second.url) as stays:
        line = Line(services, http)
        owner = await line.sign_up("owner")
        campaign = await line.campaign(owner)
        for client in (leaves, stays):
            await client.connect(owner.token, [f"campaign:{campaign}"])
        for service in services.services:
            assert service.process.pid is not None
            os.kill(service.process.pid, number)
        for client in (leaves, stays):
            await client.next("goaway")
        await leaves.socket.close()
        async with asyncio.timeout(PATIENCE_S):
            end = await stays.closed()
        ended = {one.name: await asyncio.to_thread(one.process.wait, PATIENCE_S) for one in services.services}

    assert end.code == 4503
    assert all(ended.values()), ended
    assert {one.name: one.process.exit_code for one in services.services} == dict.fromkeys(ended, 0)
    assert [one.name for one in services.services if "Traceback" in one.process.log_path.read_text()] == []
