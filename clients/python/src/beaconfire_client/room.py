"""A consumer's side of a room: a bounded queue of events, who is there, who types."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol, Self, TypeVar

from beaconfire_client.core.actions import Refusal, Resync, WhoIsHere
from beaconfire_client.events import Event
from beaconfire_client.exceptions import BeaconfireError, ConnectionFailed, RequestRefused, RoomLeft, RoomRefused

logger = logging.getLogger("beaconfire_client")

OnResync = Callable[[Resync], Awaitable[None] | None]
"""Called in its place among the events. It loads the state of the room again."""

Shown = TypeVar("Shown")

RENEW_TYPING_S = 3.0
"""How often a client that types says so. The gateways forget it after 5 s (PROTOCOL.md §4)."""


class Owner(Protocol):
    """What a room needs of its client."""

    @property
    def failure(self) -> BeaconfireError | None: ...
    @property
    def is_closed(self) -> bool: ...
    def leave(self, room: "Room") -> None: ...
    def catch_up(self, room: "Room") -> None: ...
    async def send_typing(self, room: str, *, is_typing: bool) -> None: ...


class Room:
    """One subscription of a room: iterate over it to get its events.

        async for event in client.room("campaign:c1"):
            print(event.type, event.payload)

    The iteration ends when the client is closed. It raises RoomRefused, RoomLeft, or ConnectionFailed if the client has
    stopped trying. A lost connection does not end it: the missed events come first.

    **The queue** holds events that were not taken yet, `queue_size` of them by default. If it is full, the client reads
    no faster than the events are taken. If none is taken for some seconds, only this room falls behind: the others go
    on. Its missed events are read again from the gateway when half of the queue is empty. Nothing is lost, except
    ephemeral events.
    """

    def __init__(self, owner: Owner, name: str, number: int, *, queue_size: int, on_resync: OnResync | None) -> None:
        """`Client.room` creates it."""
        self.name = name
        self.number = number
        self.is_behind = False
        """Whether events were left out, which the gateway will send again."""
        self._owner = owner
        self._queue_size = queue_size
        self._on_resync = on_resync
        self._queue: deque[Event | Resync] = deque()
        self._end: BeaconfireError | None = None
        self._is_closed = False
        self._is_joined = False
        self._here = WhoIsHere()
        self._typing: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._has_space = asyncio.Event()
        self._has_space.set()

    # Events.

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            while not self._queue:
                self._check()
                await self._change()
            item = self._queue.popleft()
            self._made_space()
            if isinstance(item, Event):
                return item
            await self._resync(item)

    async def ready(self) -> None:
        """Wait until the room is joined: every event from now on comes. Raises as the iteration does.

        Raises ConnectionFailed with the code `closed` if the room or its client is closed.
        """
        while not self._is_joined:
            try:
                self._check()
            except StopAsyncIteration:
                raise ConnectionFailed("closed", f"{self.name}: closed before the room was joined") from None
            await self._change()

    async def close(self) -> None:
        """Leave the room, unless others of this client are in it. The iteration ends."""
        self._is_closed = True
        self._queue.clear()
        self._go()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Users.

    @property
    def here(self) -> WhoIsHere:
        """Who is in the room. Nobody, unless the room was asked for with `presence=True`."""
        return self._here

    @property
    def typing_users(self) -> frozenset[str]:
        """The ids of the users who type in the room."""
        return self._typing

    async def here_changes(self) -> AsyncIterator[WhoIsHere]:
        """Yield who is in the room, now and after each change. If changes come faster, some are left out."""
        async for here in self._changes(lambda: self._here):
            yield here

    async def typing_changes(self) -> AsyncIterator[frozenset[str]]:
        """Yield the ids of the users who type, now and after each change. If changes come faster, some are left out."""
        async for users in self._changes(lambda: self._typing):
            yield users

    @asynccontextmanager
    async def typing(self) -> AsyncIterator[None]:
        """Tell the others in the room that this user types, while the block runs.

        async with room.typing():
            answer = await compose()
        """
        saying = asyncio.create_task(self._keep_typing())
        try:
            yield
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
            with suppress(RequestRefused):
                await self._owner.send_typing(self.name, is_typing=False)

    # For the client.

    @property
    def is_full(self) -> bool:
        return len(self._queue) >= self._queue_size

    def put(self, item: Event | Resync) -> None:
        if isinstance(item, Resync) and self._queue and isinstance(self._queue[-1], Resync):
            self._queue[-1] = item  # one reload serves both
        else:
            self._queue.append(item)
        if self.is_full:
            self._has_space.clear()
        self.wake()

    async def has_space(self) -> None:
        """Wait until the queue is not full."""
        await self._has_space.wait()

    def joined(self) -> None:
        self._is_joined = True
        self.wake()

    def refused(self, refusal: Refusal) -> None:
        self._finish(RoomRefused(self.name, refusal.code, refusal.message))

    def left(self, reason: str) -> None:
        self._finish(RoomLeft(self.name, reason))

    def show_here(self, here: WhoIsHere) -> None:
        self._here = here
        self.wake()

    def show_typing(self, users: frozenset[str]) -> None:
        self._typing = users
        self.wake()

    def wake(self) -> None:
        """Let everything that waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    # Internals.

    async def _change(self) -> None:
        await self._changed.wait()

    def _check(self) -> None:
        """Raise if nothing can come any more."""
        if self._end is not None:
            raise self._end
        if self._is_closed or self._owner.is_closed:
            raise StopAsyncIteration
        if self._owner.failure is not None:
            raise self._owner.failure

    def _finish(self, end: BeaconfireError) -> None:
        self._end = end
        self._go()

    def _go(self) -> None:
        """Leave the room. The connection must not wait for its consumer any more."""
        self._owner.leave(self)
        self._has_space.set()
        self.wake()

    def _made_space(self) -> None:
        if not self.is_full:
            self._has_space.set()
        if self.is_behind and len(self._queue) <= self._queue_size // 2:
            self.is_behind = False
            self._owner.catch_up(self)

    async def _resync(self, resync: Resync) -> None:
        if self._on_resync is None:
            logger.warning(
                "%s: events were missed for good (%s). Pass on_resync to load the state again", self.name, resync.reason
            )
            return
        waiting = self._on_resync(resync)
        if waiting is not None:
            await waiting

    async def _changes(self, current: Callable[[], Shown]) -> AsyncIterator[Shown]:
        with suppress(StopAsyncIteration):
            while True:
                shown = current()
                yield shown
                while current() == shown:
                    self._check()
                    await self._change()

    async def _keep_typing(self) -> None:
        while True:
            with suppress(RequestRefused):
                await self._owner.send_typing(self.name, is_typing=True)
            await asyncio.sleep(RENEW_TYPING_S)
