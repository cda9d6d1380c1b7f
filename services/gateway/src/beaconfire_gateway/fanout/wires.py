"""What the core writes through: targets, each of which stands for one session's socket. No I/O.

What a target is, the wires know that write to it: a file descriptor for our own sockets (`sockets`), a function for
those that stay aiohttp's (`plain`).
"""

from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from typing import Any, Protocol

Target = Hashable
Encode = Callable[[bytes], bytes]
"""What makes whole frames of `frames.encode` into what goes over a wire (`deflate`)."""


class Wires(Protocol):
    """Writes whole frames, as they go over the wire, to many sessions. A target that is gone or full fails nobody."""

    def write_same(self, targets: Iterable[Any], data: bytes) -> None:
        """The same bytes to each of these targets, no one of which is there twice."""
        ...

    def write_each(self, writes: Iterable[tuple[Any, list[bytes]]]) -> None:
        """Bytes of its own, in pieces, to each."""
        ...


class Calls:
    """Implements `Wires` for targets that are functions: it calls them."""

    def write_same(self, targets: Iterable[Callable[[bytes], object]], data: bytes) -> None:
        for write in targets:
            self._write(write, data)

    def write_each(self, writes: Iterable[tuple[Callable[[bytes], object], list[bytes]]]) -> None:
        for write, frames in writes:
            self._write(write, b"".join(frames))

    def _write(self, write: Callable[[bytes], object], data: bytes) -> None:
        with suppress(RuntimeError):  # uvloop's answer to a write on a connection that was aborted this very turn
            write(data)
