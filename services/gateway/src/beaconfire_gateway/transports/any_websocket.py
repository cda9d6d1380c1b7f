"""What is the same of every WebSocket, on a socket of ours or of aiohttp's: text, pings and pongs, and how it ends."""

import time
from abc import abstractmethod

from beaconfire_gateway.sessions.connection import MIXED_IN, Carrier, farewell
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.wire.websocket_frames import FrameError, Opcode, encode
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.rates import spend

CONTROL_PER_MINUTE = 600
"""Pings and pongs a client may send a minute: they cost no less than messages, which are limited."""
PING_FRAME = encode(b"", Opcode.PING)


class AnyWebSocket(Carrier):
    """A WebSocket, whoever serves its socket. `ping` and `hang_up` are for a `Connection`.

    Like the classes that serve the socket, it is mixed in, and has no slots.
    """

    __slots__ = MIXED_IN

    transport = "websocket"

    _controls_empty_at: float

    @abstractmethod
    def on_text(self, payload: bytes) -> None:
        """A text message came. It is valid UTF-8. Raises FrameError if the connection must end because of it."""

    def on_binary(self, payload: bytes) -> None:
        """A binary message came. Raises FrameError if the protocol has none."""
        raise FrameError(1003, "binary messages are not part of the protocol")

    @abstractmethod
    def _close(self, code: int, reason: str) -> None:
        """Start the close handshake (RFC 6455 §7.1.2). A stuck client is not waited for."""

    def _may_send_control(self) -> bool:
        """Note the sign of life that a ping or a pong is. False if it was one too many, and the connection ends."""
        self._controls_empty_at, wait_s = spend(self._controls_empty_at, 1, CONTROL_PER_MINUTE, time.monotonic())
        if wait_s:
            self.close(BeaconfireError(errors.TOO_MANY, f"at most {CONTROL_PER_MINUTE} pings a minute"))
            return False
        self.heard()
        return True

    # connection.Connection.

    def ping(self, session: Session, data: bytes = b"") -> None:
        self.write(PING_FRAME + data)

    def hang_up(self, session: Session, error: BeaconfireError | None) -> None:
        self._close(*farewell(error))
