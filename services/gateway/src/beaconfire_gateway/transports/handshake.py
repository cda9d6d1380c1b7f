"""Do the handshake of `GET /ws`: check the request, and hand its socket over to the code that serves it.

aiohttp does HTTP, routing and the checks before the upgrade. Then we continue with our own file descriptor (`sockets`).
aiohttp's transport is closed, and its request, parser, reader and task are freed (ADR 0018).
"""

import asyncio
from functools import partial

from aiohttp import hdrs, web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports import aiohttp_websocket
from beaconfire_gateway.transports.admission import OPENED, Admission, offered_token
from beaconfire_gateway.transports.handover import hand_over
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.subprotocols import DIALECTS, Subprotocols
from beaconfire_gateway.transports.upgrade import accept_key, offered_subprotocols, switching
from beaconfire_gateway.transports.websocket import WebSocket
from beaconfire_gateway.wire.deflate import Agreement, MalformedOffer, negotiate

FULL_AT = 4
"""A socket of aiohttp's is full at this part of the memory a session may take. On top of it come one write and the one
event that goes beyond it, messages that wait for an answer, and one that has not arrived as a whole: a quarter each, at
most."""


class Handshake:
    """`GET /ws`: the checks before the upgrade, and the handing over."""

    def __init__(
        self,
        gateway: Gateway,
        admission: Admission,
        *,
        max_buffer_bytes: int,
        compression: bool,
        sockets: Sockets | None,
    ) -> None:
        self._gateway = gateway
        self._admission = admission
        self._subprotocols = Subprotocols()
        self._compresses = compression and sockets is not None
        self._max_buffer_bytes = max_buffer_bytes
        self._sockets = sockets
        self._full = aiohttp_websocket.Full(gateway.spawn)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler. Answers 400, 403, 429 or 503, or does not return to aiohttp (or when all is over)."""
        self._admission.check_origin(request)
        accept = accept_key(request)
        if accept is None:
            self._admission.refuse("handshake")
            raise web.HTTPBadRequest(reason="expected a WebSocket handshake")
        subprotocol = self._subprotocols.choose(offered_subprotocols(request))
        if subprotocol is None:
            self._admission.refuse("subprotocol")
            raise web.HTTPBadRequest(reason=f"offer the subprotocol {' or '.join(DIALECTS)}")
        try:
            agreement = self._agree(request)
        except MalformedOffer:
            self._admission.refuse("extensions")
            raise web.HTTPBadRequest(reason="malformed Sec-WebSocket-Extensions") from None
        transport = request.transport
        if transport is None or transport.is_closing():
            raise asyncio.CancelledError
        wire = self._subprotocols.wire(subprotocol, agreement)
        address = self._admission.enter(request)
        token = offered_token(request)
        if self._sockets is not None:
            make = partial(
                WebSocket,
                self._gateway,
                wire,
                self._sockets,
                address=address,
                offered_token=token,
                inflates=agreement is not None,
            )
            extensions = None if agreement is None else agreement.response
            head = switching(accept, subprotocol=subprotocol, extensions=extensions)
            hand_over(request, self._admission, address, make, head)
        OPENED.inc()
        full_bytes = self._max_buffer_bytes // FULL_AT
        return await aiohttp_websocket.serve(
            self._gateway,
            wire,
            request,
            subprotocol=subprotocol,
            address=address,
            offered_token=token,
            full_bytes=full_bytes,
            full=self._full,
        )

    def _agree(self, request: web.Request) -> Agreement | None:
        """The agreement about compression; None for no compression. Raises MalformedOffer."""
        if not self._compresses:
            return None
        return negotiate(request.headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, []))
