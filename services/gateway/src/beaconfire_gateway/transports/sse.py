"""Answer `/sse`: server-sent events for clients without WebSockets (PROTOCOL.md §8).

`GET /sse?rooms=…` and `POST /sse` have the token in their `Authorization` header.
"""

import asyncio
from functools import partial

from aiohttp import web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports import aiohttp_event_stream
from beaconfire_gateway.transports.admission import OPENED, Admission
from beaconfire_gateway.transports.aiohttp_full import FULL_AT, Full
from beaconfire_gateway.transports.event_stream import Opening
from beaconfire_gateway.transports.handover import hand_over
from beaconfire_gateway.transports.socket_event_stream import SocketEventStream
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.wanted import Wanted, read_wanted, required_token
from beaconfire_gateway.wire.messages import Connect


class Sse:
    """The handlers of `/sse`. Without `sockets`, aiohttp carries the streams."""

    def __init__(
        self, gateway: Gateway, admission: Admission, *, sockets: Sockets | None, max_buffer_bytes: int
    ) -> None:
        self._gateway = gateway
        self._admission = admission
        self._sockets = sockets
        self._full_bytes = max_buffer_bytes // FULL_AT
        self._full = Full(gateway.spawn)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """`GET /sse` and `POST /sse`. Answers 400, 401, 403, 429 or 503, or streams until the session ends."""
        self._admission.check_origin(request)
        wanted = await read_wanted(request, Wanted)
        asked = wanted.connect(required_token(request), last_event_id=request.headers.get("Last-Event-ID"))
        address = self._admission.enter(request)
        return await self._stream(request, address, asked, Opening.of(request))

    async def _stream(self, request: web.Request, address: str, asked: Connect, opening: Opening) -> web.StreamResponse:
        transport = request.transport
        if transport is None or transport.is_closing():
            self._admission.refuse_entered(address, "gone")
            raise asyncio.CancelledError
        if self._sockets is not None:
            make = partial(
                SocketEventStream, self._gateway, self._sockets, address=address, opening=opening, request=asked
            )
            hand_over(request, self._admission, address, make, b"")
        OPENED.inc()
        return await aiohttp_event_stream.serve(
            self._gateway,
            request,
            address=address,
            opening=opening,
            asked=asked,
            full_bytes=self._full_bytes,
            full=self._full,
        )
