"""Several tabs of one user share a connection."""

import asyncio
from typing import Any

import pytest
from playwright.async_api import Page

from beaconfire.api import call
from tests.browser.conftest import Table
from tests.browser.recording import UNTIL_HEARD

RUN_S = 150
JOIN = """async ([room, token, user, hasWorkers]) => {
    if (!hasWorkers) delete window.SharedWorker;
    const { connectTabs } = await import("/client/tabs.js");
    const url = location.origin.replace(/^http/, "ws") + "/ws";
    const heard = (window.heard = []);
    const client = (window.client = await connectTabs({ url, user, getToken: () => token }));
    await new Promise((onReady) => {
        const onEvent = (event, { offset }) => event.type === "settlement_updated" && heard.push(offset);
        client.subscribe(room, { onReady, onEvent });
    });
    return client.sessionId;
}"""
HEARD = "() => window.heard"


@pytest.mark.timeout(RUN_S)
async def test_two_tabs_share_one_connection_until_the_last_one_is_closed(table: Table) -> None:
    first = await _tab(table)
    second = await first.context.new_page()
    await second.goto(table.url)
    sessions = [await _join(table, page) for page in (first, second)]
    assert sessions[0]
    assert sessions[0] == sessions[1]

    await _change(table)
    for page in (first, second):
        await page.evaluate(UNTIL_HEARD, 1)
    await first.close()
    gateway = table.services.gateways[0]
    await asyncio.to_thread(gateway.kill)
    await _change(table)
    await asyncio.to_thread(gateway.start)
    await _change(table)
    await second.evaluate(UNTIL_HEARD, 3)

    heard = await second.evaluate(HEARD)
    assert heard == sorted(set(heard))
    assert len(heard) == 3


async def test_tabs_of_two_users_do_not_share_a_connection(table: Table) -> None:
    first = await _tab(table)
    second = await first.context.new_page()
    await second.goto(table.url)

    assert await _join(table, first) != await _join(table, second, name="Editor")


async def test_browser_without_shared_workers_has_a_connection_for_each_tab(table: Table) -> None:
    first = await _tab(table)
    second = await first.context.new_page()
    await second.goto(table.url)
    sessions = [await _join(table, page, has_workers=False) for page in (first, second)]
    await _change(table)
    for page in (first, second):
        await page.evaluate(UNTIL_HEARD, 1)

    assert len(set(sessions)) == 2


async def _tab(table: Table) -> Page:
    return (await table.window()).page


async def _join(table: Table, page: Page, *, name: str = "Owner", has_workers: bool = True) -> Any:
    """Subscribe to the campaign's room. Returns the id of the connection's session."""
    token = await asyncio.to_thread(table.token, name)
    return await page.evaluate(JOIN, [f"campaign:{table.campaign}", token, name, has_workers])


async def _change(table: Table) -> None:
    """Change a settlement once."""
    token, url = await asyncio.to_thread(table.token, "Owner"), f"{table.campaign_url}/settlements"
    (first, *_) = (await asyncio.to_thread(call, "GET", url, token=token))["settlements"]
    body = {"population": first["population"] + 1}
    await asyncio.to_thread(call, "PATCH", f"{url}/{first['id']}", body, token=token)
