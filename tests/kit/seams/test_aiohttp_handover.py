"""aiohttp still lets go of a socket as `beaconfire_kit/seams/aiohttp_handover.py` expects.

`test_aiohttp_holds_nothing_of_a_connection_after_the_handover` (tests/gateway/transports/test_websocket.py) shows that
nothing of the connection stays with aiohttp.
"""

import asyncio
import os
from contextlib import closing

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from beaconfire_kit.seams.aiohttp_handover import bytes_behind, let_go, take_over

OFFER = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_aiohttp_still_keeps_what_came_behind_an_upgrade() -> None:
    """The bytes behind a request with an upgrade are in `_message_tail`."""
    assert "_message_tail" in RequestHandler.__slots__


async def test_socket_taken_over_from_aiohttp_stays_open() -> None:
    """aiohttp writes no answer and closes its transport. The descriptor still reaches the client."""
    descriptors: list[int] = []
    early: list[bytes] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        descriptors.append(take_over(request.transport))
        request.transport.pause_reading()
        early.append(bytes_behind(request))
        let_go()

    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        with closing(writer):
            writer.write(OFFER + b"early")
            async with asyncio.timeout(10):
                while not descriptors or runner.server is None or runner.server.connections:
                    await asyncio.sleep(0.01)
                os.write(descriptors[0], b"ours")
                os.close(descriptors[0])
                heard = await reader.read()
    finally:
        await runner.cleanup()

    assert heard == b"ours"
    assert early == [b"early"]
