"""Pages in a network that blocks WebSockets from the start: they work, and say that they are not live."""

import asyncio

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Table, Window
from tests.browser.recording import RECORD, assert_once, heard, publish

# A handshake that a proxy refuses: the browser asks for a path that is no WebSocket's.
BLOCK = """
    const Real = window.WebSocket;
    window.WebSocket = class extends Real {
        constructor(url, protocols) {
            super(url.replace(/ws$/, "blocked"), protocols);
        }
    };
    window.rejections = [];
    window.addEventListener("unhandledrejection", ({ reason }) => window.rejections.push(String(reason)));
"""


async def assert_quiet(window: Window) -> None:
    """The page threw nothing, and nothing was rejected unheard."""
    assert [one for one in window.troubles if "WebSocket" not in one and "Failed to load" not in one] == []
    assert await window.page.evaluate("() => window.rejections") == []


async def test_page_without_websockets_works_over_a_stream_and_says_that_it_is_not_live(table: Table) -> None:
    window = await table.window(script=BLOCK)
    await window.sign_in("Owner")
    await window.open_campaign()
    light = window.page.locator("#connection")
    await expect(light).to_contain_text("Not live: connected without a WebSocket")
    await window.page.get_by_role("button", name="Raise the level of Emberford").click()
    await expect(window.page.locator(".entry-text").first).to_contain_text("You changed the level of Emberford")
    await window.page.evaluate(RECORD, [table.room, "auto"])
    offsets = await publish(table, 5)
    record = await heard(window.page, offsets)
    await expect(light).to_be_visible()

    assert_once(record, offsets)
    assert record["transports"] == ["sse"]
    await assert_quiet(window)


async def test_page_without_websockets_and_streams_polls_and_says_that_it_is_not_live(table: Table) -> None:
    """A proxy that keeps the stream back until it ends, which it never does."""
    window = await table.window(script=BLOCK)
    await window.page.route("**/sse", lambda _route: None)
    await window.sign_in("Owner")
    await window.open_campaign()
    await expect(window.page.locator("#connection")).to_contain_text("Not live: asking for changes")
    await window.page.get_by_role("button", name="Raise the level of Emberford").click()
    await expect(window.page.locator(".entry-text").first).to_contain_text("You changed the level of Emberford")
    await window.page.evaluate(RECORD, [table.room, "auto"])
    offsets = await publish(table, 5)
    record = await heard(window.page, offsets)

    assert_once(record, offsets)
    assert record["transports"] == ["poll"]
    await assert_quiet(window)


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
async def test_application_may_allow_only_one_way(table: Table, transport: str) -> None:
    window = await table.window()
    await window.sign_in("Owner")
    await window.open_campaign()
    await window.page.evaluate(RECORD, [table.room, transport])
    offsets = await publish(table, 2)
    record = await heard(window.page, offsets)

    assert_once(record, offsets)
    assert record["transports"] == [transport]
    assert window.troubles == []


@pytest.mark.parametrize("transport", ["sse", "poll"])
async def test_gateway_that_starts_again_costs_a_fallback_no_event(table: Table, transport: str) -> None:
    gateway = table.services.gateways[0]
    window = await table.window(script=BLOCK)
    await window.sign_in("Owner")
    await window.open_campaign()
    await window.page.evaluate(RECORD, [table.room, transport])
    offsets = await publish(table, 2)
    await heard(window.page, offsets)
    await asyncio.to_thread(gateway.kill)
    offsets += await publish(table, 3)
    await asyncio.to_thread(gateway.start)

    assert_once(await heard(window.page, offsets), offsets)
    await assert_quiet(window)
