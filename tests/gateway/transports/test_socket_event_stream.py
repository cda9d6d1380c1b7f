"""What only event streams on sockets of ours do."""

import asyncio
import gc
import socket
from typing import NoReturn

import pytest

from tests.event_streams import WAIT_S, open_stream, raw_stream
from tests.gateway.conftest import Gateway
from tests.gateway.connections import aiohttp_handlers


async def test_aiohttp_holds_nothing_of_a_stream_after_the_handover(gateway: Gateway) -> None:
    async with open_stream(gateway.url, gateway.auth.token("owner")) as stream:
        await stream.ack()
        gc.collect()
        handlers = aiohttp_handlers(gateway.url)

    assert handlers == []


async def test_client_that_sends_on_after_its_request_is_ended(gateway: Gateway) -> None:
    """Nothing that follows is read as a request, and none of it is kept."""
    async with raw_stream(gateway.url, gateway.auth.token("viewer")) as client, asyncio.timeout(WAIT_S):
        with pytest.raises(ConnectionError):
            await send_forever(client, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 100)


async def send_forever(client: socket.socket, data: bytes) -> NoReturn:
    while True:
        await asyncio.get_running_loop().sock_sendall(client, data)
