"""A WebSocket of raw bytes: it sends what no client library would."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from beaconfire_gateway.wire.websocket_frames import Opcode, decode_close

WAIT_S = 20.0
MASK = b"\x12\x34\x56\x78"


class RawSocket:
    """A connection to a server: bytes go out as they are given, and WebSocket frames are read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def frame(self) -> tuple[int, bytes]:
        """Read the next frame of the server: opcode and payload."""
        async with asyncio.timeout(10):
            first, second = await self.reader.readexactly(2)
            assert first & 0x80, "the server does not fragment"
            assert not second & 0x80, "a server must not mask"
            length = second & 0x7F
            if length >= 126:
                length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
            return first & 0x0F, await self.reader.readexactly(length)

    async def close_code(self) -> int:
        """Wait for the close frame and return its code."""
        while True:
            opcode, payload = await self.frame()
            if opcode == Opcode.CLOSE:
                return decode_close(payload)[0]

    async def end(self) -> None:
        """Wait until the server has closed the TCP connection."""
        async with asyncio.timeout(15):
            while await self.reader.read(65536):
                pass


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[RawSocket]:
    """Open a TCP connection to the server at `url`, without a handshake."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield RawSocket(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def raw_socket(url: str, *, early: bytes = b"", **headers: str) -> AsyncIterator[RawSocket]:
    """Open a WebSocket at a gateway's address. `early` is sent in the same packet as the handshake."""
    async with connection(url) as raw:
        raw.write(handshake(url, **headers) + early)
        async with asyncio.timeout(WAIT_S):
            head = await raw.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield raw


async def status_of(url: str, request: bytes) -> int:
    """Send a raw request and return the HTTP status of its answer."""
    async with connection(url) as raw:
        raw.write(request)
        async with asyncio.timeout(10):
            return int((await raw.reader.readline()).split()[1])


def handshake(url: str, *, path: str = "/ws", drop: str = "", **headers: str) -> bytes:
    """A handshake request; `drop` leaves one header out."""
    parts = urlsplit(url)
    chosen = {
        "Host": parts.netloc,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": "beaconfire.v1",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    chosen.pop(drop, None)
    return (f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in chosen.items()) + "\r\n").encode()


def client_frame(payload: bytes, opcode: int = Opcode.TEXT, *, final: bool = True, rsv: int = 0) -> bytes:
    """A frame as a client sends it: masked."""
    first = (0x80 if final else 0) | rsv | opcode
    length = len(payload)
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < 65536:
        head = bytes((first, 0x80 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + length.to_bytes(8, "big")
    masked = bytes(byte ^ MASK[index % 4] for index, byte in enumerate(payload))
    return head + MASK + masked


def payloads(data: bytes) -> list[bytes]:
    """The payloads of a server's whole frames."""
    found = []
    while data:
        length, start = data[1], 2
        if length >= 126:
            start += 2 if length == 126 else 8
            length = int.from_bytes(data[2:start], "big")
        found.append(data[start : start + length])
        data = data[start + length :]
    return found
