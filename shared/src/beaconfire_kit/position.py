"""Track how far the stream is known to reach: its epoch, and an offset in it.

An offset that the stream had before a database read started is a safe cursor for that read. An event is published after
its change is committed, so the read contains every change whose event lies at or below that offset.
"""

import asyncio

from beaconfire_kit.cursor import Cursor


class Position:
    """The highest offset of the stream that this process knows of. It is never ahead of the stream.

    `life` counts how often the stream turned out to be another one, or had gone back. An acknowledgement counts only in
    the life in which its publish started.
    """

    def __init__(self) -> None:
        self.epoch = ""
        self.offset = 0
        self.life = 0
        self._known = asyncio.Event()

    def cursor(self) -> Cursor | None:
        """Return the cursor at this position, or None if the stream was never seen."""
        return Cursor(self.epoch, self.offset) if self.epoch else None

    async def wait(self, timeout_s: float) -> Cursor | None:
        """Return the cursor. Wait up to `timeout_s` seconds until the stream is seen for the first time."""
        if not self._known.is_set():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._known.wait()
            except TimeoutError:
                return None
        return self.cursor()

    def acknowledged(self, offset: int, life: int) -> Cursor | None:
        """Record an acknowledgement of something sent in this `life`. Return its cursor, or None if it is not known."""
        if life != self.life or not self.epoch:
            return None
        self.offset = max(self.offset, offset)
        return Cursor(self.epoch, offset)

    def seen(self, epoch: str, last: int, *, known: int) -> None:
        """Record the stream's epoch and last offset. `known` is `offset` from before the stream was asked."""
        if epoch != self.epoch or last < known:
            self.life += 1
            self.epoch, self.offset = epoch, last
        else:
            self.offset = max(self.offset, last)
        if epoch:
            self._known.set()
