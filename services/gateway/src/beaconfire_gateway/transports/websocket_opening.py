"""The opening of WebSockets, whatever protocol is spoken over them: a request becomes a connection.

accept = opening.check(request)
# further checks of the protocol
return await opening.open(request, accept, ours=partial(WebSocket, …), aiohttps=partial(AiohttpWebSocket, …))
"""

import asyncio
from typing import Protocol

from aiohttp import web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports.admission import OPENED, Admission
from beaconfire_gateway.transports.aiohttp_full import FULL_AT, Full
from beaconfire_gateway.transports.aiohttp_websocket_connection import AiohttpSocket, AiohttpWebSocketConnection, serve
from beaconfire_gateway.transports.handover import hand_over
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.upgrade import accept_key, switching
from beaconfire_gateway.transports.websocket_connection import WebSocketConnection


class MakesOurs(Protocol):
    """Makes the connection on a socket of ours. Raises OSError if the descriptor cannot be served."""

    def __call__(self, sockets: Sockets, descriptor: int, /, *, address: str) -> WebSocketConnection: ...


class MakesAiohttps(Protocol):
    """Makes the connection on a socket that aiohttp serves."""

    def __call__(self, socket: AiohttpSocket, /, *, address: str) -> AiohttpWebSocketConnection: ...


class WebSocketOpening:
    """Opens WebSockets on sockets of ours, or on aiohttp's if there are no `sockets`. One for all protocols."""

    def __init__(
        self, gateway: Gateway, admission: Admission, *, sockets: Sockets | None, max_buffer_bytes: int
    ) -> None:
        self._gateway = gateway
        self._admission = admission
        self._sockets = sockets
        self._full_bytes = max_buffer_bytes // FULL_AT
        self._full = Full(gateway.spawn)

    def check(self, request: web.Request) -> str:
        """Return the key for `open`. Raises HTTPForbidden or HTTPBadRequest, and logs and counts the refusal."""
        self._admission.check_origin(request)
        accept = accept_key(request)
        if accept is None:
            self._admission.refuse("handshake")
            raise web.HTTPBadRequest(reason="expected a WebSocket handshake")
        return accept

    async def open(
        self,
        request: web.Request,
        accept: str,
        *,
        ours: MakesOurs,
        aiohttps: MakesAiohttps,
        subprotocol: str | None = None,
        extensions: str | None = None,
        first: bytes = b"",
    ) -> web.StreamResponse:
        """Enter the door, answer 101, and go on with one of the two connections. `first` are the first frames on it.

        On a socket of ours it does not return to aiohttp. On aiohttp's it returns when all is over. `extensions` are
        for a socket of ours only. Raises BeaconfireError (429 or 503) or HTTPBadRequest.
        """
        if request.transport is None or request.transport.is_closing():
            raise asyncio.CancelledError
        address = self._admission.enter(request)
        sockets = self._sockets
        if sockets is not None:
            head = switching(accept, subprotocol=subprotocol, extensions=extensions) + first
            hand_over(
                request, self._admission, address, lambda descriptor: ours(sockets, descriptor, address=address), head
            )
        OPENED.inc()
        return await serve(
            self._gateway,
            request,
            lambda socket: aiohttps(socket, address=address),
            address=address,
            subprotocol=subprotocol,
            first=first,
            full_bytes=self._full_bytes,
            full=self._full,
        )
