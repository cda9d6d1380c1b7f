"""A WebSocket that stays aiohttp's: the way back, should a release of aiohttp break the handover (ADR 0005).

Nothing but aiohttp's public API. It costs what the handover saves: 14 KiB a connection, a task, aiohttp's own parser.
What differs on the wire: aiohttp's reader decides how broken frames are refused (1009 where a message is too large),
messages are never compressed, and a gateway that stops does not wait for the answer to its close frame.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import WSMsgType, web

from services.gateway import protocol
from services.gateway.context import Context
from services.gateway.frames import Opcode, encode, encode_close
from services.gateway.limits import spend
from services.gateway.session import Session
from services.gateway.wires import Target
from shared import errors, logs
from shared.errors import BeaconfireError

log = logs.get(__name__)

CLOSE_TIMEOUT_S = 5.0
CONTROL_PER_MINUTE = 600
"""Pings and pongs a client may send a minute: they cost no less than messages, which are limited."""
LOOK_S = 0.05


class Full:
    """Looks at all the sockets that are full, every LOOK_S: aiohttp tells nobody when one has room again."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._spawn = spawn
        self._connections: list[PlainConnection] = []
        self._looks = False

    def watch(self, connection: "PlainConnection") -> None:
        """Call its `drained` once, when it has room."""
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
                    call_soon(one.drained)  # by itself: one that fails takes no other with it
                else:
                    still.append(one)
            self._connections = still
        self._looks = False


class PlainConnection:
    """Implements `context.Wire` over a `WebSocketResponse`."""

    __slots__ = (
        "_closing",
        "_context",
        "_controls_empty_at",
        "_full",
        "_full_bytes",
        "_resumed",
        "_session",
        "_socket",
        "_transport",
        "paused",
    )

    def __init__(self, context: Context[Session], full_bytes: int, full: Full) -> None:
        self._context = context
        self._full = full
        self._full_bytes = full_bytes
        self._closing = False
        self._controls_empty_at = 0.0
        self._resumed = asyncio.Event()
        self._socket = web.WebSocketResponse(
            protocols=(protocol.SUBPROTOCOL,),
            autoping=False,
            autoclose=False,  # its own close handshake drops the connection before the peer has answered
            compress=False,
            max_msg_size=context.limits.max_frame_bytes,
            timeout=CLOSE_TIMEOUT_S,  # of the answer to a close that aiohttp sends: a broken frame's
        )
        self.paused = False

    async def serve(self, request: web.Request, *, address: str, offered_token: str) -> web.StreamResponse:
        """Answer the handshake, and stay until the connection ends. `address` has entered by the door."""
        context = self._context
        session = None
        try:
            await self._socket.prepare(request)
            self._transport: Any = request.transport
            session = self._session = Session(context, self, address=address, offered_token=offered_token)
            await self._listen()
        finally:
            self._closing = True
            if session is not None:
                session.lost()
            context.door.leave(address, was_connected=session is not None and bool(session.user_id))
        return self._socket

    async def _listen(self) -> None:
        while True:
            if self.paused:  # a client that does not read is not listened to either
                self._resumed.clear()
                await self._resumed.wait()
            message = await self._socket.receive()
            if self._closing and message.type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG):
                continue
            if message.type is WSMsgType.TEXT:
                self._session.receive(message.data.encode())
            elif message.type is WSMsgType.PING or message.type is WSMsgType.PONG:
                self._take_control(message)
            elif message.type is WSMsgType.BINARY:
                self.close(1003, "binary messages are not part of the protocol")
            else:
                if message.type is WSMsgType.CLOSE:
                    self._write_close(message.data or 1000, "")
                    self._transport.close()
                return

    def _take_control(self, message: Any) -> None:
        self._controls_empty_at, wait_s = spend(self._controls_empty_at, 1, CONTROL_PER_MINUTE, time.monotonic())
        if wait_s:
            self._session.close(BeaconfireError(errors.TOO_MANY, f"at most {CONTROL_PER_MINUTE} pings a minute"))
            return
        self._session.heard()
        if message.type is WSMsgType.PING:
            self.write(encode(bytes(message.data), Opcode.PONG))

    # context.Wire.

    @property
    def target(self) -> Target:
        """For `wires.Calls`."""
        return self.write

    encode = None

    def write(self, data: bytes) -> None:
        """Write whole frames: past aiohttp's writer, which takes one message at a time and has to be awaited."""
        if self._closing:
            return
        self._transport.write(data)
        if not self.paused and self._transport.get_write_buffer_size() > self._full_bytes:
            self.paused = True
            self._session.full()
            self._full.watch(self)

    def close(self, code: int, reason: str) -> None:
        """Start the close handshake. A stuck peer is not waited for."""
        if self._closing:
            return
        if self.paused:
            self.abort()
        else:
            self._session.lost()
            self._write_close(code, reason)
            self._context.wheel.after(CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        """Drop the connection at once."""
        self._closing = True
        self._transport.abort()
        self._resumed.set()

    # What `Full` asks, and says.

    @property
    def has_room(self) -> bool:
        """Whether half of what may wait has gone; or all, with the connection."""
        waiting: int = self._transport.get_write_buffer_size()
        return waiting <= self._full_bytes // 2 or self._transport.is_closing()

    def drained(self) -> None:
        """It has room again."""
        self.paused = False
        self._resumed.set()
        if not self._closing:
            self._session.drained()

    def _write_close(self, code: int, reason: str) -> None:
        if not self._closing:
            self._closing = True
            self._transport.write(encode_close(code, reason))
