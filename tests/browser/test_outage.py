"""Pages that were opened, or asked for something, while a service was away: they recover automatically."""

import asyncio

import pytest
from playwright.async_api import Route, expect

from beaconfire import demo
from beaconfire.api import call
from tests.browser.conftest import LAPTOP, PHONE, Table
from tests.browser.looks import is_in_sight, keep, overflow_of

PATIENCE_MS = 40_000

pytestmark = pytest.mark.timeout(200)
HURRY = """
    const later = window.setTimeout;
    const pauses = [1000, 2000, 4000, 8000];
    window.setTimeout = (callback, ms, ...more) => later(callback, pauses.includes(ms) ? ms / 20 : ms, ...more);
"""
"""A page that gives up reading again after an event twenty times as soon."""
FROZEN = """
    const later = window.setTimeout;
    const pauses = [1000, 2000, 4000, 8000, 15000];
    window.setTimeout = (callback, ms, ...more) => (pauses.includes(ms) ? 0 : later(callback, ms, ...more));
"""
"""A page whose pauses before it loads again never end; those of the connection are never exactly as long."""


async def test_campaign_list_says_why_it_is_empty_and_fills_once_the_publisher_is_back(table: Table) -> None:
    publisher = table.services.publisher
    await asyncio.to_thread(publisher.kill)
    try:
        window = await table.window()
        await window.sign_in("Owner")
        await expect(window.page.get_by_role("heading", name="The campaigns could not be loaded")).to_be_visible()
        await expect(window.page.locator("main")).to_contain_text("The service does not answer.")
        await expect(window.page.locator("main")).not_to_contain_text("Loading")
    finally:
        await asyncio.to_thread(publisher.start)

    await expect(window.page.get_by_role("link", name=demo.campaign.CAMPAIGN)).to_be_visible(timeout=PATIENCE_MS)


async def test_campaign_page_appears_live_once_the_publisher_is_back(table: Table) -> None:
    publisher = table.services.publisher
    window = await table.window()
    await window.sign_in("Owner")
    await expect(window.page.get_by_role("link", name=demo.campaign.CAMPAIGN)).to_be_visible()
    await asyncio.to_thread(publisher.kill)
    try:
        await window.page.get_by_role("link", name=demo.campaign.CAMPAIGN).click()
        await expect(window.page.get_by_role("heading", name="The campaign could not be loaded")).to_be_visible()
    finally:
        await asyncio.to_thread(publisher.start)

    await expect(window.page.get_by_role("heading", name="Emberford")).to_be_visible(timeout=PATIENCE_MS)
    await window.page.get_by_role("button", name="Raise the level of Emberford").click()
    await expect(window.page.locator(".entry-text").first).to_contain_text("You changed the level of Emberford")


async def test_page_reloads_what_failed_as_soon_as_its_connection_is_back(table: Table) -> None:
    gateway = table.services.gateways[0]
    window = await table.window(script=FROZEN)
    await window.sign_in("Owner")
    await expect(window.page.get_by_role("link", name=demo.campaign.CAMPAIGN)).to_be_visible()
    away = True

    async def fail(route: Route) -> None:
        await (route.abort() if away else route.continue_())

    await window.page.route("**/v1/campaigns/**", fail)
    await window.page.get_by_role("link", name=demo.campaign.CAMPAIGN).click()
    await expect(window.page.get_by_role("heading", name="The campaign could not be loaded")).to_be_visible()
    away = False
    await asyncio.to_thread(gateway.kill)
    await asyncio.to_thread(gateway.start)

    await expect(window.page.get_by_role("heading", name="Emberford")).to_be_visible(timeout=PATIENCE_MS)


async def test_page_that_connects_to_a_degraded_gateway_shows_it_until_the_broker_is_back(table: Table) -> None:
    nats, viewer = table.services.nats, await table.seat("Viewer")
    light = viewer.page.locator("#connection")
    nats.freeze()
    try:
        await expect(light).to_contain_text("Live updates delayed", timeout=PATIENCE_MS)
        for viewport, name in ((LAPTOP, "laptop"), (PHONE, "phone")):
            await viewer.page.set_viewport_size(viewport)
            await keep(viewer.page, f"delayed-{name}")
            assert await is_in_sight(viewer.page, "#connection"), name
            assert await overflow_of(viewer.page) <= 0, name
        await viewer.page.reload()
        await expect(light).to_contain_text("Live updates delayed", timeout=PATIENCE_MS)
        await expect(viewer.page.get_by_role("heading", name="Emberford")).to_be_visible(timeout=PATIENCE_MS)
    finally:
        nats.thaw()

    await expect(light).to_contain_text("Connected", timeout=PATIENCE_MS)
    await expect(viewer.page.locator("main")).not_to_contain_text("could not be loaded")


@pytest.mark.parametrize("status", [0, 401], ids=["away", "refuses every token"])
async def test_page_is_not_stale_after_the_publisher_was_away_longer_than_the_page_tries(
    table: Table, status: int
) -> None:
    viewer = await table.seat("Viewer", script=HURRY)
    credentials = {"email": "owner@demo.example", "password": demo.PASSWORD}
    token = call("POST", f"{table.services.auth_url}/auth/sign-in", credentials)["accessToken"]
    settlement = await viewer.page.get_by_role("article", name="Saltmere").get_attribute("data-key")
    reads = 0

    async def fail(route: Route) -> None:
        nonlocal reads
        reads += 1
        if status:
            await route.fulfill(status=status, json={}, headers={"Access-Control-Allow-Origin": "*"})
        else:
            await route.abort()

    await viewer.page.route("**/v1/campaigns/**", fail)
    call("PATCH", f"{table.campaign_url}/settlements/{settlement}", {"name": "Saltmere Bay"}, token=token)
    await expect(viewer.page.locator("#toasts")).to_contain_text("Some of this may be out of date.")
    await viewer.page.unroute("**/v1/campaigns/**")

    await expect(viewer.page.get_by_role("article", name="Saltmere Bay")).to_be_visible()
    call("PATCH", f"{table.campaign_url}/settlements/{settlement}", {"name": "Saltmere"}, token=token)
    assert reads > 5


async def test_page_that_cannot_load_its_configuration_says_so_and_starts_once_it_can(table: Table) -> None:
    window = await table.window(query="?later")
    failures = 2

    async def fail(route: Route) -> None:
        nonlocal failures
        failures -= 1
        await (route.abort() if failures >= 0 else route.continue_())

    await window.page.route("**/config.json", fail)
    await window.page.reload()
    await expect(window.page.get_by_role("heading", name="The page could not be loaded")).to_be_visible()

    await expect(window.page.get_by_role("heading", name="Continue as")).to_be_visible()
