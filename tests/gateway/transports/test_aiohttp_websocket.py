"""Sockets that aiohttp serves (`BEACONFIRE_TRANSPORT=aiohttp`) differ from our own in a few ways.

Tests of what both have in common are marked `on_both_transports`.
"""

import asyncio
import json
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvloop
from aiohttp import web

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.gateway import Incoming
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.transports.aiohttp_websocket_connection import serve
from beaconfire_gateway.transports.websocket import AiohttpWebSocket
from beaconfire_gateway.transports.write_buffers import WriteBuffers
from beaconfire_gateway.wire.framing import TextFrames
from beaconfire_gateway.wire.messages import Degraded
from beaconfire_gateway.wire.native import Native
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from tests.client import SUBPROTOCOL, Closed, open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.connections import aiohttp_handlers
from tests.gateway.core import build_core, spawning
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


@asynccontextmanager
async def served_core(transports: list[Any]) -> AsyncIterator[tuple[Core, str]]:
    """The core and its URL, with nothing but aiohttp around it. Each connection's transport is added to the list."""
    loop = asyncio.get_running_loop()
    core = build_core(call_soon=loop.call_soon, spawn=spawning(loop), epoch="e")
    wire, buffers = Wire(Native(), TextFrames()), WriteBuffers(core.spawn, max_buffer_bytes=262_144)

    async def handle(request: web.Request) -> web.StreamResponse:
        transports.append(request.transport)
        core.door.enter("an address")
        return await serve(
            core,
            request,
            partial(AiohttpWebSocket, core, wire, address="an address", offered_token=""),
            address="an address",
            subprotocol=SUBPROTOCOL,
            buffers=buffers,
        )

    app = web.Application()
    app.router.add_get("/ws", handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield core, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_no_call_of_a_session_fails_although_its_transport_is_gone() -> None:
    """uvloop's transports raise if they are written to when they are gone. The gateway calls many sessions in a row.

    The session whose transport is gone comes first. Each time, the other one is still reached.
    """

    async def reset(call: str) -> object:
        transports: list[Any] = []
        async with served_core(transports) as (core, url), open_socket(url) as first, open_socket(url) as second:
            await first.connect("ann")
            await second.connect("ann")
            transports[0].abort()
            await asyncio.sleep(0)  # the transport is closed in this turn, and its session notices in the next one
            sessions = core.hub.sessions_of("ann")
            assert len(sessions) == 2
            for session in sessions:
                if call == "send":
                    session.send(Degraded())
                elif call == "send_now":
                    session.send_now(Degraded())
                elif call == "ping":
                    session.connection.ping(session, session.wire.encode(Degraded()))
                else:
                    session.close(BeaconfireError(errors.TOKEN_INVALID, "sign in again"))
            if call == "close":
                return (await second.closed()).code
            return (await second.next("degraded"))["type"]

    found = [uvloop.run(reset(call)) for call in ("send", "send_now", "ping", "close")]

    assert found == ["degraded", "degraded", "degraded", 4401]


async def test_message_that_our_code_fails_on_closes_an_aiohttp_socket_without_revealing_the_error() -> None:
    ids = []

    def fail(session: Session, _incoming: Incoming) -> None:
        ids.append(session.id)
        raise ValueError("a secret")

    async with served_core([]) as (core, url), open_socket(url) as client:
        core.handle = fail
        await client.send("connect", token="ann")
        end = await client.closed()

    assert (end.code, end.reason) == (4500, f"something went wrong on our side; quote {ids[0]}")
