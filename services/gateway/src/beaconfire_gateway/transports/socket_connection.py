"""The life of a connection on a socket of ours, whatever protocol it speaks: from `sockets.add` to `release`."""

from abc import abstractmethod
from collections.abc import Callable

from beaconfire_gateway.fanout.targets import Writer
from beaconfire_gateway.sessions.connection import CLOSE_TIMEOUT_S, MIXED_IN, Carrier
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.sessions.timers import Call
from beaconfire_gateway.transports.sockets import Sockets

SLOTS = ("_closing", "_descriptor", "_sockets")
"""The slots of a `SocketConnection`, which the class that mixes it in has to name."""


class SocketConnection(Carrier):
    """Owns a file descriptor, which is its target. Implements `sockets.SocketProtocol`, except `data_received`.

    It has no slots, so that it can be mixed into a `SoleSession`, a `SharedConnection`, or a carrier that is an object
    of its own. The class that does so names `SLOTS` among its own, and calls `_serve` before anything else.
    """

    __slots__ = MIXED_IN

    _closing: bool
    """Whether the goodbye was written, or the connection is gone."""
    _descriptor: int
    _sockets: Sockets

    def _serve(self, sockets: Sockets, descriptor: int) -> None:
        """Serve a descriptor from now on. Raises OSError if that cannot be; the descriptor is closed then."""
        self._sockets = sockets
        self._descriptor = descriptor
        self._closing = False
        sockets.add(descriptor, self)

    # sockets.SocketProtocol.

    @abstractmethod
    def data_received(self, data: bytes) -> None: ...

    def connection_lost(self) -> None:
        self._closing = True
        gateway, sockets, descriptor = self.gateway, self._sockets, self._descriptor
        self._descriptor = -1  # none: the number is another's soon, and a timer may still call `abort`
        try:
            self.gone()
        finally:
            gateway.outbound.after(lambda: sockets.release(descriptor))

    def pause_writing(self) -> None:
        # A client that does not read is not listened to either: else its pings' answers would pile up.
        self.full()

    def resume_writing(self) -> None:
        self.drained()

    # connection.Carrier.

    @property
    def writer(self) -> Writer:
        return self._sockets

    @property
    def target(self) -> int:
        """The file descriptor; -1 when the connection is gone."""
        return self._descriptor

    @property
    def is_full(self) -> bool:
        """Whether bytes wait for its socket to take more."""
        return self._sockets.waiting(self._descriptor) > 0

    def write(self, data: bytes) -> None:
        """Write bytes, now; nothing once the goodbye is written."""
        if not self._closing:
            self._sockets.write(self._descriptor, data)

    def abort(self, session: Session | None = None) -> None:
        """Drop the connection at once, with every session on it."""
        self._closing = True
        self._sockets.abort(self._descriptor)

    def _say_goodbye(self, data: bytes) -> None:
        """Write the last bytes, and give the client a moment to close. A stuck peer is not waited for."""
        if self._closing or self._descriptor < 0:
            return
        self._closing = True
        self._sockets.write(self._descriptor, data)
        if self.is_full:
            self._sockets.abort(self._descriptor)
            return
        self._sockets.mute(self._descriptor)  # queued frames must not follow the goodbye
        abort: Callable[[], None] = self.abort
        self.gateway.timers.after(CLOSE_TIMEOUT_S, Call(abort))
