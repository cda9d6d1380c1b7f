"""Do the WebSocket handshake: check the request, and hand its socket over to the code that serves it.

aiohttp does HTTP, routing and the checks before the upgrade. Then we continue with our own file descriptor (`sockets`).
aiohttp's transport is closed, and its request, parser, reader and task are freed (ADR 0018).
"""

import asyncio
import base64
import binascii
import hashlib
from functools import partial

from aiohttp import hdrs, web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports import aiohttp_websocket
from beaconfire_gateway.transports.admission import OPENED, Admission, offered_token
from beaconfire_gateway.transports.handover import hand_over
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.subprotocols import DIALECTS, Subprotocols
from beaconfire_gateway.transports.websocket import WebSocket
from beaconfire_gateway.wire.deflate import Agreement, MalformedOffer, negotiate

FULL_AT = 4
"""A socket of aiohttp's is full at this part of the memory a session may take. On top of it come one write and the one
event that goes beyond it, messages that wait for an answer, and one that has not arrived as a whole: a quarter each, at
most."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


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
        accept = _accept_key(request)
        if accept is None:
            self._admission.refuse("handshake")
            raise web.HTTPBadRequest(reason="expected a WebSocket handshake")
        subprotocol = self._subprotocols.choose(_tokens(request, hdrs.SEC_WEBSOCKET_PROTOCOL))
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
            hand_over(request, self._admission, address, make, _switching(accept, subprotocol, agreement))
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


def _switching(accept: str, subprotocol: str, agreement: Agreement | None) -> bytes:
    """The answer that ends HTTP on a connection (RFC 6455 §4.2.2)."""
    extensions = f"Sec-WebSocket-Extensions: {agreement.response}\r\n" if agreement else ""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n{extensions}\r\n"
    ).encode()


def _accept_key(request: web.Request) -> str | None:
    """Return `Sec-WebSocket-Accept` (RFC 6455 §4.2.2), or None if the request is not a valid handshake (§4.2.1)."""
    keys = request.headers.getall(hdrs.SEC_WEBSOCKET_KEY, [])
    upgrades = request.headers.getall(hdrs.UPGRADE, [])
    versions = request.headers.getall(hdrs.SEC_WEBSOCKET_VERSION, [])
    if request.version < (1, 1) or len(upgrades) != 1 or upgrades[0].lower() != "websocket":
        return None
    connection = [token.lower() for token in _tokens(request, hdrs.CONNECTION)]
    if "upgrade" not in connection or versions != ["13"] or len(keys) != 1:
        return None
    if request.body_exists:
        return None  # a body before the upgrade is how requests are smuggled
    try:
        if len(base64.b64decode(keys[0], validate=True)) != 16:
            return None
    except (binascii.Error, ValueError):
        return None
    return base64.b64encode(hashlib.sha1(keys[0].encode() + _GUID, usedforsecurity=False).digest()).decode()


def _tokens(request: web.Request, header: str) -> list[str]:
    """The comma-separated tokens of a header."""
    return [token.strip() for value in request.headers.getall(header, []) for token in value.split(",")]
