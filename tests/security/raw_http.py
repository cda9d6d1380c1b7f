"""Raw connections to a service: bytes in, and what it makes of them."""

import asyncio
import re

from tests.websocket import connection

WAIT_S = 20.0


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
