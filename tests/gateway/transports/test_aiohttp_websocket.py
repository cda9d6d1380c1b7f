"""Sockets that aiohttp serves (`BEACONFIRE_TRANSPORT=aiohttp`) differ from our own in a few ways.

Tests of what both have in common are marked `on_both_transports`.
"""

import json
import select

import pytest

from beaconfire.nats_server import NatsServer
from tests.client import Closed, open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.connections import aiohttp_handlers
from tests.websocket import client_frame, raw_socket


@pytest.fixture(autouse=True)
def _on_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEACONFIRE_TRANSPORT", "aiohttp")


async def test_connection_stays_with_aiohttp_to_its_end(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("owner"))
        handlers = aiohttp_handlers(gateway.url)

    assert len(handlers) == 1


async def test_sockets_stay_with_aiohttp_and_uncompressed_on_systems_without_epoll(
    stream: NatsServer, auth: FakeAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEACONFIRE_TRANSPORT", "handover")
    monkeypatch.delattr(select, "epoll")
    async with (
        running_gateway(stream, auth, compression=True) as gateway,
        raw_socket(gateway.url, Sec_WebSocket_Extensions="permessage-deflate") as raw,
    ):
        hello = {"type": "connect", "id": 1, "token": auth.token("owner"), "rooms": ["campaign:c1"]}
        raw.write(client_frame(json.dumps(hello).encode()))
        ack = json.loads((await raw.frame())[1])
        await gateway.publish(settlement())
        event = json.loads((await raw.frame())[1])
        handlers = aiohttp_handlers(gateway.url)

    assert ack["type"] == "connection.ack"
    assert event["type"] == "event"
    assert len(handlers) == 1


@pytest.mark.parametrize(
    ("bytes_", "code"),
    [
        pytest.param(client_frame(b"{}", rsv=0x40), 1002, id="reserved bit"),
        pytest.param(client_frame(b"{}", 2), 1003, id="binary"),
        pytest.param(client_frame(b"\xff\xfe"), 1007, id="not UTF-8"),
        pytest.param(client_frame(b"x" * 16_385), 1009, id="too large"),
        pytest.param(client_frame(b"{"), 4400, id="no JSON before connect"),
    ],
)
async def test_broken_frames_close_an_aiohttp_socket_with_aiohttps_codes(
    gateway: Gateway, bytes_: bytes, code: int
) -> None:
    async with raw_socket(gateway.url) as raw:
        raw.write(bytes_)

        assert await raw.close_code() == code


async def test_flood_of_pings_on_an_aiohttp_socket_is_closed_with_4429(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("owner"))
        for _ in range(700):
            await client.socket.ping()
        end = await client.closed()

    assert isinstance(end, Closed)
    assert end.code == 4429
