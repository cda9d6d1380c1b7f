"""Several tabs of one user share a connection."""

import asyncio
from typing import Any

import pytest
from playwright.async_api import Page

from beaconfire.local_services import Services
from tests.browser.conftest import Table
from tests.browser.recording import UNTIL_HEARD, Scripted, publish
from tests.browser.tabs import Tab

RUN_S = 150
# A client that shares its connection with other tabs, and an indicator of its connection.
JOIN = """async ([room, token, user, hasWorkers]) => {
    if (!hasWorkers) delete window.SharedWorker;
    const { connectTabs } = await import("/client/tabs.js");
    const { mountIndicator } = await import("/client/indicator.js");
    const url = location.origin.replace(/^http/, "ws") + "/ws";
    const heard = (window.heard = []);
    const client = (window.client = await connectTabs({ url, user, getToken: () => token }));
    const light = document.body.appendChild(document.createElement("div"));
    light.id = "light";
    mountIndicator(light, client);
    await new Promise((onReady) => {
        const onEvent = (event, { offset }) => event.type === "state_invalidated" && heard.push(offset);
        client.subscribe(room, { onReady, onEvent });
    });
    return client.sessionId;
}"""


@pytest.mark.timeout(RUN_S)
@pytest.mark.parametrize("tab", ["chromium", "firefox"], indirect=True)
async def test_two_tabs_share_one_connection_until_the_last_one_is_closed(
    demo_services: Services, demo_campaign: str, tab: Tab
) -> None:
    table = Table(demo_services, demo_campaign)
    await tab.goto(table.url)
    second = await tab.another()
    await second.goto(table.url)
    sessions = [await _join(table, one) for one in (tab, second)]
    offsets = await publish(table, 1)
    for one in (tab, second):
        await one.evaluate(UNTIL_HEARD, 1)
        await one.until("#light", "Connected")
    await tab.close()
    gateway = table.services.gateways[0]
    await asyncio.to_thread(gateway.kill)
    await second.until("#light", "Reconnecting (")
    offsets += await publish(table, 1)
    await asyncio.to_thread(gateway.start)
    await second.until("#light", "Connected")
    offsets += await publish(table, 1)
    await second.evaluate(UNTIL_HEARD, 3)

    assert sessions[0]
    assert sessions[0] == sessions[1]
    assert await second.evaluate("() => window.heard") == offsets


async def test_tabs_of_two_users_do_not_share_a_connection(table: Table) -> None:
    first, second = await _two_pages(table)

    assert await _join(table, first) != await _join(table, second, name="Editor")


async def test_browser_without_shared_workers_has_a_connection_for_each_tab(table: Table) -> None:
    pages = await _two_pages(table)
    sessions = [await _join(table, page, has_workers=False) for page in pages]
    await publish(table, 1)
    for page in pages:
        await page.evaluate(UNTIL_HEARD, 1)

    assert len(set(sessions)) == 2


async def _two_pages(table: Table) -> tuple[Page, Page]:
    """Two tabs of one window."""
    first = (await table.window()).page
    second = await first.context.new_page()
    await second.goto(table.url)
    return first, second


async def _join(table: Table, page: Scripted, *, name: str = "Owner", has_workers: bool = True) -> Any:
    """Subscribe to the campaign's room. Returns the id of the connection's session."""
    token = await asyncio.to_thread(table.token, name)
    return await page.evaluate(JOIN, [table.room, token, name, has_workers])
