"""What the core writes through: targets, each of which stands for one connection. No I/O.

Only a transport knows what its targets are: a file descriptor for sockets of ours (`sockets`), a function for
connections that stay aiohttp's (`aiohttp_websocket`). So each session also says what writes to its target.
"""

from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from typing import Any, Protocol

Target = Hashable


class Writer(Protocol):
    """Writes bytes, as they go over the wire, to many connections.

    A target that is gone or full does not keep the others from being written to.
    """

    def write_same(self, targets: Iterable[Any], data: bytes) -> None:
        """The same bytes to each of these targets, none of which is there twice."""
        ...

    def write_each(self, writes: Iterable[tuple[Any, list[bytes]]]) -> None:
        """Bytes of its own to each target, in pieces."""
        ...


class CallingWriter:
    """Implements `Writer` for targets that are functions: it calls them."""

    def write_same(self, targets: Iterable[Callable[[bytes], object]], data: bytes) -> None:
        for write in targets:
            self._write(write, data)

    def write_each(self, writes: Iterable[tuple[Callable[[bytes], object], list[bytes]]]) -> None:
        for write, frames in writes:
            self._write(write, b"".join(frames))

    def _write(self, write: Callable[[bytes], object], data: bytes) -> None:
        with suppress(RuntimeError):  # uvloop's answer to a write on a connection that was aborted this very turn
            write(data)


CALLING = CallingWriter()
"""The one that all such connections share."""
