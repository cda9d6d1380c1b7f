"""The browser client of a page that was away: in the background, in the back/forward cache, or without a token."""

import asyncio
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright, expect

from beaconfire.local_services import Services
from tests.browser.conftest import ARGUMENTS, CHROMIUM, Table
from tests.browser.recording import RECORD, assert_once, heard, publish

RUN_S = 150
# The first `hung` calls of the token endpoint get no answer.
WITH_HUNG_TOKEN = """async ([room, hung]) => {
    const { connect } = await import("/client/index.js");
    const { accessToken } = JSON.parse(sessionStorage.getItem("beaconfire-session"));
    const asked = [];
    const reasons = [];
    const client = connect({
        url: location.origin.replace(/^http/, "ws") + "/ws",
        tokenTimeoutMs: 200,
        getToken: ({ signal }) => {
            asked.push(signal);
            return asked.length <= hung ? new Promise(() => {}) : accessToken;
        },
        onError: ({ kind, error }) => reasons.push([kind, error.message]),
    });
    await new Promise((onReady) => client.subscribe(room, { onReady }));
    client.close();
    return { aborted: asked.map((signal) => signal.aborted), reasons };
}"""


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


async def test_token_endpoint_that_hangs_is_asked_again(table: Table) -> None:
    owner = await table.seat("Owner")

    told = await owner.page.evaluate(WITH_HUNG_TOKEN, [table.room, 2])

    assert told["aborted"] == [True, True, False]
    assert told["reasons"] == [["token", "getToken took longer than 0.2 s"]] * 2


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
