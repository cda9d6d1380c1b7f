"""Gateways that are restarted one after the other, as for a new version."""

import asyncio
from collections.abc import Iterator

import pytest
from playwright.async_api import expect

from beaconfire import demo
from beaconfire.local_services import Plan, Services
from beaconfire.nats_server import free_port
from tests.browser.conftest import Table
from tests.browser.recording import RECORD, assert_once, heard, publishing
from tests.forked import all_forked

DRAIN_S = 4
EXIT_S = DRAIN_S + 10.0


@pytest.fixture(name="demo_services", scope="module")
def _demo_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The whole set with two gateways on one port, as behind a load balancer."""
    people = [person.sign_in() for person in demo.PEOPLE]
    environment = {"gateway": {"BEACONFIRE_STOP_TIMEOUT_S": str(DRAIN_S)}}
    folder = tmp_path_factory.mktemp("handover")
    whole = all_forked(
        Services(Plan(folder, gateways=2, gateway_port=free_port(), people=people, environment=environment))
    )
    try:
        whole.start()
        yield whole
    finally:
        whole.kill()


async def test_page_stays_connected_and_hears_every_event_once_while_gateways_stop_in_turn(table: Table) -> None:
    owner = await table.seat("Owner")
    await expect(owner.page.locator("#connection")).to_be_hidden()
    await owner.page.evaluate(RECORD, [table.room, "websocket"])

    async with publishing(table) as offsets:
        for gateway in table.services.gateways:
            gateway.terminate()
            await asyncio.to_thread(gateway.process.wait, EXIT_S)
            assert gateway.process.exit_code == 0
            if gateway is not table.services.gateways[-1]:
                await asyncio.to_thread(gateway.start)
    record = await heard(owner.page, offsets)
    await asyncio.to_thread(table.services.gateways[-1].start)

    assert_once(record, offsets)
    assert (record["states"], record["shown"]) == (["connecting", "connected"], [])
    assert any("replaces" in connect for connect in owner.sent_of("connect"))
