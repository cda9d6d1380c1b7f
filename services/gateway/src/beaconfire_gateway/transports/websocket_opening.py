"""The opening handshake of WebSockets (RFC 6455 §4.2): a request becomes a connection, whatever protocol it speaks.

accept = opening.check(request)
# further checks of the protocol
return await opening.open(request, accept, ours=partial(WebSocket, …), aiohttps=partial(AiohttpWebSocket, …))
"""

import asyncio
import base64
import binascii
import hashlib
from typing import Protocol

from aiohttp import hdrs, web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports.admission import OPENED, Admission
from beaconfire_gateway.transports.aiohttp_websocket_connection import AiohttpSocket, AiohttpWebSocketConnection, serve
from beaconfire_gateway.transports.handover import hand_over
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.websocket_connection import WebSocketConnection
from beaconfire_gateway.transports.write_buffers import WriteBuffers

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


class MakesOurs(Protocol):
    """Makes the connection on a socket of ours. Raises OSError if the descriptor cannot be served."""

    def __call__(self, sockets: Sockets, descriptor: int, /, *, address: str) -> WebSocketConnection: ...


class MakesAiohttps(Protocol):
    """Makes the connection on a socket that aiohttp serves."""

    def __call__(self, socket: AiohttpSocket, /, *, address: str) -> AiohttpWebSocketConnection: ...


class WebSocketOpening:
    """Opens WebSockets on sockets of ours, or on aiohttp's if there are no `sockets`. One for all protocols."""

    def __init__(
        self, gateway: Gateway, admission: Admission, *, sockets: Sockets | None, buffers: WriteBuffers
    ) -> None:
        self._gateway = gateway
        self._admission = admission
        self._sockets = sockets
        self._buffers = buffers

    def check(self, request: web.Request) -> str:
        """Return the key for `open`. Raises HTTPForbidden or HTTPBadRequest, and logs and counts the refusal."""
        self._admission.check_origin(request)
        accept = _accept_key(request)
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
            head = _switching(accept, subprotocol=subprotocol, extensions=extensions) + first
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
            buffers=self._buffers,
        )


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


def offered_subprotocols(request: web.Request) -> list[str]:
    """The subprotocols that the client speaks, in the order that it prefers. Their names are case-sensitive."""
    return _tokens(request, hdrs.SEC_WEBSOCKET_PROTOCOL)


def _switching(accept: str, *, subprotocol: str | None = None, extensions: str | None = None) -> bytes:
    """The head of the answer that ends HTTP on a connection. Without a subprotocol, clients must offer none."""
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept}",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    if extensions is not None:
        lines.append(f"Sec-WebSocket-Extensions: {extensions}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _tokens(request: web.Request, header: str) -> list[str]:
    """The comma-separated tokens of a header."""
    return [token.strip() for value in request.headers.getall(header, []) for token in value.split(",")]
