"""The browser client of a page that was away: in the background, in the back/forward cache, or without a token."""

import asyncio
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

from beaconfire.api import call
from beaconfire.local_services import Services
from tests.browser.conftest import ARGUMENTS, CHROMIUM, Table
from tests.browser.recording import RECORD, UNTIL, record

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

    told = await owner.page.evaluate(WITH_HUNG_TOKEN, [f"campaign:{table.campaign}", 2])

    assert told["aborted"] == [True, True, False]
    assert told["reasons"] == [["token", "getToken took longer than 0.2 s"]] * 2


async def test_page_from_the_back_forward_cache_connects_at_once_and_misses_nothing(
    demo_services: Services, demo_campaign: str, caching_chromium: Browser
) -> None:
    table = Table(demo_services, demo_campaign, caching_chromium)
    owner = await table.seat("Owner")
    await owner.page.evaluate(RECORD, [f"campaign:{table.campaign}", "websocket"])
    before = await record(owner, table, 1)

    await owner.page.goto(f"{table.url}nothing")
    await _change(table, 2)
    await owner.page.go_back(wait_until="commit")  # a page from the cache is not loaded again
    await _change(table, 1)
    after = await owner.page.evaluate(UNTIL, 4)

    assert after["offsets"][:1] == before["offsets"]  # the same page, with its variables
    assert len(after["offsets"]) == len(set(after["offsets"])) == 4
    assert after["states"] == ["connecting", "connected"] * 2


@pytest.mark.timeout(RUN_S)
async def test_page_in_the_background_catches_up_when_the_user_is_back(table: Table) -> None:
    """The browser froze the page, and the gateway was replaced meanwhile."""
    owner = await table.seat("Owner")
    await owner.page.evaluate(RECORD, [f"campaign:{table.campaign}", "websocket"])
    await record(owner, table, 1)
    browser = await owner.context.new_cdp_session(owner.page)
    gateway = table.services.gateways[0]

    await browser.send("Page.setWebLifecycleState", {"state": "frozen"})
    await asyncio.to_thread(gateway.kill)
    await _change(table, 2)
    await asyncio.to_thread(gateway.start)
    await browser.send("Page.setWebLifecycleState", {"state": "active"})
    await _change(table, 1)
    heard = await owner.page.evaluate(UNTIL, 4)

    assert len(heard["offsets"]) == len(set(heard["offsets"])) == 4
    assert heard["offsets"] == sorted(heard["offsets"])


async def _change(table: Table, count: int) -> None:
    """Change a settlement while no page listens."""
    token, url = await asyncio.to_thread(table.token, "Owner"), f"{table.campaign_url}/settlements"
    (first, *_) = (await asyncio.to_thread(call, "GET", url, token=token))["settlements"]
    for number in range(count):
        body = {"population": first["population"] + number + 1}
        await asyncio.to_thread(call, "PATCH", f"{url}/{first['id']}", body, token=token)
