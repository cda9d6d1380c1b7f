"""Serve a WebSocket with aiohttp alone: the fallback if a release of aiohttp breaks the handover (ADR 0005).

It uses only aiohttp's public API. It costs what the handover saves: 14 KiB a connection, a task, aiohttp's own parser.
Three things differ on the wire. aiohttp's reader decides how broken frames are refused (1009 if a message is too
large). Messages are never compressed. A stopping gateway does not wait for the answer to its close frame.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from aiohttp import WSMsgType, web

from beaconfire_gateway.fanout.targets import CALLING, Target, Writer
from beaconfire_gateway.sessions.connection import farewell
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.sessions.sole_session import SoleSession
from beaconfire_gateway.sessions.timers import Call
from beaconfire_gateway.transports.socket_connection import CLOSE_TIMEOUT_S
from beaconfire_gateway.transports.websocket_connection import CONTROL_PER_MINUTE, PING_FRAME
from beaconfire_gateway.wire.websocket_frames import Opcode, encode, encode_close
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import errors, logs
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.rates import spend

log = logs.get(__name__)

LOOK_S = 0.05


class Full:
    """Looks at all full sockets every LOOK_S: aiohttp does not say when one has room again."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._spawn = spawn
        self._connections: list[AiohttpWebSocket] = []
        self._looks = False

    def watch(self, connection: "AiohttpWebSocket") -> None:
        """Call its `has_drained` once, when it has room."""
        self._connections.append(connection)
        if not self._looks:
            self._looks = True
            self._spawn(self._look())

    async def _look(self) -> None:
        call_soon = asyncio.get_running_loop().call_soon
        while self._connections:
            await asyncio.sleep(LOOK_S)
            still = []
            for one in self._connections:
                if one.has_room:
                    call_soon(one.has_drained)  # separately, so that a failure does not affect the others
                else:
                    still.append(one)
            self._connections = still
        self._looks = False


async def serve(
    gateway: Gateway,
    wire: Wire,
    request: web.Request,
    *,
    subprotocol: str,
    address: str,
    offered_token: str,
    full_bytes: int,
    full: Full,
) -> web.StreamResponse:
    """Answer the handshake, and stay until the connection ends. The doorkeeper has counted `address`."""
    connection = None
    handshake = Handshaking(request.transport)
    gateway.connecting.add(handshake)
    socket = web.WebSocketResponse(
        protocols=(subprotocol,),
        autoping=False,
        autoclose=False,  # its own close handshake drops the connection before the peer has answered
        compress=False,
        max_msg_size=gateway.limits.max_frame_bytes,
        timeout=CLOSE_TIMEOUT_S,  # of the answer to a close that aiohttp sends: a broken frame's
    )
    try:
        await socket.prepare(request)
        connection = AiohttpWebSocket(
            gateway,
            wire,
            socket,
            request.transport,
            address=address,
            offered_token=offered_token,
            full_bytes=full_bytes,
            full=full,
        )
        gateway.connecting.discard(handshake)
        await connection.listen()
    finally:
        gateway.connecting.discard(handshake)
        if connection is None:
            gateway.door.leave(address, was_connected=False)
        else:
            connection.gone()
    return socket


class Handshaking:
    """A handshake that is being answered. A gateway that stops ends it. Implements `gateway.Pending`."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def close(self, error: BeaconfireError) -> None:
        self._transport.abort()


class AiohttpWebSocket(SoleSession):
    """A session over a `WebSocketResponse`, and its connection in the same object."""

    __slots__ = (
        "_closing",
        "_controls_empty_at",
        "_full",
        "_full_bytes",
        "_is_full",
        "_resumed",
        "_socket",
        "_transport",
    )

    def __init__(
        self,
        gateway: Gateway,
        wire: Wire,
        socket: web.WebSocketResponse,
        transport: Any,
        *,
        address: str,
        offered_token: str,
        full_bytes: int,
        full: Full,
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._full = full
        self._full_bytes = full_bytes
        self._closing = False
        self._controls_empty_at = 0.0
        self._is_full = False
        self._resumed = asyncio.Event()
        super().__init__(gateway, wire, address=address, offered_token=offered_token)

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
            message = await self._socket.receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG):
                if message.type is WSMsgType.CLOSE:
                    self._write_close(message.data or 1000, "")
                    self._transport.close()
                return
            if not self._closing:
                self._handle(message)

    def _handle(self, message: Any) -> None:
        try:
            if message.type is WSMsgType.TEXT:
                self.receive(message.data.encode())
            elif message.type is WSMsgType.BINARY:
                self._hang_up(1003, "binary messages are not part of the protocol")
            else:
                self._handle_control(message)
        except Exception:
            # Raised further, the connection would be dropped without a close code.
            log.exception("could not handle a message", session=self.id)
            self.close(errors.internal(self.id))

    def _handle_control(self, message: Any) -> None:
        self._controls_empty_at, wait_s = spend(self._controls_empty_at, 1, CONTROL_PER_MINUTE, time.monotonic())
        if wait_s:
            self.close(BeaconfireError(errors.TOO_MANY, f"at most {CONTROL_PER_MINUTE} pings a minute"))
            return
        self.heard()
        if message.type is WSMsgType.PING:
            self.write(encode(bytes(message.data), Opcode.PONG))

    # connection.Connection.

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
        """Write whole frames: past aiohttp's writer, which takes one message at a time and has to be awaited."""
        if self._closing or self.state is State.CLOSED:
            return
        self._write(data)
        if not self._is_full and self._transport.get_write_buffer_size() > self._full_bytes:
            self._is_full = True
            self.full()
            self._full.watch(self)

    def ping(self, session: Session, data: bytes = b"") -> None:
        self.write(PING_FRAME + data)

    def hang_up(self, session: Session, error: BeaconfireError | None) -> None:
        self._hang_up(*farewell(error))

    def _hang_up(self, code: int, reason: str) -> None:
        """Start the close handshake. A stuck peer is not waited for."""
        if self._closing:
            return
        if self._is_full:
            self.abort()
        else:
            self.lost()
            self._write_close(code, reason)
            self.gateway.timers.after(CLOSE_TIMEOUT_S, Call(self.abort))

    def abort(self, session: Session | None = None) -> None:
        """Drop the connection at once."""
        self._closing = True
        self._transport.abort()
        self._resumed.set()

    # For `Full`.

    @property
    def has_room(self) -> bool:
        """Whether half of what may wait has gone; or all, with the connection."""
        waiting: int = self._transport.get_write_buffer_size()
        return waiting <= self._full_bytes // 2 or self._transport.is_closing()

    def has_drained(self) -> None:
        """It has room again."""
        self._is_full = False
        self._resumed.set()
        if not self._closing:
            self.drained()

    def _write_close(self, code: int, reason: str) -> None:
        if not self._closing:
            self._closing = True
            self._write(encode_close(code, reason))

    def _write(self, data: bytes) -> None:
        # The transport may be gone before `listen` has noticed. uvloop raises then, asyncio does not. A caller may be
        # in the middle of a loop over many sessions.
        with suppress(RuntimeError):
            self._transport.write(data)
