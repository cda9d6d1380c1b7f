"""Where the stream is known to be: its epoch, and an offset it has reached.

An offset that was in the stream before a read of the database began is a safe cursor for what was read: an event is
published after its change is committed, so every change told of at or below that offset is in what was read.
"""

import asyncio


class Position:
    """The last place in the stream that this process has heard of. Never ahead of the stream.

    `life` counts how often the stream was found to be another one, or to have gone back: an acknowledgement counts only
    in the life in which its publishing began.
    """

    def __init__(self) -> None:
        self.epoch = ""
        self.offset = 0
        self.life = 0
        self._known = asyncio.Event()

    def cursor(self) -> str | None:
        """`<epoch>:<offset>`, or None where the stream was never seen."""
        return f"{self.epoch}:{self.offset}" if self.epoch else None

    async def wait(self, timeout_s: float) -> str | None:
        """The cursor, waiting for the first sight of the stream for `timeout_s` seconds at most."""
        if not self._known.is_set():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._known.wait()
            except TimeoutError:
                return None
        return self.cursor()

    def acknowledged(self, offset: int, life: int) -> str | None:
        """The broker acknowledged what was sent in this `life`. Returns its cursor, None where that is not known."""
        if life != self.life or not self.epoch:
            return None
        self.offset = max(self.offset, offset)
        return f"{self.epoch}:{offset}"

    def seen(self, epoch: str, last: int, *, known: int) -> None:
        """The stream said what it is and where it ends. `known` is the offset from before it was asked."""
        if epoch != self.epoch or last < known:
            self.life += 1
            self.epoch, self.offset = epoch, last
        else:
            self.offset = max(self.offset, last)
        if epoch:
            self._known.set()
