"""Several tabs of one user share a connection."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import CDPSession, Error, Page

from beaconfire.local_services import Services
from tests.browser.conftest import Table, chromium_executable
from tests.browser.devtools import running_chromium
from tests.browser.recording import UNTIL_HEARD, Scripted, publish, publishing
from tests.browser.tabs import Tab

RUN_S = 150
# A client that shares its connection with other tabs, and an indicator of its connection.
JOIN = """async ([room, token, user, missing]) => {
    for (const name of missing) {
        Object.defineProperty(name === "locks" ? navigator : window, name, { value: undefined });
    }
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
HEARD = "() => window.heard"
# Wait until another connection serves the tab than the one of this session. Returns the new session.
UNTIL_MOVED = """(before) => new Promise((resolve) => {
    const look = () => {
        const { state, sessionId } = window.client;
        if (state === "connected" && sessionId !== before) resolve(sessionId);
        else setTimeout(look, 20);
    };
    look();
})"""
# Count the runs of a timer, and note when the page is frozen.
WATCH = """() => {
    window.watched = { ticks: 0, states: [] };
    setInterval(() => (window.watched.ticks += 1), 50);
    for (const name of ["freeze", "resume"]) document.addEventListener(name, () => window.watched.states.push(name));
}"""
WATCHED = "() => window.watched"
IS_HIDDEN = "() => document.hidden"
DISPATCH = "(name) => document.dispatchEvent(new Event(name))"
# As in Chrome on Android: one of the tabs has the connection.
NO_WORKERS = ("SharedWorker",)
NO_LOCKS = ("SharedWorker", "locks")


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
    await tab.close()
    gateway = table.services.gateways[0]
    await asyncio.to_thread(gateway.kill)
    await second.until("#light", "Reconnecting (")
    offsets += await publish(table, 1)
    await asyncio.to_thread(gateway.start)
    await second.until_there("#light[data-look=green]")
    offsets += await publish(table, 1)
    await second.evaluate(UNTIL_HEARD, 3)

    assert sessions[0]
    assert sessions[0] == sessions[1]
    assert await second.evaluate(HEARD) == offsets


async def test_tabs_of_two_users_do_not_share_a_connection(table: Table) -> None:
    first, second = await _pages(table, 2)

    assert await _join(table, first) != await _join(table, second, name="Editor")


async def test_browser_without_shared_workers_and_locks_has_a_connection_for_each_tab(table: Table) -> None:
    pages = await _pages(table, 2)
    sessions = [await _join(table, page, missing=NO_LOCKS) for page in pages]
    await publish(table, 1)
    for page in pages:
        await page.evaluate(UNTIL_HEARD, 1)

    assert len(set(sessions)) == 2


@pytest.mark.timeout(RUN_S)
async def test_without_shared_workers_the_next_tab_leads_when_the_leader_is_closed_or_crashes(table: Table) -> None:
    """Events are published meanwhile. The last tab hears each of them once."""
    leader, second, third = await _pages(table, 3)
    sessions = [await _join(table, page, missing=NO_WORKERS) for page in (leader, second, third)]
    async with publishing(table) as offsets:
        await leader.close()
        moved = [await page.evaluate(UNTIL_MOVED, sessions[0]) for page in (second, third)]
        await _crash(second)
        await third.evaluate(UNTIL_MOVED, moved[0])
    await third.evaluate(UNTIL_HEARD, len(offsets))

    assert len(set(sessions)) == len(set(moved)) == 1
    assert await third.evaluate(HEARD) == offsets


@pytest.mark.timeout(RUN_S)
async def test_without_shared_workers_the_next_tab_leads_when_the_leader_hangs(table: Table) -> None:
    """The leader comes back, and hears once what it has missed."""
    first, second = await _pages(table, 2)
    sessions = [await _join(table, page, missing=NO_WORKERS) for page in (first, second)]
    async with publishing(table) as offsets:
        tools = await _hang(first)
        await second.evaluate(DISPATCH, "visibilitychange")
        moved = await second.evaluate(UNTIL_MOVED, sessions[0])
        await tools.send("Debugger.resume")
        assert await first.evaluate(UNTIL_MOVED, sessions[0]) == moved
    for page in (first, second):
        await page.evaluate(UNTIL_HEARD, len(offsets))

    assert await first.evaluate(HEARD) == offsets
    assert await second.evaluate(HEARD) == offsets


@pytest.mark.timeout(RUN_S)
async def test_without_shared_workers_a_leader_in_the_background_serves_until_it_is_frozen(
    demo_services: Services, demo_campaign: str, tmp_path: Path
) -> None:
    """Chromium slows down the leader's timers, then freezes it. It comes back, and hears once what it has missed."""
    table = Table(demo_services, demo_campaign)
    async with running_chromium(chromium_executable(), tmp_path) as browser:
        first = await browser.open(table.url)
        sessions = [await _join(table, first, missing=NO_WORKERS)]
        second = await browser.open(table.url)
        assert await first.evaluate(IS_HIDDEN)
        sessions.append(await _join(table, second, missing=NO_WORKERS))
        await first.evaluate(WATCH)
        async with publishing(table) as offsets:
            await second.evaluate(UNTIL_HEARD, 10)
            await first.set_state("frozen")
            frozen = await first.evaluate(WATCHED)
            moved = await second.evaluate(UNTIL_MOVED, sessions[0])
            await second.evaluate(UNTIL_HEARD, 150)  # of fifty a second: slow timers would run more than once
            assert await first.evaluate(WATCHED) == frozen
            await first.set_state("active")
            assert await first.evaluate(UNTIL_MOVED, sessions[0]) == moved
        for page in (first, second):
            await page.evaluate(UNTIL_HEARD, len(offsets))

        assert sessions[0] == sessions[1]
        assert (await first.evaluate(WATCHED))["states"] == ["freeze", "resume"]
        assert await first.evaluate(HEARD) == offsets
        assert await second.evaluate(HEARD) == offsets


async def _pages(table: Table, count: int) -> list[Page]:
    """Open tabs of one window, each with a process of its own."""
    first = (await table.window()).page
    others = [await first.context.new_page() for _ in range(count - 1)]
    for page in others:
        await page.goto(table.url)
    return [first, *others]


async def _crash(page: Page) -> None:
    """End the process of a tab, without a word to the page."""
    with contextlib.suppress(Error):
        await page.goto("chrome://crash")


async def _hang(page: Page) -> CDPSession:
    """Stop the scripts of a tab as soon as one of them runs, until the debugger resumes them."""
    tools = await page.context.new_cdp_session(page)
    await tools.send("Debugger.enable")
    await tools.send("Debugger.pause")
    return tools


async def _join(table: Table, page: Scripted, *, name: str = "Owner", missing: tuple[str, ...] = ()) -> Any:
    """Subscribe to the campaign's room. Returns the id of the connection's session."""
    token = await asyncio.to_thread(table.token, name)
    return await page.evaluate(JOIN, [table.room, token, name, list(missing)])
