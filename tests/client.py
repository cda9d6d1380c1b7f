"""Clients of the native protocol for tests: one connection with nothing hidden, and one that keeps all the rules."""

import asyncio
import json
import random
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp

from beaconfire_kit.cursor import Cursor

SUBPROTOCOL = "beaconfire.v1"
WAIT_S = 15.0
NO_CURSOR = Cursor("", -1)


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
        """Send `connect`. Returns the ack. Raises Closed if it is refused."""
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

    def forget(self) -> None:
        """Let go of the frames that were read or passed over."""
        del self.frames[: self._read]
        self._read = 0

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


@asynccontextmanager
async def open_plain(url: str, token: str | None, **options: Any) -> AsyncIterator[SocketClient]:
    """Open a socket as clients of the plain protocol do. `query` has further parameters of the address."""
    query = {**({} if token is None else {"token": token}), **options.pop("query", {})}
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/ws?{urlencode(query)}", **options) as socket,
    ):
        yield SocketClient(socket)


@asynccontextmanager
async def answering(*clients: SocketClient) -> AsyncIterator[None]:
    """Let these clients answer the gateway's pings: aiohttp does that while it reads. Only this may read meanwhile."""
    reading = [asyncio.create_task(client.closed()) for client in clients]
    try:
        yield
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


