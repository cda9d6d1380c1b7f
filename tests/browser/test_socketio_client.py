"""The unmodified Socket.IO client in a browser: from polling to a WebSocket, and where WebSockets are blocked."""

import asyncio
from typing import Any

from playwright.async_api import Page, WebSocketRoute

from beaconfire.api import call
from tests.browser.conftest import Table
from tests.javascript import install_from_lock
from tests.socketio.clients import FOLDER

CLIENT = FOLDER / "node_modules" / "socket.io-client" / "dist" / "socket.io.js"
CONNECT = """([token, campaign]) => new Promise((resolve) => {
    window.heard = [];
    window.socket = io({ auth: { token } });
    socket.on("settlement_updated", (payload) => heard.push(payload));
    socket.on("connect", () => socket.emit("subscribe_campaign", campaign, resolve));
})"""


async def subscribed_page(table: Table, page: Page) -> None:
    """Run the client's published file in a page of the gateway, and subscribe to the campaign."""
    await asyncio.to_thread(install_from_lock, FOLDER)
    await page.goto(table.url)
    await page.evaluate(CLIENT.read_text())
    answer = await page.evaluate(CONNECT, [table.token("Viewer"), table.campaign])
    assert answer["success"] is True


async def change(table: Table, population: int) -> str:
    """Change a settlement as its owner does. Returns its id."""

    def patch() -> str:
        token, url = table.token("Owner"), f"{table.campaign_url}/settlements"
        settlement: str = call("GET", url, token=token)["settlements"][0]["id"]
        call("PATCH", f"{url}/{settlement}", {"population": population}, token=token)
        return settlement

    return await asyncio.to_thread(patch)


async def heard(page: Page) -> Any:
    """The settlement of the first event that the page hears."""
    await page.wait_for_function("heard.length > 0")
    return await page.evaluate("heard[0].settlementId")


async def test_client_in_a_browser_goes_over_to_a_websocket_and_hears_events(table: Table) -> None:
    """It begins with polling, as the client does by default."""
    window = await table.window()
    await subscribed_page(table, window.page)
    await window.page.wait_for_function("socket.io.engine.transport.name === 'websocket'")
    settlement = await change(table, 101)

    assert await heard(window.page) == settlement
    assert any("transport=websocket" in socket.url and "sid=" in socket.url for socket in window.sockets)
    assert window.troubles == []


async def test_client_in_a_browser_without_websockets_hears_events_by_polling(table: Table) -> None:
    """Each WebSocket is closed on its way, as some networks do."""

    async def block(socket: WebSocketRoute) -> None:
        await socket.close()

    window = await table.window()
    await window.page.route_web_socket("**/socket.io/**", block)
    await subscribed_page(table, window.page)
    settlement = await change(table, 102)

    assert await heard(window.page) == settlement
    assert await window.page.evaluate("socket.io.engine.transport.name") == "polling"
