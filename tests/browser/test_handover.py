"""Gateways that are restarted one after the other, as for a new version."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import expect

from beaconfire import demo
from beaconfire.local_services import Plan, Services
from beaconfire.nats_server import free_port
from beaconfire_kit import broker
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import StateInvalidated
from tests.browser.conftest import Table
from tests.conftest import connected
from tests.forked import all_forked

DRAIN_S = 4
EXIT_S = DRAIN_S + 10.0
# A client beside the page's own: its events, each of its states, and the texts of the page's indicator.
RECORD = """async (room) => {
    const { Client } = await import("/client/index.js");
    const { accessToken } = JSON.parse(sessionStorage.getItem("beaconfire-session"));
    const url = location.origin.replace(/^http/, "ws") + "/ws";
    const record = (window.record = { offsets: [], states: [], shown: [] });
    const client = new Client({ url, getToken: async () => accessToken });
    await new Promise((onReady) => {
        client.subscribe(room, { onReady, onEvent: (event, { offset }) => record.offsets.push(offset) });
        client.connect();
    });
    client.on("state", ({ state }) => record.states.push(state));
    const light = document.getElementById("connection");
    const note = () => light.hidden || record.shown.push(light.textContent);
    new MutationObserver(note).observe(light, { attributes: true, childList: true, subtree: true });
}"""
UNTIL_AT = """(offset) => new Promise((resolve) => {
    const look = () => (window.record.offsets.at(-1) >= offset ? resolve(window.record) : setTimeout(look, 20));
    look();
})"""


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
    await owner.page.evaluate(RECORD, f"campaign:{table.campaign}")

    async with _publishing(table) as offsets:
        for gateway in table.services.gateways:
            gateway.terminate()
            await asyncio.to_thread(gateway.process.wait, EXIT_S)
            assert gateway.process.exit_code == 0
            if gateway is not table.services.gateways[-1]:
                await asyncio.to_thread(gateway.start)
    record = await owner.page.evaluate(UNTIL_AT, offsets[-1])
    await asyncio.to_thread(table.services.gateways[-1].start)

    own = set(offsets)
    assert [offset for offset in record["offsets"] if offset in own] == offsets
    assert record["offsets"] == sorted(set(record["offsets"]))
    assert (record["states"], record["shown"]) == ([], [])
    assert any("replaces" in connect for connect in owner.sent_of("connect"))


@asynccontextmanager
async def _publishing(table: Table) -> AsyncIterator[list[int]]:
    """Events of the campaign, fifty a second, while the block runs. Yields their offsets as they are acknowledged."""
    offsets: list[int] = []
    stop = asyncio.Event()

    async def publish() -> None:
        async with connected(table.services.nats, "publisher") as nc:
            while not stop.is_set():
                event = StateInvalidated(scope="campaign", campaign_id=table.campaign, affected_fields=("income",))
                one = Envelope(event, Metadata(source="load"))
                offsets.append(await broker.publish(nc, one.subject, one.encode(), message_id=one.id))
                await asyncio.sleep(0.02)  # the rate

    task = asyncio.create_task(publish())
    try:
        yield offsets
    finally:
        stop.set()
        await task
