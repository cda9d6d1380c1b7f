"""Carry an Engine.IO connection over a WebSocket: each packet is a frame."""

from beaconfire_gateway.sessions.connection import farewell
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.transports.socketio.connection import EngineCarrier
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.websocket_connection import SLOTS, WebSocketConnection
from beaconfire_gateway.wire.engineio import InvalidPacket, Packet, PacketType, decode
from beaconfire_gateway.wire.websocket_frames import FrameError
from beaconfire_kit.errors import BeaconfireError


class WebSocketCarrier(WebSocketConnection, EngineCarrier):
    """See the module. Raises OSError if the descriptor cannot be served; it is closed then.

    Its connection is made after it, and before its first byte arrives.
    """

    __slots__ = (*SLOTS, "engine", "gateway", "id")

    def __init__(self, gateway: Gateway, sockets: Sockets, descriptor: int) -> None:
        self.gateway = gateway
        self._serve_websocket(sockets, descriptor, inflates=False)

    # websocket_connection.WebSocketConnection.

    def on_text(self, payload: bytes) -> None:
        try:
            self.received(decode(payload))
        except InvalidPacket as broken:
            raise FrameError(1002, str(broken)) from None

    def on_binary(self, payload: bytes) -> None:
        try:
            self.received(Packet(PacketType.MESSAGE, payload, is_binary=True))
        except InvalidPacket as broken:
            raise FrameError(1002, str(broken)) from None

    # connection.EngineCarrier.

    def take(self) -> bytes:
        """Raises AssertionError: a connection never leaves a WebSocket."""
        raise AssertionError("a connection never leaves a WebSocket")

    def end(self, error: BeaconfireError | None = None) -> None:
        self._close(*((1000, "") if error is None else farewell(error)))

    def abort(self, session: Session | None = None) -> None:
        super().abort()
