"""The WebSocket edge: the upgrade, and a connection of our own on the transport aiohttp hands over.

aiohttp does HTTP, routing and the checks before the upgrade; then `transport.set_protocol` puts `Connection` in its
place, and aiohttp's request, parser, reader and task are freed: 14 → 1.6 KiB a connection (ADR 0005). What it leans on
beyond asyncio's API (`request.protocol`, its `transport` attribute and `connection_lost`) is pinned by
`tests/gateway/test_websocket.py`.
"""

import asyncio
import base64
import binascii
import hashlib
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from aiohttp import hdrs, web

from services.gateway import protocol
from services.gateway.context import Context
from services.gateway.deflate import Agreement, Deflater, InflatingReader, MalformedOffer, negotiate
from services.gateway.frames import FrameError, FrameReader, Opcode, decode_close, encode, encode_close
from services.gateway.limits import LIMITED, LimitReached, spend
from services.gateway.plain import CLOSE_TIMEOUT_S, CONTROL_PER_MINUTE, Full, PlainConnection
from services.gateway.session import Session
from shared import errors, logs
from shared.addresses import Network, client_address, household
from shared.errors import BeaconfireError
from shared.metrics import Counter
from shared.web import HANDED_OVER

log = logs.get(__name__)

OPENED = Counter("gateway_connections_total", "WebSocket connections opened")
REFUSED = Counter("gateway_handshakes_refused_total", "WebSocket handshakes refused, by reason", ["reason"])

