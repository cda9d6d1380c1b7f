"""The browser client with the option `batch`, in a browser and at a real gateway."""

import asyncio
import json
from typing import Any

from playwright.async_api import Browser

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.envelope import Envelope, Metadata
from tests.architecture.sources import ROOT
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import _auth, running_gateway, settlement

__all__ = ["_auth"]

FOLLOW = """async (token) => {
    const { Client } = await import("/index.js");
    const heard = [];
    let looks = [];
    window.heard = (count) => new Promise((done) => {
        const look = () => (heard.length >= count ? done(heard) : looks.push(look));
        look();
    });
    const url = `ws://${location.host}/ws`;
    const client = new Client({ url, getToken: async () => token, batch: true, maxPauseMs: 1000 });
    const onEvent = (event) => {
        heard.push(event.payload.settlementId);
        looks.splice(0).forEach((look) => look());
    };
    const ready = new Promise((onReady) => client.subscribe("campaign:c1", { onEvent, onReady }));
    client.connect();
    await ready;
}"""


async def publish(stream: NatsServer, *settlements: str) -> None:
    async with connected(stream, "publisher") as nc:
        for one in settlements:
            envelope = Envelope(settlement(one), Metadata(source="api"))
            await broker.publish(nc, envelope.subject, envelope.encode(), message_id=envelope.id)


async def test_page_hears_missed_events_that_came_in_one_message_one_by_one(
    stream: NatsServer, auth: FakeAuth, chromium: Browser
) -> None:
    batches: asyncio.Queue[list[dict[str, Any]]] = asyncio.Queue()
    missed = [f"missed{number}" for number in range(10)]

    def take(frame: str | bytes) -> None:
        message = json.loads(frame)
        if message["type"] == "events":
            batches.put_nowait(message["events"])

    page = await chromium.new_page()
    page.on("websocket", lambda socket: socket.on("framereceived", take))
    files = {"static_dir": str(ROOT / "clients/js/src")}
    async with running_gateway(stream, auth, **files) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        await page.goto(f"{gateway.url}/healthz")
        await page.evaluate(FOLLOW, auth.token("viewer"))
        await publish(stream, "first")
        await page.evaluate("window.heard(1)")
    await publish(stream, *missed)
    async with running_gateway(stream, auth, port=port, **files):
        heard = await page.evaluate("window.heard(11)")
        async with asyncio.timeout(15):
            batch = await batches.get()
    await page.close()

    assert heard == ["first", *missed]
    assert [one["event"]["payload"]["settlementId"] for one in batch] == missed
    assert batches.empty()
