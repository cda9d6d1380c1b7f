"""Serve a WebSocket after its handshake, on our own socket: read its frames, and pass their payloads on.

It knows no session: whatever speaks over a WebSocket says what a message is to it (`on_text`, `on_binary`).
"""

from beaconfire_gateway.sessions.connection import MIXED_IN
from beaconfire_gateway.transports.any_websocket import AnyWebSocket
from beaconfire_gateway.transports.socket_connection import SLOTS as SOCKET_SLOTS
from beaconfire_gateway.transports.socket_connection import SocketConnection
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.wire.deflate import InflatingReader
from beaconfire_gateway.wire.websocket_frames import FrameError, FrameReader, Opcode, decode_close, encode, encode_close
from beaconfire_kit import errors, logs

log = logs.get(__name__)

TOO_LARGE = 4413
PIECE_BYTES = 16_384
MAX_AFTER_CLOSE_BYTES = 262_144
"""Of what a client goes on sending while we wait for its answer to our close frame; the rest is thrown away unread."""
SLOTS = (*SOCKET_SLOTS, "_broken", "_controls_empty_at", "_inflates", "_read_after_close", "_reader")
"""The slots of a `WebSocketConnection`, which the class that mixes it in has to name."""
_TEXT, _BINARY, _CLOSE, _PING = (int(code) for code in (Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING))


class WebSocketConnection(AnyWebSocket, SocketConnection):
    """Reads frames, answers pings and close frames, and ends a connection whose bytes have no meaning.

    As `SocketConnection`, it is mixed in, and has no slots.
    """

    __slots__ = MIXED_IN

    _broken: bool
    _inflates: bool
    _read_after_close: int
    _reader: FrameReader | None
    """Reads a message that has not arrived as a whole. There is none between messages."""

    def _serve_websocket(self, sockets: Sockets, descriptor: int, *, inflates: bool) -> None:
        """As `_serve`. `inflates` says whether the client may compress its messages."""
        self._inflates = inflates
        self._broken = False
        self._read_after_close = 0
        self._controls_empty_at = 0.0
        self._reader = None
        self._serve(sockets, descriptor)

    # sockets.SocketProtocol.

    def data_received(self, data: bytes) -> None:
        # In pieces: bytes from before our 101 may hold 10,000 frames, and the limits end a flood after a few hundred.
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            if self._closing:
                self._read_after_close += len(piece)
                self._broken = self._broken or self._read_after_close > MAX_AFTER_CLOSE_BYTES
            if self._broken:
                return
            self._receive(piece)

    def connection_lost(self) -> None:
        self._reader = None  # a timer keeps the session for up to a heartbeat, but not its data
        super().connection_lost()

    def _close(self, code: int, reason: str) -> None:
        self._say_goodbye(encode_close(code, reason))

    # Frames.

    def _receive(self, data: bytes) -> None:
        try:
            messages, error = self._read(data)
            for opcode, payload in messages:
                self._handle(opcode, payload)
            if error is not None:
                raise error
        except FrameError as broken:
            self._break(broken)
        except Exception:
            # Raised further, the connection would be dropped without a close code.
            log.exception("could not handle a message", session=self.id)
            self.close(errors.internal(self.id))

    def _read(self, data: bytes) -> tuple[list[tuple[int, bytes]], FrameError | None]:
        """Return the messages that `data` completes, and what is wrong after them."""
        reader = self._reader or self._make_reader()
        self._reader = None
        try:
            messages = reader.feed(data)
        except FrameError as broken:
            return broken.before, broken
        if reader.is_inside:
            self._reader = reader
        return messages, None

    def _make_reader(self) -> FrameReader:
        make = InflatingReader if self._inflates else FrameReader
        return make(self.gateway.limits.max_frame_bytes, TOO_LARGE)

    def _break(self, error: FrameError) -> None:
        """End a connection after invalid bytes.

        Our side is ended. The other side is read and thrown away until it ends, too. If we closed at once, with bytes
        still on their way to us, a TCP reset could destroy our close frame. Then the client would not learn the reason.
        """
        self._broken = True
        if self._closing:
            return
        log.info("broken frame", session=self.id, code=error.code, reason=error.reason)
        self.lost()
        self._close(error.code, error.reason)
        if self._sockets.is_open(self._descriptor):
            self._sockets.end_writing(self._descriptor)

    def _handle(self, opcode: int, payload: bytes) -> None:
        if self._closing:
            if opcode == _CLOSE:
                self._sockets.abort(self._descriptor)  # the answer to ours
        elif opcode == _TEXT:
            try:
                payload.decode()
            except UnicodeDecodeError:
                raise FrameError(1007, "text is not UTF-8") from None  # RFC 6455 §8.1
            self.on_text(payload)
        elif opcode == _BINARY:
            self.on_binary(payload)
        elif opcode == _CLOSE:
            self._answer_close(payload)
        else:
            self._handle_control(opcode, payload)

    def _handle_control(self, opcode: int, payload: bytes) -> None:
        if self._may_send_control() and opcode == _PING:
            self._sockets.write(self._descriptor, encode(payload, Opcode.PONG))

    def _answer_close(self, payload: bytes) -> None:
        code, _ = decode_close(payload)
        self.lost()
        self._closing = True
        self._sockets.write(self._descriptor, encode_close(1000 if code == 1005 else code))
        self._sockets.abort(self._descriptor)
