"""Carry an Engine.IO connection over a WebSocket, on a socket of ours or of aiohttp's: each packet is a frame."""

from beaconfire_gateway.sessions.connection import MIXED_IN, farewell
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports.aiohttp_websocket_connection import (
    AIOHTTP_SLOTS,
    AiohttpSocket,
    AiohttpWebSocketConnection,
)
from beaconfire_gateway.transports.any_websocket import AnyWebSocket
from beaconfire_gateway.transports.socketio.connection import EngineCarrier
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.websocket_connection import SLOTS, WebSocketConnection
from beaconfire_gateway.wire.engineio import InvalidPacket, Packet, PacketType, decode
from beaconfire_gateway.wire.websocket_frames import FrameError
from beaconfire_kit.errors import BeaconfireError


class PacketFrames(AnyWebSocket, EngineCarrier):
    """What is the same on both kinds of sockets. A connection never leaves a WebSocket."""

    __slots__ = MIXED_IN

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

    def take(self) -> bytes:
        raise AssertionError("a connection never leaves a WebSocket")

    def end(self, error: BeaconfireError | None = None) -> None:
        self._close(*((1000, "") if error is None else farewell(error)))


class WebSocketCarrier(WebSocketConnection, PacketFrames):
    """On a socket of ours. Raises OSError if the descriptor cannot be served; it is closed then.

    Its connection is made after it, and before its first byte arrives.
    """

    __slots__ = (*SLOTS, "engine", "gateway", "id")

    def __init__(self, gateway: Gateway, sockets: Sockets, descriptor: int) -> None:
        self.gateway = gateway
        self._serve_websocket(sockets, descriptor, inflates=False)


class AiohttpWebSocketCarrier(AiohttpWebSocketConnection, PacketFrames):
    """On a socket that aiohttp serves."""

    __slots__ = (*AIOHTTP_SLOTS, "engine", "gateway", "id")

    def __init__(self, gateway: Gateway, socket: AiohttpSocket) -> None:
        self.gateway = gateway
        self._serve_aiohttp(socket)