class NotSeen(Exception):
    """`ResumingClient.seen` gave up; `code` is that of the browser client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ResumingClient:
    """One user's client over as many connections as it takes: the cursor's rule, make-before-break, `seen`.

    It connects to whichever of `urls` answers, for as long as `running` lasts; from `cursor` on, where it has one.
    """

    def __init__(self, urls: Sequence[str], token: str, rooms: Sequence[str], *, cursor: str | None = None) -> None:
        self.urls = list(urls)
        self.applied: list[tuple[int, str]] = []
        """Offset and id of each event, in the order in which they were applied."""
        self.resyncs: list[dict[str, Any]] = []
        self.acks: list[dict[str, Any]] = []
        self.losses = 0
        """The number of lost connections."""
        self.cursor = cursor
        self._token = token
        self._rooms = sorted(rooms)
        self._open: list[SocketClient] = []
        self._closed = False
        self._moved = asyncio.Event()

    @property
    def offset(self) -> int:
        """The offset of the cursor, or -1 without one."""
        return parse(self.cursor).offset

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Connected from the first ack to the end of the block."""
        task = asyncio.create_task(self.run())
        try:
            async with asyncio.timeout(WAIT_S):
                while not self.acks:
                    await self._next_move()
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._closed = True
            self._move()

    async def seen(self, mark: str | int, *, timeout_s: float = WAIT_S) -> None:
        """Wait until an event was applied, or everything up to its place was: a cursor, an offset, or an event's id.

        Raises NotSeen: `timeout`, `closed`, or `resync` where it may be among what was missed.
        """
        before = len(self.resyncs)
        try:
            async with asyncio.timeout(timeout_s):
                while not self._has_seen(mark):
                    if self._closed:
                        raise NotSeen("closed", "the client was closed")
                    if len(self.resyncs) > before and not self._may_still_come(mark):
                        raise NotSeen("resync", "events were missed for good")
                    await self._next_move()
        except TimeoutError:
            raise NotSeen("timeout", f"{mark} was not seen within {timeout_s:g} s") from None

    def _has_seen(self, mark: str | int) -> bool:
        if any(mark == event_id for _, event_id in self.applied):
            return True
        cursor = parse(self.cursor)
        wanted = replace(cursor, offset=mark) if isinstance(mark, int) else parse(mark)
        return bool(cursor.epoch) and wanted.epoch == cursor.epoch and wanted.offset <= cursor.offset

    def _may_still_come(self, mark: str | int) -> bool:
        return isinstance(mark, int) or parse(mark).epoch == parse(self.cursor).epoch != ""

    def session(self) -> aiohttp.ClientSession:
        """What it connects with."""
        return aiohttp.ClientSession()

    async def run(self) -> None:
        """Connect, and again when that ends, forever."""
        async with self.session() as http:
            while True:
                with suppress(aiohttp.ClientError, OSError, TimeoutError, Closed):
                    following: SocketClient | None = await self._connect(http, replaces=None)
                    while following is not None:
                        following = await self._follow(http, following)
                    self.losses += 1
                await self._stay_away()

    async def _stay_away(self) -> None:
        await asyncio.sleep(random.uniform(0.02, 0.2))

    async def _connect(self, http: aiohttp.ClientSession, *, replaces: str | None) -> SocketClient:
        url = random.choice(self.urls)
        closing = aiohttp.ClientWSTimeout(ws_close=1.0)
        opened = await http.ws_connect(f"{url}/ws", protocols=[SUBPROTOCOL], max_msg_size=0, timeout=closing)
        socket = SocketClient(opened)
        self._open.append(socket)
        try:
            await socket.connect(self._token, self._rooms, **self._hello(replaces))
            if not all(room["success"] for room in socket.ack["rooms"].values()):
                # A gateway whose auth is away refuses rooms for a while: come back later.
                raise ConnectionError(f"refused: {socket.ack}")
        except BaseException:
            await self._leave(socket)
            raise
        return socket

    def _hello(self, replaces: str | None) -> dict[str, str]:
        """Return the fields of `connect` besides token and rooms."""
        return {name: value for name, value in {"cursor": self.cursor, "replaces": replaces}.items() if value}

    def _begin(self, socket: SocketClient) -> None:
        """From its ack on this connection counts, and only this one."""
        self.acks.append(socket.ack)
        given, ours = parse(socket.ack["cursor"]), parse(self.cursor)
        self.cursor = str(ours if ours.epoch == given.epoch and ours.offset > given.offset else given)
        self._move()

    async def _follow(self, http: aiohttp.ClientSession, socket: SocketClient) -> SocketClient | None:
        """Apply what comes. Returns the connection to go on with, None where this one ended without one."""
        try:
            self._begin(socket)
            goaway = await self._read(socket)
            if goaway is None:
                return None
            reading = asyncio.create_task(self._read_to_the_end(socket))
            try:
                return await self._succeed(http, socket.ack["sessionId"], goaway)
            finally:
                reading.cancel()
                with suppress(asyncio.CancelledError):
                    await reading
        finally:
            await self._leave(socket)

    async def _read(self, socket: SocketClient) -> dict[str, Any] | None:
        """Apply what comes until the gateway asks to go elsewhere. Returns that `goaway`, None at the end."""
        with suppress(aiohttp.ClientError, Closed):
            while True:
                try:
                    frame = await self._next(socket)
                except TimeoutError:
                    await socket.send("ping")  # if the gateway is gone, sending ends the connection
                    continue
                if frame["type"] == "goaway":
                    return frame
                self._take(frame)
                socket.forget()
        return None

    async def _read_to_the_end(self, socket: SocketClient) -> None:
        while await self._read(socket) is not None:
            pass

    async def _next(self, socket: SocketClient) -> dict[str, Any]:
        return await socket.next("event", "position", "resync", "goaway", "degraded", "live")

    async def _leave(self, socket: SocketClient) -> None:
        self._open.remove(socket)
        await socket.socket.close()

    async def _succeed(self, http: aiohttp.ClientSession, session: str, goaway: dict[str, Any]) -> SocketClient:
        """The next connection: after its turn, and again until there is one."""
        await asyncio.sleep(goaway["afterMs"] / 1000)
        while True:
            try:
                return await self._connect(http, replaces=session)
            except (aiohttp.ClientError, OSError, TimeoutError, Closed):
                await asyncio.sleep(random.uniform(0.02, 0.2))

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "event":
            self._apply(frame)
        elif frame["type"] == "position":
            self._advance(frame["cursor"])
        elif frame["type"] == "resync":
            self.resyncs.append(frame)
            self.cursor = frame["cursor"]
        self._move()

    def _apply(self, frame: dict[str, Any]) -> None:
        cursor = parse(self.cursor)
        offset = frame.get("offset", cursor.offset + 1)
        if offset <= cursor.offset:
            return
        self.applied.append((offset, frame["event"]["id"]))
        if "offset" in frame:
            self.cursor = str(replace(cursor, offset=offset))

    def _advance(self, cursor: str) -> None:
        given, ours = parse(cursor), parse(self.cursor)
        if given.epoch == ours.epoch and given.offset > ours.offset:
            self.cursor = cursor

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def _next_move(self) -> None:
        await self._moved.wait()


class TlsClient(ResumingClient):
    """A client that reaches gateways over TLS, and trusts the authorities in the file `certificate`."""

    def __init__(self, url: str, certificate: Path, token: str, rooms: Sequence[str], **more: Any) -> None:
        super().__init__([url], token, rooms, **more)
        self._certificate = certificate

    def session(self) -> aiohttp.ClientSession:
        return trusting(self._certificate)

    @property
    def ids(self) -> list[str]:
        """The events that it applied, in order."""
        return [event_id for _, event_id in self.applied]


def trusting(certificate: Path) -> aiohttp.ClientSession:
    """Open an HTTP session that trusts the authorities in a file, and no others."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust(certificate)))


def trust(certificate: Path) -> ssl.SSLContext:
    """Trust the authorities in a file, and no others."""
    return ssl.create_default_context(cafile=str(certificate))


def parse(cursor: str | None) -> Cursor:
    """Parse a client's cursor. `NO_CURSOR` if it has none."""
    return (Cursor.parse(cursor) if cursor else None) or NO_CURSOR
