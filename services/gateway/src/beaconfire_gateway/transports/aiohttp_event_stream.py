"""Carry an event stream with aiohttp alone, where its sockets are not handed over (ADR 0005).

It uses only aiohttp's public API, and costs what the handover saves: a task, a request, and aiohttp's own buffers.
"""

import asyncio
from contextlib import suppress

from aiohttp import HttpVersion11, web

from beaconfire_gateway.sessions.connection import CLOSE_TIMEOUT_S
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.transports.aiohttp_connection import SLOTS, AiohttpConnection, AiohttpEnd
from beaconfire_gateway.transports.event_stream import WIRE, AnswerHead, EventStream, first_line, last_event
from beaconfire_gateway.transports.tcp_acks import acknowledges
from beaconfire_gateway.transports.write_buffers import WriteBuffers
from beaconfire_gateway.wire.messages import Connect
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.web import when_client_leaves


async def serve(
    gateway: Gateway,
    request: web.Request,
    *,
    address: str,
    head: AnswerHead,
    asked: Connect,
    buffers: WriteBuffers,
) -> web.StreamResponse:
    """Answer with a stream, and stay until it ends. The doorkeeper has counted `address`. Raises BeaconfireError."""
    is_chunked = request.version >= HttpVersion11
    end = AiohttpEnd(request.transport, buffers)
    stream = AiohttpEventStream(gateway, end, address=address, is_chunked=is_chunked)
    try:
        with when_client_leaves(request, stream.abort):
            stream.start(asked)
            error = await stream.decided
            if error is not None and head.refuses_in_a_stream(error):
                return web.Response(body=last_event(error), headers=head.stream_headers)
            if error is not None:
                raise error
            response = web.StreamResponse(headers=head.stream_headers)
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


class AiohttpEventStream(AiohttpConnection, EventStream):
    """A session whose answer aiohttp has begun, and its connection in the same object."""

    __slots__ = (*SLOTS, "_early", "_is_chunked", "decided", "over")

    def __init__(self, gateway: Gateway, end: AiohttpEnd, *, address: str, is_chunked: bool) -> None:
        self._serve_end(end)
        self._is_chunked = is_chunked
        self._early: list[bytes] | None = []  # what is written before aiohttp has written the head
        self.decided: asyncio.Future[BeaconfireError | None] = asyncio.get_running_loop().create_future()
        """Whether the client is let in: None, or the refusal."""
        self.over = asyncio.Event()
        """Set when the answer is to end."""
        super().__init__(gateway, WIRE, address=address)

    def head_written(self) -> None:
        """The head is written."""
        early, self._early = self._early or [], None
        if early:
            self._write(b"".join(early))

    def write(self, data: bytes) -> None:
        """Write bytes, now; nothing before the client is let in. They wait until aiohttp has written the head."""
        if self._early is None:
            super().write(data)
        elif self.user_id and not self._closing:
            self._early.append(data)

    def abort(self, session: Session | None = None) -> None:
        """Drop the connection at once."""
        super().abort(session)
        self._stop()

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
        return acknowledges(self._socket.transport.get_extra_info("socket"), since)

    def _decide(self, refusal: BeaconfireError | None) -> None:
        if not self.decided.done():
            self.decided.set_result(refusal)

    def _stop(self) -> None:
        self._closing = True
        self.decided.cancel()
        self.over.set()

    def _write(self, data: bytes) -> None:
        if data:  # an empty chunk would end the answer
            super()._write(b"%x\r\n%s\r\n" % (len(data), data) if self._is_chunked else data)
