"""Unmodified Socket.IO clients through nginx and HAProxy, as deploy/proxy configures them."""

from pathlib import Path

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.transports.relay import QUESTIONS
from tests.fakes import FakeAuth
from tests.gateway.conftest import _auth, running_gateway, settlement  # noqa: F401
from tests.proxies import KINDS, proxied
from tests.socketio.clients import npm_clients

EVENTS = 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("upgrade", [False, True], ids=["polling", "upgrade"])
async def test_socketio_client_keeps_its_connection_and_hears_each_event_once(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth, kind: str, upgrade: bool
) -> None:
    """Its requests go to both gateways, because neither proxy is told to keep a client at one of them."""
    asked_before = QUESTIONS.labels("poll", "answered")._value.get()
    async with (
        running_gateway(stream, auth, heartbeat_s=1) as one,
        running_gateway(stream, auth, heartbeat_s=1) as other,
        proxied(kind, tmp_path, [one.url, other.url]) as url,
        npm_clients() as driver,
    ):
        clients = [
            driver.open(
                url,
                auth={"token": auth.token("viewer")},
                transports=("polling", "websocket") if upgrade else ("polling",),
                rejectUnauthorized=False,
            )
            for _ in range(4)
        ]
        for client in clients:
            await client.saw("connect")
            assert (await client.ask("subscribe_campaign", "c1"))["success"]
            if upgrade:
                await client.saw("upgrade")
        published = [f"s{number}" for number in range(EVENTS)]
        for name in published:
            await one.publish(settlement(name))
        heard = [
            [payload["settlementId"] for payload, _ in await client.all_events("settlement_updated", EVENTS)]
            for client in clients
        ]
        lost = [happened for client in clients for happened in client.seen if happened["got"] == "disconnect"]

    assert heard == [published] * len(clients)
    assert lost == []
    assert upgrade or QUESTIONS.labels("poll", "answered")._value.get() > asked_before
