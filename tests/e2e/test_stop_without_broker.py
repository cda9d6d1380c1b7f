"""Every service stops in order within seconds, whatever state the broker is in."""

import asyncio

import pytest

from beaconfire.local_services import Services
from tests.proxy import Proxy

STOP_S = 9.0
"""The shortest time that any supervisor waits: Docker kills after ten seconds."""


@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_every_service_exits_with_0_at_sigterm_while_the_broker_does_not_answer(services: Services, how: str) -> None:
    (services.nats.freeze if how == "frozen" else services.nats.kill)()
    for service in services.services:
        service.terminate()
    ended = {service.name: service.process.wait(STOP_S) for service in services.services}
    codes = {service.name: service.process.exit_code for service in services.services}
    services.nats.thaw()

    assert all(ended.values()), ended
    assert set(codes.values()) == {0}, codes


async def test_every_service_exits_with_0_at_sigterm_while_its_broker_connection_swallows_bytes(
    services: Services,
) -> None:
    chosen = [service for service in services.services if service.name != "gateway-2"]
    async with Proxy(services.nats.port).running() as proxy:
        for service in chosen:
            await asyncio.to_thread(service.stop)
            service.process.environment["BEACONFIRE_NATS_URL"] = f"nats://127.0.0.1:{proxy.port}"
            await asyncio.to_thread(service.start)
        proxy.swallow = lambda _chunk: True
        proxy.flowing.clear()
        for service in chosen:
            service.terminate()
        ended = {service.name: await asyncio.to_thread(service.process.wait, STOP_S) for service in chosen}
        codes = {service.name: service.process.exit_code for service in chosen}

    assert all(ended.values()), ended
    assert set(codes.values()) == {0}, codes
