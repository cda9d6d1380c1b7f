"""Define targets, through which the core writes. Each stands for one connection. No I/O.

Only a transport knows its targets. A target is a file descriptor for our own sockets (`sockets`), and a function for
connections that aiohttp serves (`aiohttp_websocket_connection`). So each session also has the writer for its target.
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
        """Write the same bytes to each of these targets. Each is there only once."""
        ...

    def write_each(self, writes: Iterable[tuple[Any, list[bytes]]]) -> None:
        """Write separate bytes to each target, in pieces."""
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
        with suppress(RuntimeError):  # one that is gone; the others are written to
            write(data)


CALLING = CallingWriter()
"""The one that all such connections share."""
