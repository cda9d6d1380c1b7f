"""A resuming client that records which events it applied and when, its `resync`s, and how long it was away."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from tests.client import ResumingClient, SocketClient, parse
from tests.cursors import cursor_of
from tests.faults.checker import Reload


@dataclass(frozen=True, slots=True)
class Resume:
    """How many events a client had missed when it asked, and after how many seconds it had them all."""

    missed: int
    took_s: float


class Follower(ResumingClient):
    """Follows rooms through any gateway that answers.

    If `keeps_rule` is False, it applies every event and ignores its own cursor (to see that the checker notices).
    `newer(rooms, after)` returns the offsets of the events known so far that belong to the rooms.
    `since` is the cursor of its first connection. Without one it starts where it connects.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        token: str,
        rooms: Sequence[str],
        *,
        keeps_rule: bool = True,
        since: str = "",
        newer: Callable[[frozenset[str], int], Sequence[int]] = lambda _rooms, _after: (),
    ) -> None:
        super().__init__(urls, token, rooms, cursor=since or None)
        self.name = name
        self.rooms = frozenset(rooms)
        self.applied_at: dict[int, float] = {}
        """When, on the monotonic clock, each offset was applied last."""
        self.states: list[str] = []
        """The messages about the broker that it received, in order: `degraded` and `live`."""
        self.reloads: list[Reload] = []
        self.started_at: int | None = None
        self.connects = 0
        self.back_after_s: list[float] = []
        """How long each interruption lasted, from the loss of the connection to the next ack."""
        self.resumes: list[Resume] = []
        self.reads = asyncio.Event()
        """While it is not set, it takes nothing from its socket."""
        self.reads.set()
        self._newer = newer
        self._offline_s = 0.0
        self._missed: Sequence[int] = ()
        self._asked_at = 0.0
        self._keeps_rule = keeps_rule
        self._had = 0  # its offset by what came: an ack may put the cursor above it, and say in a `resync` why
        self._lost_at: float | None = None
        self._tasks: asyncio.TaskGroup

    async def reach(self, offset: int) -> None:
        """Wait until it has had everything up to `offset`, or got a `resync` instead."""
        while self._had < offset:
            await self._next_move()

    async def connected(self, times: int) -> None:
        """Wait until it has been connected so many times."""
        while self.connects < times:
            await self._next_move()

    def reset(self, *, offline_s: float = 0.0) -> None:
        """Cut its connection as a lost network does: no close frame, no FIN. It stays away for `offline_s` seconds."""
        self._offline_s = offline_s
        for one in self._open:
            connection = one.socket._response.connection
            if connection is not None and connection.transport is not None:
                connection.transport.abort()

    async def run(self) -> None:
        """Follow forever."""
        async with asyncio.TaskGroup() as self._tasks:
            await super().run()

    async def _stay_away(self) -> None:
        if self._lost_at is None:
            self._lost_at = time.monotonic()
        await asyncio.sleep(self._offline_s or random.uniform(0.02, 0.2))
        self._offline_s = 0.0

    def _hello(self, replaces: str | None) -> dict[str, str]:
        if self.cursor is not None and not replaces:
            self._missed, self._asked_at = self._newer(self.rooms, self.offset), time.monotonic()
        return super()._hello(replaces)

    def _begin(self, socket: SocketClient) -> None:
        self.connects += 1
        if self._lost_at is not None:
            self.back_after_s.append(time.monotonic() - self._lost_at)
            self._lost_at = None
        asked_from = self.offset
        super()._begin(socket)
        if self.started_at is None:
            self._had = self.started_at = self.offset if asked_from < 0 else asked_from

    async def _next(self, socket: SocketClient) -> dict[str, Any]:
        await self.reads.wait()
        return await super()._next(socket)

    async def _leave(self, socket: SocketClient) -> None:
        if self._keeps_rule:
            await super()._leave(socket)
        else:
            self._tasks.create_task(self._leave_at_the_end(socket))

    async def _leave_at_the_end(self, socket: SocketClient) -> None:
        with suppress(aiohttp.ClientError, OSError):
            await self._read_to_the_end(socket)
            await super()._leave(socket)

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "resync":
            upto = cursor_of(frame["cursor"]).offset
            self.reloads.append(Reload(self._had, upto, frame["reason"]))
        elif frame["type"] in ("degraded", "live"):
            self.states.append(frame["type"])
        super()._take(frame)
        self._had = self.offset

    def _apply(self, frame: dict[str, Any]) -> None:
        offset = frame["offset"]
        if self._keeps_rule and offset <= self.offset:
            return
        if self._keeps_rule:
            super()._apply(frame)
        else:
            self.applied.append((offset, frame["event"]["id"]))
            self._advance(str(replace(parse(self.cursor), offset=offset)))
        self.applied_at[offset] = time.monotonic()
        if self._missed and self.offset >= self._missed[-1]:
            self.resumes.append(Resume(len(self._missed), time.monotonic() - self._asked_at))
            self._missed = ()
