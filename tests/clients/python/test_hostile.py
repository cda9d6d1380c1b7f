"""The Python client survives servers that are broken or hostile: it never hangs, and never ends by itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from beaconfire_client import ConnectionFailed, connect
from beaconfire_client.core.protocol import read_frames
from tests.clients.python.taking import WAIT_S

ACK = {
    "type": "connection.ack",
    "id": 1,
    "sessionId": "s1",
    "userId": "u1",
    "cursor": "e1:1",
    "heartbeatS": 25,
    "limits": {},
    "degraded": False,
    "rooms": {},
}
MALFORMED = [
    {"type": "event"},
    {"type": "event", "offset": "seven", "rooms": [], "event": {}},
    {"type": "event", "offset": 2, "rooms": None, "event": {"id": "e"}},
    {"type": "position"},
    {"type": "position", "cursor": 7},
    {"type": "resync", "rooms": 3, "reason": "x", "cursor": "e1:1"},
    {"type": "restored", "id": 1, "rooms": ["a"], "events": [{}]},
    {"type": "token.expiring", "inS": "soon"},
    {"type": "presence", "room": 1},
    {"type": "goaway"},
]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Serve WebSockets. Yields the address."""
    app = web.Application()
    app.router.add_get("/ws", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("frame", MALFORMED, ids=json.dumps)
async def test_malformed_message_ends_the_connection_and_the_client_connects_again(frame: dict[str, Any]) -> None:
    connections = 0
    again = asyncio.Event()

    async def serve(request: web.Request) -> web.StreamResponse:
        nonlocal connections
        connections += 1
        socket = web.WebSocketResponse(protocols=["beaconfire.v1"])
        await socket.prepare(request)
        hello = await socket.receive_json()
        await socket.send_json({**ACK, "id": hello["id"]})
        if connections > 1:
            again.set()
        else:
            await socket.send_json(frame)
        async for _ in socket:
            pass
        return socket

    async with serving(serve) as url, connect(url, "token", max_pause_s=1) as client:
        async with asyncio.timeout(WAIT_S):
            await again.wait()
            await client.connected()

    assert connections == 2


async def test_gateway_that_says_when_to_come_back_is_not_taken_for_a_blocked_websocket() -> None:
    paths: list[str] = []

    async def refuse(request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        return web.Response(status=503, headers={"Retry-After": "0"})

    async with serving(refuse) as url:
        with pytest.raises(ConnectionFailed, match="HTTP 503"):
            async with connect(url, "token", max_attempts=2, max_pause_s=1):
                pass

    assert paths == ["/ws", "/ws"]


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", '{"type": 5}', '{"type": "events", "events": [1, null]}'])
def test_frame_that_is_no_message_is_ignored(text: str) -> None:
    assert read_frames(text) == []
