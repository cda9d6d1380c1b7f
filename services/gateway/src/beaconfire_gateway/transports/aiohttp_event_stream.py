"""Carry an event stream with aiohttp alone, where its sockets are not handed over (ADR 0005).

It uses only aiohttp's public API, and costs what the handover saves: a task, a request, and aiohttp's own buffers.
"""

import asyncio
from contextlib import suppress
from typing import Any

from aiohttp import HttpVersion11, web

from beaconfire_gateway.fanout.targets import CALLING, Target, Writer
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.transports.aiohttp_full import Full
from beaconfire_gateway.transports.event_stream import WIRE, EventStream, Opening, first_line, last_event
from beaconfire_gateway.transports.socket_connection import CLOSE_TIMEOUT_S
from beaconfire_gateway.transports.tcp_acks import acknowledges
from beaconfire_gateway.wire.messages import Connect
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.web import when_client_leaves


async def serve(
    gateway: Gateway,
    request: web.Request,
    *,
    address: str,
    opening: Opening,
    asked: Connect,
    full_bytes: int,
    full: Full,
) -> web.StreamResponse:
    """Answer with a stream, and stay until it ends. The doorkeeper has counted `address`. Raises BeaconfireError."""
    is_chunked = request.version >= HttpVersion11
    stream = AiohttpEventStream(
        gateway, request.transport, address=address, is_chunked=is_chunked, full_bytes=full_bytes, full=full
    )
    try:
        with when_client_leaves(request, stream.abort):
            stream.start(asked)
            error = await stream.decided
            if error is not None and opening.refuses_in_a_stream(error):
                return web.Response(body=last_event(error), headers=opening.stream_headers)
            if error is not None:
                raise error
            response = web.StreamResponse(headers=opening.stream_headers)
            response.force_close()
            if is_chunked:
                response.enable_chunked_encoding()
            await response.prepare(request)
            stream.head_written()
            await stream.over.wait()
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await response.write_eof()
            return response
    finally:
        stream.gone()


class AiohttpEventStream(EventStream):
    """A session whose answer aiohttp has begun, and its connection in the same object."""

    __slots__ = (
        "_closing",
        "_early",
        "_full",
        "_full_bytes",
        "_is_chunked",
        "_is_full",
        "_transport",
        "decided",
        "over",
    )

    def __init__(
        self, gateway: Gateway, transport: Any, *, address: str, is_chunked: bool, full_bytes: int, full: Full
    ) -> None:
        self._transport = transport
        self._is_chunked = is_chunked
        self._full_bytes = full_bytes
        self._full = full
        self._closing = False
        self._is_full = False
        self._early: list[bytes] | None = []  # what is written before aiohttp has written the head
        self.decided: asyncio.Future[BeaconfireError | None] = asyncio.get_running_loop().create_future()
        """Whether the client is let in: None, or the refusal."""
        self.over = asyncio.Event()
        """Set when the answer is to end."""
        super().__init__(gateway, WIRE, address=address)

    def head_written(self) -> None:
        """The head is written."""
        early, self._early = self._early or [], None
        if early and not self._transport.is_closing():
            self._write(b"".join(early))

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
        """Write bytes, now: past aiohttp's writer, which has to be awaited. Nothing before the client is let in."""
        if self._closing or not self.user_id:
            return
        if self._early is not None:
            self._early.append(data)
            return
        self._write(data)
        if not self._is_full and self._transport.get_write_buffer_size() > self._full_bytes:
            self._is_full = True
            self.full()
            self._full.watch(self)

    def abort(self, session: Session | None = None) -> None:
        """Drop the connection at once."""
        self._stop()
        self._transport.abort()

    # For `Full`.

    @property
    def has_room(self) -> bool:
        """Whether half of what may wait has gone; or all, with the connection."""
        waiting: int = self._transport.get_write_buffer_size()
        return waiting <= self._full_bytes // 2 or self._transport.is_closing()

    def has_drained(self) -> None:
        """It has room again."""
        self._is_full = False
        if not self._closing:
            self.drained()

    # For `EventStream`.

    def _begin(self) -> None:
        self.write(first_line())
        self._decide(None)

    def _refuse(self, error: BeaconfireError) -> None:
        self._decide(error)
        self._stop()

    def _finish(self, data: bytes) -> None:
        if self._is_full:
            self.abort()
            return
        self.write(data)
        self._stop()

    def _acknowledges(self, since: float) -> bool:
        return acknowledges(self._transport.get_extra_info("socket"), since)

    def _decide(self, refusal: BeaconfireError | None) -> None:
        if not self.decided.done():
            self.decided.set_result(refusal)

    def _stop(self) -> None:
        self._closing = True
        self.decided.cancel()
        self.over.set()

    def _write(self, data: bytes) -> None:
        # The transport may be gone before that was noticed. A caller may be in the middle of a loop over many sessions.
        with suppress(RuntimeError):
            self._transport.write(b"%x\r\n%s\r\n" % (len(data), data) if self._is_chunked else data)
