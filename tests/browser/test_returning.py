"""The browser client of a page that was away: in the background, in the back/forward cache, or on a sleeping laptop."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright, expect

from beaconfire.local_services import Services
from tests.browser.conftest import ARGUMENTS, CHROMIUM, Table
from tests.browser.recording import RECORD, assert_once, heard, publish

RUN_S = 150


@pytest.fixture(name="caching_chromium")
async def _caching_chromium() -> AsyncIterator[Browser]:
    """A browser with its back/forward cache, which Playwright switches off otherwise."""
    executable = next(filter(None, map(shutil.which, CHROMIUM)), None)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable,
            args=[*ARGUMENTS, "--enable-features=BackForwardCache"],
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        await browser.close()


async def test_page_from_the_back_forward_cache_connects_at_once_and_misses_nothing(
    demo_services: Services, demo_campaign: str, caching_chromium: Browser
) -> None:
    table = Table(demo_services, demo_campaign, caching_chromium)
    owner = await table.seat("Owner")
    await owner.page.evaluate(RECORD, [table.room, "websocket"])
    offsets = await publish(table, 1)
    await heard(owner.page, offsets)

    await owner.page.goto(f"{table.url}nothing")
    offsets += await publish(table, 2)
    await owner.page.go_back(wait_until="commit")  # a page from the cache is not loaded again
    offsets += await publish(table, 1)
    record = await heard(owner.page, offsets)

    assert_once(record, offsets)  # it is the same page, with its variables
    assert record["states"] == ["connecting", "connected"] * 2
    await expect(owner.page.locator("#connection")).to_have_attribute("data-look", "green")


@pytest.mark.timeout(RUN_S)
async def test_page_in_the_background_catches_up_when_the_user_is_back(table: Table) -> None:
    """The browser froze the page, and the gateway was replaced meanwhile."""
    owner = await table.seat("Owner")
    await owner.page.evaluate(RECORD, [table.room, "websocket"])
    offsets = await publish(table, 1)
    await heard(owner.page, offsets)
    browser = await owner.context.new_cdp_session(owner.page)
    gateway = table.services.gateways[0]

    await browser.send("Page.setWebLifecycleState", {"state": "frozen"})
    await asyncio.to_thread(gateway.kill)
    offsets += await publish(table, 2)
    await asyncio.to_thread(gateway.start)
    await browser.send("Page.setWebLifecycleState", {"state": "active"})
    offsets += await publish(table, 1)

    assert_once(await heard(owner.page, offsets), offsets)
    await expect(owner.page.locator("#connection")).to_have_attribute("data-look", "green")


@pytest.mark.timeout(RUN_S)
async def test_page_on_a_laptop_that_slept_catches_up(table: Table, chromium: Browser) -> None:
    """The page's process was stopped, and the gateway was replaced meanwhile."""
    owner = await table.seat("Owner")
    await owner.page.evaluate(RECORD, [table.room, "websocket"])
    offsets = await publish(table, 1)
    await heard(owner.page, offsets)
    browser = await chromium.new_browser_cdp_session()
    processes = (await browser.send("SystemInfo.getProcessInfo"))["processInfo"]
    renderers = [process["id"] for process in processes if process["type"] == "renderer"]
    gateway = table.services.gateways[0]

    for renderer in renderers:
        os.kill(renderer, signal.SIGSTOP)
    try:
        offsets += await publish(table, 50)
        await asyncio.to_thread(gateway.kill)
        offsets += await publish(table, 2)
        await asyncio.to_thread(gateway.start)
    finally:
        for renderer in renderers:
            os.kill(renderer, signal.SIGCONT)
    offsets += await publish(table, 1)

    assert_once(await heard(owner.page, offsets), offsets)
    await expect(owner.page.locator("#connection")).to_have_attribute("data-look", "green")
