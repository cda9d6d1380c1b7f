"""Tokens that expire and gateways that fall silent, with shortened times."""

import json
from collections.abc import Iterator

import pytest
from playwright.async_api import expect

from beaconfire import demo
from beaconfire.local_services import Plan, Services
from tests.browser.conftest import Table
from tests.browser.recording import publishing
from tests.forked import all_forked

TTL_S = 6
HEARTBEAT_S = 4


@pytest.fixture(name="demo_services", scope="module")
def _demo_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The whole set, with access tokens and heartbeats of a few seconds."""
    people = [person.sign_in() for person in demo.PEOPLE]
    environment = {
        "gateway": {"BEACONFIRE_HEARTBEAT_S": str(HEARTBEAT_S)},
        "auth": {"BEACONFIRE_ACCESS_TOKEN_TTL_S": str(TTL_S)},
    }
    whole = all_forked(
        Services(Plan(tmp_path_factory.mktemp("time"), gateways=1, people=people, environment=environment))
    )
    try:
        whole.start()
        yield whole
    finally:
        whole.kill()


async def test_page_keeps_one_connection_over_several_token_renewals(table: Table) -> None:
    """Events flow, and the indicator stays hidden, beyond the end of the first two tokens."""
    viewer = await table.seat("Viewer")
    (socket,) = viewer.sockets
    heard: list[int] = []

    def take(text: str | bytes) -> None:
        frame = json.loads(text)
        if "offset" in frame:
            heard.append(frame["offset"])

    await expect(viewer.page.locator("#connection")).to_be_hidden()
    socket.on("framereceived", take)
    async with publishing(table) as offsets:
        while len(viewer.sent_of("refresh")) < 3:
            await socket.wait_for_event("framesent")
    while heard[-1] < offsets[-1]:
        await socket.wait_for_event("framereceived")

    assert heard == offsets
    assert viewer.sockets == [socket]
    await expect(viewer.page.locator("#connection")).to_be_hidden()
    await expect(viewer.page.get_by_role("heading", name="Emberford")).to_be_visible()


async def test_page_pings_a_silent_gateway_and_reconnects_without_an_answer_in_five_seconds(table: Table) -> None:
    viewer = await table.seat("Viewer")
    process, light = table.services.gateways[0].process, viewer.page.locator("#connection")
    await expect(light).to_be_hidden()
    before = len(viewer.sent_of("ping"))

    process.freeze()
    await expect(light).to_contain_text("Reconnecting", timeout=(HEARTBEAT_S + 5 + 5) * 1000)
    process.thaw()

    assert len(viewer.sent_of("ping")) == before + 1
    await expect(light).to_have_text("Connected", use_inner_text=True, timeout=40_000)
