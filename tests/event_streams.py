"""A client of server-sent events for tests: it reads a stream as HTML §9.2.6 says, and hides nothing."""

import asyncio
import ctypes
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

SO_ATTACH_FILTER = 26
"""Of Linux (asm-generic/socket.h). Python has no name for it."""
WAIT_S = 15.0


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """An event as a page sees it. `id` is the last event id at that moment, as `MessageEvent.lastEventId` is."""

    name: str
    id: str
    data: str

    @property
    def json(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.data)
        return message


class Parser:
    """Makes events of the bytes of a stream."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry_ms: int | None = None
        self.comments = 0
        self._line = b""
        self._name = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> Iterator[ServerSentEvent]:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            assert not line.endswith(b"\r")
            if line:
                self._read(line.decode())
            elif (event := self._dispatch()) is not None:
                yield event

    def _read(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not field:
            self.comments += 1
        elif field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        elif field == "id":
            self.last_id = value
        elif field == "retry":
            self.retry_ms = int(value)

    def _dispatch(self) -> ServerSentEvent | None:
        data, name = self._data, self._name
        self._data, self._name = [], ""
        return ServerSentEvent(name or "message", self.last_id, "\n".join(data)) if data else None


class Ended(Exception):
    """The gateway ended the answer."""


class EventStreamClient:
    """One answer. `events` is everything that came, in order."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.parser = Parser()
        self.events: list[ServerSentEvent] = []
        self._read = 0

    async def next(self, *names: str) -> ServerSentEvent:
        """The next unread event with one of these names; others are passed over. Raises Ended."""
        while True:
            while self._read < len(self.events):
                event = self.events[self._read]
                self._read += 1
                if event.name in names:
                    return event
            await self._receive()

    async def ack(self) -> dict[str, Any]:
        return (await self.next("connection.ack")).json

    async def offsets(self, count: int) -> list[int]:
        """The offsets of the next `count` events of the application."""
        return [(await self.next("message")).json["offset"] for _ in range(count)]

    async def comments(self, count: int) -> None:
        """Wait until so many comments came."""
        while self.parser.comments < count:
            await self._receive()

    async def ended(self) -> None:
        """Wait for the end."""
        try:
            while True:
                await self._receive()
        except Ended:
            pass

    async def _receive(self) -> None:
        async with asyncio.timeout(WAIT_S):
            data = await self.answer.content.readany()
        if not data:
            raise Ended
        self.events += self.parser.feed(data)


@asynccontextmanager
async def open_stream(
    url: str, token: str = "", /, *, rooms: str = "campaign:c1", headers: Mapping[str, str] | None = None, **query: str
) -> AsyncIterator[EventStreamClient]:
    """`GET /sse` at a gateway's `http://…` address."""
    sent = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.get(f"{url}/sse", params={"rooms": rooms, **query}, headers=sent) as answer,
    ):
        yield EventStreamClient(answer)


async def issue_ticket(url: str, token: str, *, origin: str = "", **wanted: Any) -> str:
    """`POST /sse/tickets`. Returns the ticket."""
    headers = {"Authorization": f"Bearer {token}", **({"Origin": origin} if origin else {})}
    body = {"rooms": ["campaign:c1"], **wanted}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{url}/sse/tickets", json=body) as answer,
    ):
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["ticket"])


@asynccontextmanager
async def redeem_ticket(
    url: str, ticket: str, *, cookie: str = "", headers: Mapping[str, str] | None = None
) -> AsyncIterator[EventStreamClient]:
    """`GET /sse/stream`, as an `EventSource` sends it. `cookie` is the `Cookie` header."""
    sent = {**({"Cookie": cookie} if cookie else {}), **(headers or {})}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http,
        http.get(f"{url}/sse/stream", params={"ticket": ticket}, headers=sent) as answer,
    ):
        yield EventStreamClient(answer)


def cookie_of(client: EventStreamClient) -> str:
    """The `Cookie` header of a browser that got this answer."""
    return client.answer.headers["Set-Cookie"].partition(";")[0]


@asynccontextmanager
async def raw_stream(url: str, token: str) -> AsyncIterator[socket.socket]:
    """A stream as a bare socket with a small buffer, after its ack. Nothing reads from it."""
    loop, at = asyncio.get_running_loop(), urlsplit(url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        client.setblocking(False)
        await loop.sock_connect(client, (at.hostname, at.port))
        # HTTP/1.0, so that the answer is not chunked.
        head = f"GET /sse?rooms=campaign:c1 HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        await loop.sock_sendall(client, head.encode())
        said = b""
        while not said.endswith(b"\n\n") or b"connection.ack" not in said:
            said += await loop.sock_recv(client, 4_096)
        yield client


def drop_all(client: socket.socket) -> None:
    """Let the kernel drop every packet for a socket, so that it acknowledges nothing, as a computer that is gone."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # what it has read is acknowledged now, not later
    drop = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET, 0 bytes of the packet
    program = ctypes.create_string_buffer(drop)
    client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))
