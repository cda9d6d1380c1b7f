"""The life of a connection whose socket stays with aiohttp, whatever protocol it speaks."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from beaconfire_gateway.fanout.targets import CALLING, Target, Writer
from beaconfire_gateway.sessions.connection import MIXED_IN, Carrier
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.transports.write_buffers import WriteBuffers

SLOTS = ("_closing", "_is_full", "_socket")
"""The slots of an `AiohttpConnection`, which the class that mixes it in has to name."""


@dataclass(frozen=True, slots=True)
class AiohttpEnd:
    """Our end of a connection. It is full when more than `buffers.full_bytes` wait in its transport."""

    transport: Any
    buffers: WriteBuffers


class AiohttpConnection(Carrier):
    """Writes past aiohttp's writer, which takes one message at a time and has to be awaited.

    It takes the place of `SocketConnection`. It is mixed in, and has no slots. The class that does so calls
    `_serve_end` before anything else.
    """

    __slots__ = MIXED_IN

    _closing: bool
    """Whether the last bytes were written, or the connection is gone."""
    _is_full: bool
    _socket: AiohttpEnd

    def _serve_end(self, end: AiohttpEnd) -> None:
        self._socket = end
        self._closing = False
        self._is_full = False

    @property
    def writer(self) -> Writer:
        return CALLING

    @property
    def target(self) -> Target:
        """For `targets.CallingWriter`."""
        return self.write

    @property
    def is_full(self) -> bool:
        """Whether so many bytes wait in its transport that it should take no more."""
        return self._is_full

    def write(self, data: bytes) -> None:
        """Write bytes, now; nothing once the last bytes are written."""
        if self._closing:
            return
        self._write(data)
        end = self._socket
        if not self._is_full and end.transport.get_write_buffer_size() > end.buffers.full_bytes:
            self._is_full = True
            self.full()
            end.buffers.watch(self)

    def abort(self, session: Session | None = None) -> None:
        """Drop the connection at once, with every session on it."""
        self._closing = True
        self._socket.transport.abort()

    # For `WriteBuffers`.

    @property
    def has_room(self) -> bool:
        """Whether half of what may wait has gone; or all, with the connection."""
        transport = self._socket.transport
        waiting: int = transport.get_write_buffer_size()
        return waiting <= self._socket.buffers.full_bytes // 2 or transport.is_closing()

    def has_drained(self) -> None:
        """It has room again."""
        self._is_full = False
        if not self._closing:
            self.drained()

    def _write(self, data: bytes) -> None:
        # The transport may be gone before that was noticed. uvloop raises then, asyncio does not. A caller may be in
        # the middle of a loop over many sessions.
        with suppress(RuntimeError):
            self._socket.transport.write(data)
