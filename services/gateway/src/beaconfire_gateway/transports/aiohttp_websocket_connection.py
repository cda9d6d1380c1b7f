"""Serve a WebSocket with aiohttp alone: the fallback if a release of aiohttp breaks the handover (ADR 0005).

It uses only aiohttp's public API. It costs what the handover saves: 14 KiB a connection, a task, aiohttp's own parser.
Three things differ on the wire. aiohttp's reader decides how broken frames are refused (1009 if a message is too
large). Messages are never compressed. A stopping gateway does not wait for the answer to its close frame.

It knows no session, as `websocket_connection`, whose place it takes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMsgType, web

from beaconfire_gateway.sessions.connection import CLOSE_TIMEOUT_S, MIXED_IN
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.sessions.timers import Call
from beaconfire_gateway.transports.aiohttp_connection import SLOTS, AiohttpConnection, AiohttpEnd
from beaconfire_gateway.transports.any_websocket import AnyWebSocket
from beaconfire_gateway.transports.write_buffers import WriteBuffers
from beaconfire_gateway.wire.websocket_frames import FrameError, Opcode, encode, encode_close
from beaconfire_kit import errors, logs
from beaconfire_kit.errors import BeaconfireError

log = logs.get(__name__)

AIOHTTP_SLOTS = (*SLOTS, "_controls_empty_at", "_resumed")
"""The slots of an `AiohttpWebSocketConnection`, which the class that mixes it in has to name."""


@dataclass(frozen=True, slots=True)
class AiohttpSocket(AiohttpEnd):
    """A WebSocket that aiohttp has opened."""

    response: web.WebSocketResponse


class Handshaking:
    """A handshake that is being answered. A gateway that stops ends it. Implements `gateway.Pending`."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def close(self, error: BeaconfireError) -> None:
        self._transport.abort()


async def serve(
    gateway: Gateway,
    request: web.Request,
    make: Callable[[AiohttpSocket], "AiohttpWebSocketConnection"],
    *,
    address: str,
    subprotocol: str | None,
    buffers: WriteBuffers,
    first: bytes = b"",
) -> web.StreamResponse:
    """Answer the handshake, and stay until the connection that `make` makes of the socket has ended.

    The doorkeeper has counted `address`.
    """
    connection = None
    handshake = Handshaking(request.transport)
    gateway.connecting.add(handshake)
    response = web.WebSocketResponse(
        protocols=() if subprotocol is None else (subprotocol,),
        autoping=False,
        autoclose=False,  # its own close handshake drops the connection before the peer has answered
        compress=False,
        max_msg_size=gateway.limits.max_frame_bytes,
        timeout=CLOSE_TIMEOUT_S,  # of the answer to a close that aiohttp sends: a broken frame's
    )
    try:
        await response.prepare(request)
        connection = make(AiohttpSocket(request.transport, buffers, response))
        gateway.connecting.discard(handshake)
        if first:
            connection.write(first)
        await connection.listen()
    finally:
        gateway.connecting.discard(handshake)
        if connection is None:
            gateway.door.leave(address, was_connected=False)
        else:
            connection.gone()
    return response


class AiohttpWebSocketConnection(AiohttpConnection, AnyWebSocket):
    """Reads messages, answers pings and close frames, and ends a connection whose bytes have no meaning.

    As `WebSocketConnection`, it is mixed in and has no slots. The class that does so names `AIOHTTP_SLOTS` among its
    own, and calls `_serve_aiohttp` before anything else.
    """

    __slots__ = MIXED_IN

    _resumed: asyncio.Event
    _socket: AiohttpSocket

    def _serve_aiohttp(self, socket: AiohttpSocket) -> None:
        """Serve a socket from now on. `listen` reads from it."""
        self._serve_end(socket)
        self._controls_empty_at = 0.0
        self._resumed = asyncio.Event()

    async def listen(self) -> None:
        """Receive messages until the connection ends."""
        try:
            await self._listen()
        finally:
            self._closing = True

    async def _listen(self) -> None:
        while True:
            if self._is_full:  # a client that does not read is not listened to either
                self._resumed.clear()
                await self._resumed.wait()
            message = await self._socket.response.receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG):
                if message.type is WSMsgType.CLOSE:
                    self._write_close(message.data or 1000, "")
                    self._socket.transport.close()
                return
            if not self._closing:
                self._handle(message)

    def _handle(self, message: Any) -> None:
        try:
            if message.type is WSMsgType.TEXT:
                self.on_text(message.data.encode())
            elif message.type is WSMsgType.BINARY:
                self.on_binary(bytes(message.data))
            elif self._may_send_control() and message.type is WSMsgType.PING:
                self.write(encode(bytes(message.data), Opcode.PONG))
        except FrameError as broken:
            log.info("broken frame", session=self.id, code=broken.code, reason=broken.reason)
            self.lost()
            self._close(broken.code, broken.reason)
        except Exception:
            # Raised further, the connection would be dropped without a close code.
            log.exception("could not handle a message", session=self.id)
            self.close(errors.internal(self.id))

    def abort(self, session: Session | None = None) -> None:
        """Drop the connection at once, with every session on it."""
        super().abort(session)
        self._resumed.set()

    def has_drained(self) -> None:
        """It has room again, and is listened to again."""
        self._resumed.set()
        super().has_drained()

    def _close(self, code: int, reason: str) -> None:
        if self._closing:
            return
        if self._is_full:
            self.abort()
        else:
            self._write_close(code, reason)
            abort: Callable[[], None] = self.abort
            self.gateway.timers.after(CLOSE_TIMEOUT_S, Call(abort))

    def _write_close(self, code: int, reason: str) -> None:
        if not self._closing:
            self._closing = True
            self._write(encode_close(code, reason))
