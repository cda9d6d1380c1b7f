"""What a client of any kind applied, for the checker: its events in order, and where it had to start over."""

import asyncio
import time

from tests.cursors import cursor_of
from tests.faults.checker import Reload


class Listener:
    """A client that follows `rooms`, whatever it speaks. A subclass reports what happens to it."""

    def __init__(self, name: str, rooms: frozenset[str]) -> None:
        self.name = name
        self.rooms = rooms
        self.applied: list[tuple[int, str]] = []
        """Offset and id of each event."""
        self.reloads: list[Reload] = []
        self.started_at: int | None = None
        self.connects = 0
        self.back_after_s: list[float] = []
        """How long each interruption lasted, from the loss of the connection to the next one."""
        self.problems: list[str] = []
        """What no fault explains, such as a refusal."""
        self._moved = asyncio.Event()
        self._lost_at: float | None = None
        self._left_at: int | None = None

    async def reach(self, offset: int) -> None:
        """Wait until it has had an event at `offset` or above."""
        while self._had < offset:
            self._moved.clear()
            await self._moved.wait()

    async def connected(self, times: int) -> None:
        """Wait until it has been connected so many times."""
        while self.connects < times:
            self._moved.clear()
            await self._moved.wait()

    @property
    def _had(self) -> int:
        return max((self.applied[-1][0] if self.applied else 0, *(one.upto for one in self.reloads)))

    def lose(self) -> None:
        """It has lost its connection, or could not get one."""
        if self._lost_at is None:
            self._lost_at = time.monotonic()

    def connect(self) -> None:
        """It is connected, for the first time or again."""
        self.connects += 1
        self.back()

    def back(self) -> None:
        """What was interrupted goes on."""
        if self._lost_at is not None:
            self.back_after_s.append(time.monotonic() - self._lost_at)
            self._lost_at = None
        self._moved.set()

    def start_over(self) -> None:
        """It has lost its place, and begins again later."""
        if self.started_at is not None and self._left_at is None:
            self._left_at = self._had

    def begin(self, cursor: str) -> None:
        """It follows its rooms from `cursor` on."""
        offset = cursor_of(cursor).offset
        if self._left_at is not None:
            self.reloads.append(Reload(self._left_at, offset, "started over"))
            self._left_at = None
        elif self.started_at is None:
            # An event may come before the answer that says where it began.
            self.started_at = min(offset, self.applied[0][0] - 1) if self.applied else offset
        self._moved.set()

    def apply(self, cursor: str, event_id: str) -> None:
        """It got an event."""
        self.applied.append((cursor_of(cursor).offset, event_id))
        self._moved.set()
