"""Unmodified clients of the `socket.io-client` package against a real gateway."""

import pytest

from tests.gateway.conftest import Gateway, on_both_transports, settlement
from tests.socketio.clients import Driver, npm_clients


@pytest.fixture(name="driver")
async def _driver():  # type: ignore[no-untyped-def]
    async with npm_clients() as driver:
        yield driver


@on_both_transports
async def test_client_connects_subscribes_and_hears_events(gateway: Gateway, driver: Driver) -> None:
    client = driver.open(gateway.url, auth={"token": gateway.auth.token("viewer")})
    await client.next("connect")
    answer = await client.ask("subscribe_campaign", "c1")
    offset = await gateway.publish(settlement())

    payload, cursor = await client.event("settlement_updated")
    assert answer["success"] is True
    assert payload == {"campaignId": "c1", "settlementId": "s1", "operation": "update", "changedFields": ["level"]}
    assert cursor.endswith(f":{offset}")
