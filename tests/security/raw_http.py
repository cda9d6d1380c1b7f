"""Raw connections to a service: bytes in, and what it makes of them."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.gateway.test_websocket import RawSocket, handshake

WAIT_S = 20.0

__all__ = ["RawSocket", "connection", "exchange", "handshake", "raw_socket", "statuses"]


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[RawSocket]:
    """A TCP connection to a service."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield RawSocket(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def raw_socket(url: str) -> AsyncIterator[RawSocket]:
    """A WebSocket of bytes, after its handshake."""
    async with connection(url) as raw:
        raw.write(handshake(url))
        async with asyncio.timeout(WAIT_S):
            head = await raw.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield raw


async def exchange(url: str, *chunks: bytes) -> bytes:
    """Send bytes; everything the service answers until it closes. Ends the test where it does not close in time."""
    async with connection(url) as raw:
        try:
            for chunk in chunks:
                raw.write(chunk)
                await raw.writer.drain()
            async with asyncio.timeout(WAIT_S):
                return await raw.reader.read()
        except (ConnectionResetError, BrokenPipeError):
            return b""


async def statuses(url: str, request: bytes) -> list[int]:
    """Status of every answer to these bytes and a last, proper request behind them: 200 where it was answered, too."""
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", await exchange(url, request + last))]
