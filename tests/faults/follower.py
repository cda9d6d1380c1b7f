"""A client that keeps the rule of PROTOCOL.md §5, reconnects for ever, and writes down what it applied."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.client import SUBPROTOCOL
from tests.faults.checker import Reload


@dataclass(frozen=True, slots=True)
class Resume:
    """How many events a client had missed when it asked, and after how many seconds it had them all."""

    missed: int
    took_s: float


class Follower:
    """Follows rooms over whichever gateway answers.

    `keeps_rule` False: it applies whatever comes, and ignores its own cursor (to see that the checker notices).
    `reads_every_s`: it takes one message in so many seconds, until `hurry` is set. `newer(rooms, after)`: the offsets
    of the events that are known by now to be for them.
    `since`: the cursor with which it comes back; without one it begins where it connects.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        token: str,
        rooms: Sequence[str],
        *,
        keeps_rule: bool = True,
        reads_every_s: float = 0.0,
        since: str = "",
        newer: Callable[[frozenset[str], int], Sequence[int]] = lambda _rooms, _after: (),
    ) -> None:
        self.name = name
        self.rooms = frozenset(rooms)
        self.applied: list[tuple[int, str]] = []
        self.applied_at: dict[int, float] = {}
        """When, on the monotonic clock, each offset was applied last."""
        self.states: list[str] = []
        """What it was told about the broker: `degraded` and `live`, as they came."""
        self.reloads: list[Reload] = []
        self.started_at: int | None = None
        self.connects = 0
        self.back_after_s: list[float] = []
        """How long each interruption lasted, from the loss of the connection to the next ack."""
        self.resumes: list[Resume] = []
        self.hurry = asyncio.Event()
        self._newer = newer
        self._offline_s = 0.0
        self._missed: Sequence[int] = ()
        self._asked_at = 0.0
        self._urls = list(urls)
        self._token = token
        self._keeps_rule = keeps_rule
        self._reads_every_s = reads_every_s
        self._epoch, _, digits = since.rpartition(":")
        self._offset = int(digits or 0)
        self._session = ""
        self._lost_at: float | None = None
        self._sockets: list[aiohttp.ClientWebSocketResponse] = []
        self._moved = asyncio.Event()

    @property
    def cursor(self) -> int:
        return self._offset

    async def reach(self, offset: int) -> None:
        """Wait until its cursor is at `offset`."""
        while self._offset < offset:
            self._moved.clear()
            await self._moved.wait()

    async def connected(self, times: int) -> None:
        """Wait until it has been connected so many times."""
        while self.connects < times:
            self._moved.clear()
            await self._moved.wait()

    def reset(self, *, offline_s: float = 0.0) -> None:
        """Cut its connection as a lost network does: no close frame, no FIN. It stays away for `offline_s` seconds."""
        self._offline_s = offline_s
        for socket in self._sockets:
            transport = socket._response.connection and socket._response.connection.transport
            if transport is not None:
                transport.abort()

    async def run(self) -> None:
        """Follow, for ever."""
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ConnectionError):
                    await self._follow(http, tasks)
                if self._lost_at is None:
                    self._lost_at = time.monotonic()
                await asyncio.sleep(self._offline_s or random.uniform(0.02, 0.2))
                self._offline_s = 0.0

    async def _follow(self, http: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        """One connection after another, the next one made before this one is left where the gateway asks for it."""
        socket: aiohttp.ClientWebSocketResponse | None = await self._connect(http, replaces=None)
        while socket is not None:
            socket = await self._read(http, socket, tasks)

    async def _connect(self, http: aiohttp.ClientSession, *, replaces: str | None) -> aiohttp.ClientWebSocketResponse:
        url = random.choice(self._urls)
        socket = await http.ws_connect(
            f"{url}/ws", protocols=[SUBPROTOCOL], max_msg_size=0, timeout=aiohttp.ClientWSTimeout(ws_close=1.0)
        )
        self._sockets.append(socket)
        hello: dict[str, Any] = {"type": "connect", "id": 1, "token": self._token, "rooms": sorted(self.rooms)}
        if self._epoch:
            hello["cursor"] = f"{self._epoch}:{self._offset}"
        if replaces:
            hello["replaces"] = replaces
        elif self._epoch:
            self._missed, self._asked_at = self._newer(self.rooms, self._offset), time.monotonic()
        await socket.send_json(hello)
        async with asyncio.timeout(10):
            frame = await self._frame(socket)
        if (
            frame is None
            or frame["type"] != "connection.ack"
            or not all(room["success"] for room in frame["rooms"].values())
        ):
            # A gateway whose auth is away refuses rooms for a while: come back later.
            await self._leave(socket)
            raise ConnectionError(f"refused: {frame}")
        self.connects += 1
        self._moved.set()
        self._session = frame["sessionId"]
        if self._lost_at is not None:
            self.back_after_s.append(time.monotonic() - self._lost_at)
            self._lost_at = None
        epoch, _, digits = frame["cursor"].rpartition(":")
        if self.started_at is None:
            self.started_at = self._offset if self._epoch else int(digits)
            self._epoch, self._offset = epoch, self.started_at
        return socket

    async def _read(
        self, http: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, tasks: asyncio.TaskGroup
    ) -> aiohttp.ClientWebSocketResponse | None:
        """Apply what comes. Returns the connection to go on with, or None where this one ended."""
        successor: asyncio.Task[aiohttp.ClientWebSocketResponse | None] | None = None
        while True:
            if successor is not None and successor.done():
                if (following := successor.result()) is not None:
                    if not self._keeps_rule:
                        tasks.create_task(self._read_to_the_end(socket))
                    else:
                        await self._leave(socket)
                    return following
                successor = None
            frame = await self._frame(socket)
            if frame is None:
                self._sockets.remove(socket)
                return await successor if successor is not None else None
            if frame["type"] == "goaway":
                successor = tasks.create_task(self._succeed(http, frame["afterMs"] / 1000))
                successor.add_done_callback(lambda _: None)
            else:
                self._take(frame)

    async def _succeed(self, http: aiohttp.ClientSession, after_s: float) -> aiohttp.ClientWebSocketResponse | None:
        await asyncio.sleep(after_s)
        while True:
            try:
                return await self._connect(http, replaces=self._session)
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(0.05)

    async def _read_to_the_end(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            while (frame := await self._frame(socket)) is not None:
                self._take(frame)
            self._sockets.remove(socket)

    async def _leave(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._sockets.remove(socket)
        await socket.close()

    async def _frame(self, socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any] | None:
        if self._reads_every_s and self.started_at is not None and not self.hurry.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._reads_every_s):
                    await self.hurry.wait()
        message = await socket.receive()
        return json.loads(message.data) if message.type is aiohttp.WSMsgType.TEXT else None

    def _take(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind == "event":
            offset = frame["offset"]
            if offset > self._offset or not self._keeps_rule:
                self.applied.append((offset, frame["event"]["id"]))
                self.applied_at[offset] = time.monotonic()
                self._offset = max(offset, self._offset)
                self._note_resume()
        elif kind == "position":
            self._offset = max(self._offset, int(frame["cursor"].rpartition(":")[2]))
        elif kind == "resync":
            self._epoch, _, digits = frame["cursor"].rpartition(":")
            self.reloads.append(Reload(self._offset, int(digits), frame["reason"]))
            self._offset = int(digits)
        elif kind in ("degraded", "live"):
            self.states.append(kind)
        self._moved.set()

    def _note_resume(self) -> None:
        if self._missed and self._offset >= self._missed[-1]:
            self.resumes.append(Resume(len(self._missed), time.monotonic() - self._asked_at))
            self._missed = ()
