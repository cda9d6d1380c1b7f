"""A client of the native protocol for tests: frames in, frames out, and nothing hidden."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

SUBPROTOCOL = "beaconfire.v1"
WAIT_S = 15.0


class Closed(Exception):
    """The gateway closed the connection."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(f"closed with {code}: {reason}")
        self.code = code
        self.reason = reason


class SocketClient:
    """One connection. `frames` is everything that came, in order."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.frames: list[dict[str, Any]] = []
        self.ack: dict[str, Any] = {}
        self._next_id = 0
        self._read = 0

    async def send(self, kind: str, **fields: Any) -> int:
        """Send a message; returns its id."""
        self._next_id += 1
        await self.socket.send_json({"type": kind, "id": self._next_id, **fields})
        return self._next_id

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a message and wait for its answer; frames that come before it stay to be read."""
        message_id = await self.send(kind, **fields)
        return await self._find(lambda frame: frame.get("id") == message_id)

    async def connect(self, token: str, rooms: Sequence[str] = (), **fields: Any) -> dict[str, Any]:
        """Say who we are. Returns the ack; raises Closed where refused."""
        self.ack = await self.ask("connect", token=token, rooms=list(rooms), **fields)
        return self.ack

    async def next(self, *kinds: str) -> dict[str, Any]:
        """The next unread frame of one of these types; others are passed over."""
        while True:
            while self._read < len(self.frames):
                frame = self.frames[self._read]
                self._read += 1
                if frame["type"] in kinds:
                    return frame
            await self._receive()

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The next `count` events."""
        return [await self.next("event") for _ in range(count)]

    async def closed(self) -> Closed:
        """Wait for the end."""
        try:
            while True:
                await self._receive()
        except Closed as end:
            return end

    async def _find(self, wanted: Any) -> dict[str, Any]:
        seen = len(self.frames)
        while True:
            for frame in self.frames[seen:]:
                if wanted(frame):
                    return frame
            seen = len(self.frames)
            await self._receive()

    async def _receive(self) -> None:
        async with asyncio.timeout(WAIT_S):
            message = await self.socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            self.frames.append(json.loads(message.data))
        elif message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING):
            raise Closed(self.socket.close_code, str(message.extra or ""))
        else:
            raise AssertionError(f"unexpected {message}")


@asynccontextmanager
async def open_socket(url: str, **options: Any) -> AsyncIterator[SocketClient]:
    """Open a socket at a gateway's `http://…` address."""
    options.setdefault("protocols", [SUBPROTOCOL])
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}/ws", **options) as socket:
        yield SocketClient(socket)