TOO_LARGE = 4413
FULL_AT = 4
"""A socket is full at this part of the memory a session may take. On top of it come one write and the one event that
goes beyond it, messages that wait for an answer, and one that has not arrived as a whole: a quarter each, at most."""
PIECE_BYTES = 16_384
MAX_AFTER_CLOSE_BYTES = 262_144
"""Of what a client goes on sending while we wait for its answer to our close frame; the rest is thrown away unread."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_TEXT, _BINARY, _CLOSE, _PING = (int(code) for code in (Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING))


class Connection(asyncio.Protocol):
    """A WebSocket after its handshake: frames in, the session's bytes out."""

    __slots__ = (
        "_broken",
        "_closing",
        "_context",
        "_controls_empty_at",
        "_read_after_close",
        "_reader",
        "_session",
        "_transport",
        "paused",
        "write",
    )

    def __init__(
        self,
        context: Context[Session],
        transport: Any,
        *,
        address: str,
        max_buffer_bytes: int,
        offered_token: str,
        deflater: Deflater | None = None,
    ) -> None:
        self._context = context
        self._transport = transport
        self._closing = False
        self._broken = False
        self._read_after_close = 0
        self._controls_empty_at = 0.0
        self._reader = (InflatingReader if deflater else FrameReader)(context.limits.max_frame_bytes, TOO_LARGE)
        self.paused = False
        self.write = deflater.writing(transport.write) if deflater else transport.write
        transport.set_write_buffer_limits(high=max_buffer_bytes // FULL_AT)
        self._session = Session(context, self, address=address, offered_token=offered_token)

    # asyncio.Protocol.

    def data_received(self, data: bytes) -> None:
        # In pieces: a read may hold 40,000 frames, and the limits end a flood after the first few hundred of them.
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            if self._closing:
                self._read_after_close += len(piece)
                self._broken = self._broken or self._read_after_close > MAX_AFTER_CLOSE_BYTES
            if self._broken:
                return
            self._receive(piece)

    def _receive(self, data: bytes) -> None:
        try:
            try:
                messages, error = self._reader.feed(data), None
            except FrameError as broken:
                messages, error = broken.before, broken
            for opcode, payload in messages:
                self._take(opcode, payload)
            if error is not None:
                raise error
        except FrameError as broken:
            self._break(broken)
        except Exception:
            # Out of here asyncio would drop the connection without a word.
            log.exception("could not take a message", session=self._session.id)
            why = f"something went wrong on our side; quote {self._session.id}"
            self._session.close(BeaconfireError(errors.INTERNAL, why))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._session.lost()
        self._context.door.leave(self._session.address, was_connected=bool(self._session.user_id))
        del self._session  # they know each other: only so are both freed at once, without the garbage collector

    def pause_writing(self) -> None:
        # A client that does not read is not listened to either: else its pings' answers would pile up.
        self.paused = True
        self._transport.pause_reading()
        self._session.full()

    def resume_writing(self) -> None:
        self.paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._session.drained()

    # context.Wire.

    def close(self, code: int, reason: str) -> None:
        """Start the close handshake (RFC 6455 §7.1.2). A stuck peer is not waited for."""
        if self._closing:
            return
        self._closing = True
        if self.paused or self._transport.is_closing():
            self._transport.abort()
            return
        self.write(encode_close(code, reason))
        self._context.wheel.after(CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        """Drop the connection at once."""
        self._closing = True
        self._transport.abort()

    def _break(self, error: FrameError) -> None:
        """End a connection whose bytes mean nothing any more.

        Our side is ended; the other is read and thrown away until it ends, too: closed at once, with bytes still on
        their way to us, TCP would take the close frame back (a reset), and the client would not learn why.
        """
        self._broken = True
        if self._closing:
            return
        log.info("broken frame", session=self._session.id, code=error.code, reason=error.reason)
        self._session.lost()
        self.close(error.code, error.reason)
        if not self._transport.is_closing():
            self._transport.write_eof()

    def _take(self, opcode: int, payload: bytes) -> None:
        if self._closing:
            if opcode == _CLOSE:
                self._transport.close()  # the answer to ours
        elif opcode == _TEXT:
            try:
                payload.decode()
            except UnicodeDecodeError:
                raise FrameError(1007, "text is not UTF-8") from None  # RFC 6455 §8.1
            self._session.receive(payload)
        elif opcode == _BINARY:
            raise FrameError(1003, "binary messages are not part of the protocol")
        elif opcode == _CLOSE:
            self._answer_close(payload)
        else:
            self._take_control(opcode, payload)

    def _take_control(self, opcode: int, payload: bytes) -> None:
        self._controls_empty_at, wait_s = spend(self._controls_empty_at, 1, CONTROL_PER_MINUTE, time.monotonic())
        if wait_s:
            self._session.close(BeaconfireError(errors.TOO_MANY, f"at most {CONTROL_PER_MINUTE} pings a minute"))
            return
        self._session.heard()
        if opcode == _PING:
            self.write(encode(payload, Opcode.PONG))

    def _answer_close(self, payload: bytes) -> None:
        code, _ = decode_close(payload)
        self._session.lost()
        self._closing = True
        self.write(encode_close(1000 if code == 1005 else code))
        self._transport.close()


class Handshake:
    """`GET /ws`: everything that is checked before the upgrade, and the handing over."""

    def __init__(
        self,
        context: Context[Session],
        *,
        allowed_origins: tuple[str, ...],
        trusted_proxies: Sequence[Network],
        max_buffer_bytes: int,
        compression: bool,
        hands_over: bool,
    ) -> None:
        self._context = context
        self._deflaters: dict[int | None, Deflater] | None = {} if compression else None
        self._trusted_proxies = trusted_proxies
        self._hinted = False
        self._origins = frozenset(allowed_origins)
        self._max_buffer_bytes = max_buffer_bytes
        self._hands_over = hands_over
        self._full = Full(context.spawn)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler. Answers 400, 403 or 429, or does not return to aiohttp at all (or when all is over)."""
        if not self._is_allowed(request):
            self._refuse("origin")
            raise web.HTTPForbidden(reason="origin not allowed")
        accept = _accept_key(request)
        if accept is None:
            self._refuse("handshake")
            raise web.HTTPBadRequest(reason="expected a WebSocket handshake")
        if protocol.SUBPROTOCOL not in _tokens(request, hdrs.SEC_WEBSOCKET_PROTOCOL):
            self._refuse("subprotocol")
            raise web.HTTPBadRequest(reason=f"offer the subprotocol {protocol.SUBPROTOCOL}")
        try:
            agreement = self._agree(request)
        except MalformedOffer:
            self._refuse("extensions")
            raise web.HTTPBadRequest(reason="malformed Sec-WebSocket-Extensions") from None
        if request.transport is None or request.transport.is_closing():
            raise asyncio.CancelledError
        address = self._address(request)
        self._enter(address)
        token = _bearer(request) or request.query.get("token", "")
        if self._hands_over:
            self._hand_over(request, accept, address, token, agreement)
        OPENED.inc()
        connection = PlainConnection(self._context, self._max_buffer_bytes // FULL_AT, self._full)
        return await connection.serve(request, address=address, offered_token=token)

    def _agree(self, request: web.Request) -> Agreement | None:
        """What is agreed about compression. Raises MalformedOffer."""
        if self._deflaters is None:
            return None
        return negotiate(request.headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, []))

    def _address(self, request: web.Request) -> str:
        """What the client counts under: its address, as a proxy of ours says it where it came through one."""
        forwarded = request.headers.getall(hdrs.X_FORWARDED_FOR, [])
        if forwarded and not self._trusted_proxies and not self._hinted:
            self._hinted = True
            log.warning("all clients of a proxy count as one address: name it in BEACONFIRE_TRUSTED_PROXIES")
        return household(client_address(request.remote, forwarded, self._trusted_proxies))

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

    def _deflater(self, agreement: Agreement | None) -> Deflater | None:
        if agreement is None or self._deflaters is None:
            return None
        bits = agreement.window_bits
        return self._deflaters.get(bits) or self._deflaters.setdefault(bits, Deflater(bits))

    def _enter(self, address: str) -> None:
        """Count it. Raises LimitReached."""
        try:
            self._context.door.enter(address)
        except LimitReached as reached:
            LIMITED.labels(reached.limit).inc()
            self._refuse(reached.limit)
            raise

    def _hand_over(
        self, request: web.Request, accept: str, address: str, token: str, agreement: Agreement | None
    ) -> NoReturn:
        """Answer 101 and take the transport. No await from here on: no byte can come in between."""
        transport, aiohttp_protocol = request.transport, request.protocol
        assert transport is not None
        request[HANDED_OVER] = True
        transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n%s\r\n"
            % (accept.encode(), protocol.SUBPROTOCOL.encode(), _extensions(agreement))
        )
        connection = Connection(
            self._context,
            transport,
            address=address,
            max_buffer_bytes=self._max_buffer_bytes,
            offered_token=token,
            deflater=self._deflater(agreement),
        )
        early = aiohttp_protocol._message_tail  # sent before our 101: allowed by no RFC, and cheap to accept
        transport.set_protocol(connection)
        # To aiohttp the connection has ended: it drops request, parser and task.
        aiohttp_protocol.transport = None
        aiohttp_protocol.connection_lost(None)
        OPENED.inc()
        if early:
            connection.data_received(early)
        raise asyncio.CancelledError


def _accept_key(request: web.Request) -> str | None:
    """`Sec-WebSocket-Accept` (RFC 6455 §4.2.2), or None where the request is no proper handshake (§4.2.1)."""
    keys = request.headers.getall(hdrs.SEC_WEBSOCKET_KEY, [])
    upgrades = request.headers.getall(hdrs.UPGRADE, [])
    versions = request.headers.getall(hdrs.SEC_WEBSOCKET_VERSION, [])
    if request.version < (1, 1) or len(upgrades) != 1 or upgrades[0].lower() != "websocket":
        return None
    if "upgrade" not in _tokens(request, hdrs.CONNECTION) or versions != ["13"] or len(keys) != 1:
        return None
    if hdrs.CONTENT_LENGTH in request.headers or hdrs.TRANSFER_ENCODING in request.headers:
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


def _extensions(agreement: Agreement | None) -> bytes:
    """The header line that says what was agreed."""
    return b"" if agreement is None else b"Sec-WebSocket-Extensions: %s\r\n" % agreement.response.encode()


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
