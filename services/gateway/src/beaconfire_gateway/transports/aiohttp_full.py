"""Notice when aiohttp's transports have room again: aiohttp does not say."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

LOOK_S = 0.05
FULL_AT = 4
"""A socket of aiohttp's is full at this part of the memory a session may take. On top of it come one write and the one
event that goes beyond it, messages that wait for an answer, and one that has not arrived as a whole: a quarter each, at
most."""


class Filled(Protocol):
    """A connection that was full."""

    @property
    def has_room(self) -> bool: ...
    def has_drained(self) -> None: ...


class Full:
    """Looks at all full connections every LOOK_S."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._spawn = spawn
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
