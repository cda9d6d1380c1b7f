"""Scripts that a page runs beside its own, to record what a client hears, and to wait for it."""

import asyncio
from typing import Any

from beaconfire.api import call
from tests.browser.conftest import Table, Window

# Wait until `window.heard` has as many entries.
UNTIL_HEARD = """(count) => new Promise((resolve) => {
    const look = () => (window.heard.length >= count ? resolve() : setTimeout(look, 20));
    look();
})"""
# A client beside the page's own, which records what it hears and how it is connected.
RECORD = """async ([room, transport]) => {
    const { Client } = await import("/client/index.js");
    const { accessToken } = JSON.parse(sessionStorage.getItem("beaconfire-session"));
    const url = location.origin.replace(/^http/, "ws") + "/ws";
    const record = (window.record = { offsets: [], states: [], transports: [], errors: [] });
    const client = (window.client = new Client({ url, transport, getToken: async () => accessToken }));
    client.on("state", ({ state, transport }) => {
        record.states.push(state);
        if (transport) record.transports.push(transport);
    });
    client.on("error", (error) => record.errors.push(error));
    await new Promise((onReady) => {
        const onEvent = (event, { offset }) => event.type === "settlement_updated" && record.offsets.push(offset);
        client.subscribe(room, { onReady, onEvent });
        client.connect();
    });
}"""
UNTIL = """(count) => new Promise((resolve) => {
    const look = () => (window.record.offsets.length >= count ? resolve(window.record) : setTimeout(look, 20));
    look();
})"""


async def record(window: Window, table: Table, count: int) -> dict[str, Any]:
    """Change a settlement `count` times, and wait until the recording client has heard of all of it."""
    token, url = await asyncio.to_thread(table.token, "Owner"), f"{table.campaign_url}/settlements"
    (first, *_) = (await asyncio.to_thread(call, "GET", url, token=token))["settlements"]
    before = len((await window.page.evaluate("() => window.record"))["offsets"])
    for number in range(count):
        body = {"level": first["level"] % 10 + number + 1}
        await asyncio.to_thread(call, "PATCH", f"{url}/{first['id']}", body, token=token)
    return dict(await window.page.evaluate(UNTIL, before + count))
