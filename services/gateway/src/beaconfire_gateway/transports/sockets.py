"""Serve the clients' sockets by their file descriptors, with one epoll that the loop watches as one file.

An idle socket is an entry in a table. A transport of uvloop's is six objects and 1.5 KiB. An event is one `write` for
each client in one loop, which is 15 % cheaper than through transports (ADR 0018).

A descriptor belongs to its `SocketProtocol` from `add` to `release`. In between it may be aborted. Then nothing is
written to it any more. Its number is not given to another socket before the last write queued for it is over.
"""

import os
import select
import socket
import time
from asyncio import AbstractEventLoop
from collections.abc import Iterable, Sequence
from typing import Protocol

from beaconfire_kit import logs

log = logs.get(__name__)

READ_BYTES = 16_384
EVENTS = 16
"""Sockets served at a time. Each may have sent READ_BYTES: together they take 10 ms of a core at most."""
SERVE_S = 0.005
"""In one turn of the loop. Then `outbound` has its turn."""


class SocketProtocol(Protocol):
    """Called when something happens to a socket, as an `asyncio.Protocol`."""

    def data_received(self, data: bytes) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self) -> None: ...


class Sockets:
    """See the module. Implements `targets.Writer`: its targets are descriptors of connected, non-blocking sockets.

    Bytes that a socket does not take at once wait here, and its protocol is paused until all of them are gone. So a
    full socket holds the rest of one write, and what comes for it before its protocol has stopped the others.
    """

    def __init__(self, loop: AbstractEventLoop, *, serve_s: float = SERVE_S) -> None:
        self._serve_s = serve_s
        self._loop = loop
        self._epoll = select.epoll()
        self._protocols: dict[int, SocketProtocol] = {}
        # Sockets not written to directly: the bytes that wait for each, or None if nothing is ever written to it again.
        self._aside: dict[int, bytes | None] = {}
        self._buffer = memoryview(bytearray(READ_BYTES))
        loop.add_reader(self._epoll.fileno(), self._look)

    @staticmethod
    def are_available() -> bool:
        """Return whether this system has epoll. Linux does."""
        return hasattr(select, "epoll")

    def close(self) -> None:
        """Close all sockets. Their protocols are called in a following turn of the loop.

        Anything still queued for them is thrown away. Their numbers stay known here: they may be other files then.
        """
        self._loop.remove_reader(self._epoll.fileno())
        for descriptor in list(self._protocols):
            self.abort(descriptor)
        self._epoll.close()
        for descriptor in self._aside:
            os.close(descriptor)

    def add(self, descriptor: int, protocol: SocketProtocol) -> None:
        """Serve this socket from now on. Raises OSError if the system takes no more; the socket is closed then."""
        try:
            self._epoll.register(descriptor, select.EPOLLIN)
        except OSError:
            os.close(descriptor)
            raise
        self._protocols[descriptor] = protocol

    def release(self, descriptor: int) -> None:
        """Close the descriptor of a lost socket. It must not be written to any more: the number will be given again."""
        if not self._epoll.closed:  # else `close` was first
            del self._aside[descriptor]
            os.close(descriptor)

    def is_open(self, descriptor: int) -> bool:
        """Whether it is served: neither aborted nor lost."""
        return descriptor in self._protocols

    def waiting(self, descriptor: int) -> int:
        """How many bytes wait for the socket to take more."""
        return len(self._aside.get(descriptor) or b"")

    # Writing.

    def write(self, descriptor: int, data: bytes) -> None:
        """Write to one socket."""
        if descriptor in self._aside:
            self._add(descriptor, data)
            return
        try:
            sent = os.write(descriptor, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.abort(descriptor)
            return
        if sent != len(data):
            self._set_aside(descriptor, data[sent:])

    def write_same(self, targets: Iterable[int], data: bytes) -> None:
        """Implements `Writer`. It is `write` for each target without the call: most of a gateway's work."""
        aside, write, size = self._aside, os.write, len(data)
        for descriptor in targets:
            if descriptor in aside:
                self._add(descriptor, data)
                continue
            try:
                sent = write(descriptor, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.abort(descriptor)
                continue
            if sent != size:
                self._set_aside(descriptor, data[sent:])

    def write_each(self, writes: Iterable[tuple[int, list[bytes]]]) -> None:
        """Implements `Writer`."""
        write = self.write
        for descriptor, frames in writes:
            write(descriptor, b"".join(frames))

    def mute(self, descriptor: int) -> None:
        """Stop writing to it. It is still read. Bytes that wait are thrown away."""
        if self.waiting(descriptor):
            self._epoll.modify(descriptor, select.EPOLLIN)
        self._aside[descriptor] = None

    def end_writing(self, descriptor: int) -> None:
        """End our side with a half-close. Bytes that wait are thrown away."""
        self.mute(descriptor)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=descriptor) as end:
            try:
                end.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it is gone already, which will be reported
            finally:
                end.detach()

    def _set_aside(self, descriptor: int, rest: bytes) -> None:
        self._aside[descriptor] = rest
        self._epoll.modify(descriptor, select.EPOLLOUT)
        try:
            self._protocols[descriptor].pause_writing()
        except Exception:  # this may be in the middle of a write to many
            log.exception("could not pause a session")
            self.abort(descriptor)

    def _add(self, descriptor: int, data: bytes) -> None:
        waiting = self._aside[descriptor]
        if waiting is not None:
            self._aside[descriptor] = waiting + data

    # Reading, and the end of a socket.

    def abort(self, descriptor: int) -> None:
        """End it at once. Its protocol is called in a following turn of the loop. Harmless if it has ended already."""
        protocol = self._protocols.pop(descriptor, None)
        if protocol is not None:
            self.mute(descriptor)
            self._epoll.unregister(descriptor)
            self._loop.call_soon(protocol.connection_lost)

    def _look(self) -> None:
        """Serve sockets that have sent something or take more. Those that are left come first in the next turn."""
        until = time.monotonic() + self._serve_s
        while self._serve(self._epoll.poll(0, EVENTS)) == EVENTS and time.monotonic() < until:
            pass

    def _serve(self, ready: Sequence[tuple[int, int]]) -> int:
        """Serve these sockets. Returns how many they are."""
        for descriptor, _ in ready:
            protocol = self._protocols.get(descriptor)
            if protocol is None:
                continue  # one before it ended it
            try:
                if self._aside.get(descriptor):
                    self._write_on(descriptor, protocol)
                else:
                    self._read(descriptor, protocol)
            except Exception:
                log.exception("could not serve a socket")
                self.abort(descriptor)
        return len(ready)

    def _read(self, descriptor: int, protocol: SocketProtocol) -> None:
        try:
            size = os.readv(descriptor, (self._buffer,))
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if size:
            protocol.data_received(self._buffer[:size].tobytes())
        else:
            self.abort(descriptor)

    def _write_on(self, descriptor: int, protocol: SocketProtocol) -> None:
        waiting = self._aside[descriptor]
        assert waiting
        try:
            sent = os.write(descriptor, waiting)
        except BlockingIOError:
            return
        except OSError:
            self.abort(descriptor)
            return
        if sent < len(waiting):
            self._aside[descriptor] = waiting[sent:]
            return
        del self._aside[descriptor]
        self._epoll.modify(descriptor, select.EPOLLIN)
        protocol.resume_writing()
