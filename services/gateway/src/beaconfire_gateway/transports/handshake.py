"""The handshake: the checks before a request becomes a WebSocket, and the handing over to what serves it.

aiohttp does HTTP, routing and the checks before the upgrade. Then we go on with a file descriptor of our own
(`sockets`): aiohttp's transport is closed, and its request, parser, reader and task are freed (ADR 0018).
"""

import asyncio
import base64
import binascii
import hashlib
from typing import NoReturn

from aiohttp import hdrs, web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.limits import LIMITED, LimitReached
from beaconfire_gateway.transports import aiohttp_websocket
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.websocket import WebSocket
from beaconfire_gateway.wire.deflate import Agreement, DeflatedFrames, MalformedOffer, negotiate
from beaconfire_gateway.wire.framing import TextFrames
from beaconfire_gateway.wire.native import SUBPROTOCOL, Native
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import errors, logs, metrics
from beaconfire_kit.client_addresses import client_network
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.forwarding import ClientAddresses
from beaconfire_kit.seams.aiohttp_handover import Undrained, bytes_behind, let_go, take_over
from beaconfire_kit.web import HANDED_OVER, bearer_token

log = logs.get(__name__)

OPENED = metrics.Counter("beaconfire_gateway_connections_opened_total", "WebSocket connections opened.")
REFUSED = metrics.Counter(
    "beaconfire_gateway_handshakes_refused_total", "WebSocket handshakes refused, by reason.", ["reason"]
)

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
        *,
        allowed_origins: tuple[str, ...],
        addresses: ClientAddresses,
        max_buffer_bytes: int,
        compression: bool,
        sockets: Sockets | None,
    ) -> None:
        self._gateway = gateway
        self._dialect = Native()
        self._wire = Wire(self._dialect, TextFrames())
        self._deflated: dict[int | None, Wire] = {}  # by the size of the window
        self._compresses = compression and sockets is not None
        self._addresses = addresses
        self._origins = frozenset(allowed_origins)
        self._max_buffer_bytes = max_buffer_bytes
        self._sockets = sockets
        self._full = aiohttp_websocket.Full(gateway.spawn)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler. Answers 400, 403, 429 or 503, or does not return to aiohttp (or when all is over)."""
        if not self._is_allowed(request):
            self._refuse("origin")
            raise web.HTTPForbidden(reason="origin not allowed")
        accept = _accept_key(request)
        if accept is None:
            self._refuse("handshake")
            raise web.HTTPBadRequest(reason="expected a WebSocket handshake")
        if SUBPROTOCOL not in _tokens(request, hdrs.SEC_WEBSOCKET_PROTOCOL):
            self._refuse("subprotocol")
            raise web.HTTPBadRequest(reason=f"offer the subprotocol {SUBPROTOCOL}")
        try:
            agreement = self._agree(request)
        except MalformedOffer:
            self._refuse("extensions")
            raise web.HTTPBadRequest(reason="malformed Sec-WebSocket-Extensions") from None
        transport = request.transport
        if transport is None or transport.is_closing():
            raise asyncio.CancelledError
        address = client_network(self._addresses.of(request))
        self._enter(address)
        token = bearer_token(request) or request.query.get("token", "")
        if self._sockets is not None:
            self._take_over(self._sockets, request, accept, address, token, agreement)
        OPENED.inc()
        full_bytes = self._max_buffer_bytes // FULL_AT
        return await aiohttp_websocket.serve(
            self._gateway,
            self._wire,
            request,
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

    def _refuse(self, reason: str) -> None:
        REFUSED.labels(reason).inc()
        log.info("refused handshake", reason=reason)

    def _is_allowed(self, request: web.Request) -> bool:
        """No Origin: not a browser. Else it must be ours or a configured one, compared as a whole (T1)."""
        origins = request.headers.getall(hdrs.ORIGIN, [])
        if not origins:
            return True
        own = {f"{scheme}://{request.headers.get(hdrs.HOST, '')}" for scheme in ("http", "https")}
        return len(origins) == 1 and (origins[0] in self._origins or origins[0] in own)

    def _wire_of(self, agreement: Agreement | None) -> Wire:
        """The one wire for all connections that agreed on the same."""
        if agreement is None:
            return self._wire
        bits = agreement.window_bits
        wire = self._deflated.get(bits)
        if wire is None:
            wire = self._deflated[bits] = Wire(self._dialect, DeflatedFrames(bits))
        return wire

    def _enter(self, address: str) -> None:
        """Count it. Raises LimitReached."""
        try:
            self._gateway.door.enter(address)
        except LimitReached as reached:
            LIMITED.labels(reached.limit).inc()
            self._refuse(reached.limit)
            raise

    def _leave(self, address: str, reason: str) -> None:
        """Refuse a connection that was counted."""
        self._gateway.door.leave(address, was_connected=False)
        self._refuse(reason)

    def _take_over(
        self,
        sockets: Sockets,
        request: web.Request,
        accept: str,
        address: str,
        token: str,
        agreement: Agreement | None,
    ) -> NoReturn:
        """Answer 101 on a socket of our own. No await from here on: no byte can come in between."""
        transport = request.transport
        assert transport is not None
        try:
            connection = WebSocket(
                self._gateway,
                self._wire_of(agreement),
                sockets,
                take_over(transport),
                address=address,
                offered_token=token,
                inflates=agreement is not None,
            )
        except Undrained:
            self._leave(address, "unread")
            raise web.HTTPBadRequest(reason="read the answers to earlier requests first") from None
        except OSError as error:
            self._leave(address, "files")
            log.warning("could not take a connection over", error=str(error))
            raise BeaconfireError(errors.UNAVAILABLE, "no room for more connections, try again") from None
        transport.pause_reading()
        sockets.write(connection.target, _switching(accept, agreement))
        OPENED.inc()
        early = bytes_behind(request)  # sent before our 101: allowed by no RFC, and cheap to accept
        if early:
            connection.data_received(early)
        request[HANDED_OVER] = True
        let_go()


def _switching(accept: str, agreement: Agreement | None) -> bytes:
    """The answer that ends HTTP on a connection (RFC 6455 §4.2.2)."""
    extensions = f"Sec-WebSocket-Extensions: {agreement.response}\r\n" if agreement else ""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n{extensions}\r\n"
    ).encode()


def _accept_key(request: web.Request) -> str | None:
    """`Sec-WebSocket-Accept` (RFC 6455 §4.2.2), or None where the request is no proper handshake (§4.2.1)."""
    keys = request.headers.getall(hdrs.SEC_WEBSOCKET_KEY, [])
    upgrades = request.headers.getall(hdrs.UPGRADE, [])
    versions = request.headers.getall(hdrs.SEC_WEBSOCKET_VERSION, [])
    if request.version < (1, 1) or len(upgrades) != 1 or upgrades[0].lower() != "websocket":
        return None
    if "upgrade" not in _tokens(request, hdrs.CONNECTION) or versions != ["13"] or len(keys) != 1:
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
    """The comma-separated tokens of a header, lower-cased."""
    return [token.strip().lower() for value in request.headers.getall(header, []) for token in value.split(",")]
