"""Gateways that are restarted one after the other, as for a new version."""

import json
from collections.abc import Iterator

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Table
from tools import demo
from tools.cluster import Plan, Services
from tools.nats_server import free_port


@pytest.fixture(name="demo_services", scope="module")
def _demo_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The whole set with two gateways on one port, as behind a load balancer."""
    people = json.dumps([person.sign_in() for person in demo.PEOPLE])
    environment = {"gateway": {"BEACONFIRE_DEMO_PEOPLE": people}}
    folder = tmp_path_factory.mktemp("handover")
    whole = Services(Plan(folder, gateways=2, gateway_port=free_port(), environment=environment))
    try:
        whole.start()
        yield whole
    finally:
        whole.kill()


async def test_rolling_restart_misses_nothing(table: Table) -> None:
    """The page goes to the gateway that is there, by itself, and hears every change made meanwhile, once."""
    owner, editor = await table.seat("Owner"), await table.seat("Editor")

    for gateway in table.services.gateways:
        gateway.stop()
        await editor.page.get_by_role("button", name="Raise the level of Emberford").click()
        gateway.start()
        await editor.page.get_by_role("button", name="Raise the level of Emberford").click()
    await expect(owner.page.locator(".entry-text")).to_have_count(4)

    assert all("cursor" in connect for connect in owner.sent_of("connect")[1:])
    await expect(owner.page.locator("#connection")).to_be_hidden()
