"""One session over a WebSocket: each text message is a message of the session's dialect, or each binary one.

Session and connection are one object. One class has it on a socket of ours, and one on a socket that aiohttp serves.
Both exist again for dialects whose messages are binary.
"""

from beaconfire_gateway.sessions.connection import MIXED_IN
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import State
from beaconfire_gateway.sessions.sole_session import SoleSession
from beaconfire_gateway.transports.aiohttp_websocket_connection import (
    AIOHTTP_SLOTS,
    AiohttpSocket,
    AiohttpWebSocketConnection,
)
from beaconfire_gateway.transports.any_websocket import AnyWebSocket
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.websocket_connection import SLOTS, WebSocketConnection
from beaconfire_gateway.wire.websocket_frames import FrameError
from beaconfire_gateway.wire.wire import Wire


class WebSocket(WebSocketConnection, SoleSession):
    """On a socket of ours. Raises OSError if the descriptor cannot be served; it is closed then.

    `inflates` says whether the client may compress its messages.
    """

    __slots__ = SLOTS

    def __init__(
        self,
        gateway: Gateway,
        wire: Wire,
        sockets: Sockets,
        descriptor: int,
        *,
        address: str,
        offered_token: str,
        inflates: bool = False,
    ) -> None:
        self._serve_websocket(sockets, descriptor, inflates=inflates)
        super().__init__(gateway, wire, address=address, offered_token=offered_token)

    def on_text(self, payload: bytes) -> None:
        self.receive(payload)

    def write(self, data: bytes) -> None:
        """Write whole frames, now, unless the session is closed."""
        if self.state is not State.CLOSED:
            self._sockets.write(self._descriptor, data)


class AiohttpWebSocket(AiohttpWebSocketConnection, SoleSession):
    """On a socket that aiohttp serves."""

    __slots__ = AIOHTTP_SLOTS

    def __init__(
        self, gateway: Gateway, wire: Wire, socket: AiohttpSocket, *, address: str, offered_token: str
    ) -> None:
        self._serve_aiohttp(socket)
        super().__init__(gateway, wire, address=address, offered_token=offered_token)

    def on_text(self, payload: bytes) -> None:
        self.receive(payload)

    def write(self, data: bytes) -> None:
        """Write whole frames, now, unless the session is closed."""
        if self.state is not State.CLOSED:
            super().write(data)


class _BinaryMessages(AnyWebSocket, SoleSession):
    """Takes binary messages instead of text."""

    __slots__ = MIXED_IN

    def on_text(self, payload: bytes) -> None:
        raise FrameError(1003, "text messages are not part of this protocol: send binary ones")

    def on_binary(self, payload: bytes) -> None:
        self.receive(payload)


class BinaryWebSocket(_BinaryMessages, WebSocket):
    """A `WebSocket` with binary messages."""

    __slots__ = ()


class AiohttpBinaryWebSocket(_BinaryMessages, AiohttpWebSocket):
    """On a socket that aiohttp serves, with binary messages."""

    __slots__ = ()
