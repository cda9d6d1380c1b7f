"""The upgrade of a request to a WebSocket (RFC 6455 §4.2), whatever protocol is spoken over it."""

import base64
import binascii
import hashlib

from aiohttp import hdrs, web

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


def accept_key(request: web.Request) -> str | None:
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


def switching(accept: str, *, subprotocol: str | None = None, extensions: str | None = None) -> bytes:
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
