"""Do the handshake of `GET /ws`: choose the dialect and the compression, and open the WebSocket.

aiohttp does HTTP, routing and the checks before the upgrade. Then we continue with our own file descriptor (`sockets`).
aiohttp's transport is closed, and its request, parser, reader and task are freed (ADR 0018).
"""

from functools import partial

from aiohttp import hdrs, web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports import plain
from beaconfire_gateway.transports.admission import Admission, offered_token
from beaconfire_gateway.transports.plain import AiohttpPlainWebSocket, PlainWebSocket
from beaconfire_gateway.transports.subprotocols import BINARY, PLAIN, PLAIN_RESUMING, SUBPROTOCOLS, Subprotocols
from beaconfire_gateway.transports.websocket import (
    AiohttpBinaryWebSocket,
    AiohttpWebSocket,
    BinaryWebSocket,
    WebSocket,
)
from beaconfire_gateway.transports.websocket_opening import (
    MakesAiohttps,
    MakesOurs,
    WebSocketOpening,
    offered_subprotocols,
)
from beaconfire_gateway.wire.deflate import Agreement, MalformedOffer, negotiate
from beaconfire_kit.errors import BeaconfireError


class Handshake:
    """`GET /ws`. `compression` must be False on aiohttp's sockets."""

    def __init__(self, gateway: Gateway, admission: Admission, opening: WebSocketOpening, *, compression: bool) -> None:
        self._gateway = gateway
        self._admission = admission
        self._opening = opening
        self._subprotocols = Subprotocols(gateway.binary_fields)
        self._compresses = compression

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler. Answers 400, 403, 429 or 503, or does not return to aiohttp (or when all is over)."""
        accept = self._opening.check(request)
        offered = offered_subprotocols(request)
        subprotocol = self._subprotocols.choose(offered)
        if offered and subprotocol is None:
            self._admission.refuse("subprotocol")
            raise web.HTTPBadRequest(reason=f"offer the subprotocol {' or '.join(SUBPROTOCOLS)}, or none at all")
        try:
            agreement = self._agree(request)
        except MalformedOffer:
            self._admission.refuse("extensions")
            raise web.HTTPBadRequest(reason="malformed Sec-WebSocket-Extensions") from None
        if subprotocol is None:
            ours, aiohttps = self._plain(request, agreement)
        else:
            ours, aiohttps = self._native(request, agreement, subprotocol)
        return await self._opening.open(
            request,
            accept,
            ours=ours,
            aiohttps=aiohttps,
            subprotocol=subprotocol,
            extensions=None if agreement is None else agreement.response,
        )

    def _native(
        self, request: web.Request, agreement: Agreement | None, subprotocol: str
    ) -> tuple[MakesOurs, MakesAiohttps]:
        wire, token = self._subprotocols.wire(subprotocol, agreement), offered_token(request)
        is_binary = subprotocol in BINARY
        ours, aiohttps = (BinaryWebSocket, AiohttpBinaryWebSocket) if is_binary else (WebSocket, AiohttpWebSocket)
        return (
            partial(ours, self._gateway, wire, offered_token=token, inflates=agreement is not None),
            partial(aiohttps, self._gateway, wire, offered_token=token),
        )

    def _plain(self, request: web.Request, agreement: Agreement | None) -> tuple[MakesOurs, MakesAiohttps]:
        """A client that offers no subprotocol speaks the plain one. Its address says what `connect` says."""
        wire = self._subprotocols.wire(PLAIN_RESUMING if plain.resumes(request) else PLAIN, agreement)
        try:
            connect = plain.read_connect(request)
        except BeaconfireError:
            self._admission.refuse("query")
            raise
        return (
            partial(PlainWebSocket, self._gateway, wire, request=connect, inflates=agreement is not None),
            partial(AiohttpPlainWebSocket, self._gateway, wire, request=connect),
        )

    def _agree(self, request: web.Request) -> Agreement | None:
        """The agreement about compression; None for no compression. Raises MalformedOffer."""
        if not self._compresses:
            return None
        return negotiate(request.headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, []))
