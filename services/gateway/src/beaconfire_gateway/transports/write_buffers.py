"""Bound what waits in aiohttp's transports, and notice when they have room again: aiohttp does not say."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

LOOK_S = 0.05
_PART = 4
"""A connection of aiohttp's is full at this part of the memory a session may take. On top of it come one write and the
one event that goes beyond it, messages that wait for an answer, and one that has not arrived as a whole: a quarter
each, at most."""


class Filled(Protocol):
    """A connection that was full."""

    @property
    def has_room(self) -> bool: ...
    def has_drained(self) -> None: ...


class WriteBuffers:
    """Looks at all full connections every LOOK_S. One for a process. `max_buffer_bytes` is what a session may take."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], object], *, max_buffer_bytes: int) -> None:
        self._spawn = spawn
        self.full_bytes = max_buffer_bytes // _PART
        """A connection for which more waits is full."""
        self._connections: list[Filled] = []
        self._looks = False

    def watch(self, connection: Filled) -> None:
        """Call its `has_drained` once, when it has room."""
        self._connections.append(connection)
        if not self._looks:
            self._looks = True
            self._spawn(self._look())

    async def _look(self) -> None:
        call_soon = asyncio.get_running_loop().call_soon
        while self._connections:
            await asyncio.sleep(LOOK_S)
            still = []
            for one in self._connections:
                if one.has_room:
                    call_soon(one.has_drained)  # separately, so that a failure does not affect the others
                else:
                    still.append(one)
            self._connections = still
        self._looks = False
