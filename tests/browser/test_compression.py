"""permessage-deflate with a browser's own implementation on the other side."""

from playwright.async_api import Browser

from beaconfire.nats_server import NatsServer
from tests.fakes import FakeAuth
from tests.gateway.conftest import _auth, running_gateway, settlement

__all__ = ["_auth"]

LISTEN = """(token) => new Promise((resolve) => {
    const socket = new WebSocket(`ws://${location.host}/ws`, "beaconfire.v1");
    window.event = new Promise((done) => socket.onmessage = (message) => {
        const frame = JSON.parse(message.data);
        if (frame.type === "connection.ack") resolve({extensions: socket.extensions, ack: frame});
        if (frame.type === "event") done(frame);
    });
    socket.onopen = () => socket.send(JSON.stringify({type: "connect", id: 1, token, rooms: ["campaign:c1"]}));
    socket.onclose = (end) => resolve({extensions: "", ack: {closed: end.code, reason: end.reason}});
})"""


async def test_chromium_negotiates_compression_and_both_sides_understand_each_other(
    stream: NatsServer, auth: FakeAuth, chromium: Browser
) -> None:
    fields = tuple(f"field{number}" for number in range(40))
    async with running_gateway(stream, auth, compression=True) as gateway:
        page = await chromium.new_page()
        await page.goto(f"{gateway.url}/healthz")
        said = await page.evaluate(LISTEN, auth.token("viewer"))
        await gateway.publish(settlement("s1", "c1", *fields))
        event = await page.evaluate("window.event")
        await page.close()

    assert said["ack"]["type"] == "connection.ack"
    assert said["extensions"] == "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    assert event["event"]["payload"]["changedFields"] == list(fields)
