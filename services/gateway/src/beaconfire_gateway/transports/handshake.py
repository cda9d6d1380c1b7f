"""Do the handshake of `GET /ws`: choose the dialect and the compression, and open the WebSocket.

aiohttp does HTTP, routing and the checks before the upgrade. Then we continue with our own file descriptor (`sockets`).
aiohttp's transport is closed, and its request, parser, reader and task are freed (ADR 0018).
"""

from functools import partial

from aiohttp import hdrs, web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports.admission import Admission, offered_token
from beaconfire_gateway.transports.aiohttp_websocket import AiohttpWebSocket
from beaconfire_gateway.transports.subprotocols import DIALECTS, Subprotocols
from beaconfire_gateway.transports.upgrade import offered_subprotocols
from beaconfire_gateway.transports.websocket import WebSocket
from beaconfire_gateway.transports.websocket_opening import WebSocketOpening
from beaconfire_gateway.wire.deflate import Agreement, MalformedOffer, negotiate


class Handshake:
    """`GET /ws`. `compression` must be False on aiohttp's sockets."""

    def __init__(self, gateway: Gateway, admission: Admission, opening: WebSocketOpening, *, compression: bool) -> None:
        self._gateway = gateway
        self._admission = admission
        self._opening = opening
        self._subprotocols = Subprotocols()
        self._compresses = compression

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler. Answers 400, 403, 429 or 503, or does not return to aiohttp (or when all is over)."""
        accept = self._opening.check(request)
        subprotocol = self._subprotocols.choose(offered_subprotocols(request))
        if subprotocol is None:
            self._admission.refuse("subprotocol")
            raise web.HTTPBadRequest(reason=f"offer the subprotocol {' or '.join(DIALECTS)}")
        try:
            agreement = self._agree(request)
        except MalformedOffer:
            self._admission.refuse("extensions")
            raise web.HTTPBadRequest(reason="malformed Sec-WebSocket-Extensions") from None
        wire = self._subprotocols.wire(subprotocol, agreement)
        token = offered_token(request)
        return await self._opening.open(
            request,
            accept,
            ours=partial(WebSocket, self._gateway, wire, offered_token=token, inflates=agreement is not None),
            aiohttps=partial(AiohttpWebSocket, self._gateway, wire, offered_token=token),
            subprotocol=subprotocol,
            extensions=None if agreement is None else agreement.response,
        )

    def _agree(self, request: web.Request) -> Agreement | None:
        """The agreement about compression; None for no compression. Raises MalformedOffer."""
        if not self._compresses:
            return None
        return negotiate(request.headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, []))
