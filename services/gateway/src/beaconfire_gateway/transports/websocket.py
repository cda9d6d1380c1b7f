"""A WebSocket after its handshake, on a socket of ours: RFC 6455's frames in, the session's bytes out."""

import time

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.sessions.timers import Call
from beaconfire_gateway.transports.aiohttp_websocket import CLOSE_TIMEOUT_S, CONTROL_PER_MINUTE
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.wire.deflate import InflatingReader
from beaconfire_gateway.wire.websocket_frames import FrameError, FrameReader, Opcode, decode_close, encode, encode_close
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import errors, logs
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.rates import spend

log = logs.get(__name__)

TOO_LARGE = 4413
PIECE_BYTES = 16_384
MAX_AFTER_CLOSE_BYTES = 262_144
"""Of what a client goes on sending while we wait for its answer to our close frame; the rest is thrown away unread."""
_TEXT, _BINARY, _CLOSE, _PING = (int(code) for code in (Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING))
_PING_FRAME = encode(b"", Opcode.PING)


class WebSocket(Session):
    """A session over a socket of `sockets`, and its connection in the same object: one object less for each client.

    It owns the file descriptor, which is its target. Implements `session.Connection` and `sockets.SocketProtocol`.
    Raises OSError if the descriptor cannot be served; it is closed then. `inflates` says whether the client may
    compress its messages.
    """

    __slots__ = (
        "_broken",
        "_closing",
        "_controls_empty_at",
        "_descriptor",
        "_inflates",
        "_read_after_close",
        "_reader",
        "_sockets",
    )

    def __init__(
        self,
        gateway: Gateway,
        wire: Wire,
        sockets: Sockets,
        descriptor: int,
        *,
        address: str,
        offered_token: str,
        inflates: bool = False,
    ) -> None:
        self._sockets = sockets
        self._descriptor = descriptor
        self._inflates = inflates
        self._closing = False
        self._broken = False
        self._read_after_close = 0
        self._controls_empty_at = 0.0
        self._reader: FrameReader | None = None  # of a message that has not arrived as a whole
        sockets.add(descriptor, self)
        super().__init__(gateway, wire, address=address, offered_token=offered_token)

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
        self._closing = True
        gateway, sockets, descriptor = self.gateway, self._sockets, self._descriptor
        self._descriptor = -1  # none: the number is another's soon, and a timer may still call `abort`
        self._reader = None  # a timer keeps the session for up to a heartbeat, but nothing of what it sent
        try:
            self.lost()
            if not self.user_id:  # else it left when the session ended
                gateway.door.leave(self.address, was_connected=False)
        finally:
            gateway.outbound.after(lambda: sockets.release(descriptor))

    def pause_writing(self) -> None:
        # A client that does not read is not listened to either: else its pings' answers would pile up.
        self.full()

    def resume_writing(self) -> None:
        self.drained()

    # session.Connection.

    @property
    def connection(self) -> "WebSocket":
        return self

    @property
    def target(self) -> int:
        """The file descriptor; -1 when the connection is gone."""
        return self._descriptor

    @property
    def is_full(self) -> bool:
        """Whether bytes wait for its socket to take more."""
        return self._sockets.waiting(self._descriptor) > 0

    def write(self, data: bytes) -> None:
        """Write whole frames, now; nothing once it is closed."""
        if self.state is not State.CLOSED:
            self._sockets.write(self._descriptor, data)

    def ping(self, data: bytes = b"") -> None:
        self.write(_PING_FRAME + data)

    def hang_up(self, code: int, reason: str) -> None:
        """Start the close handshake (RFC 6455 §7.1.2). A stuck peer is not waited for."""
        if self._closing or self._descriptor < 0:
            return
        self._closing = True
        self._sockets.write(self._descriptor, encode_close(code, reason))
        if self.is_full:
            self._sockets.abort(self._descriptor)
            return
        self._sockets.mute(self._descriptor)  # what is queued for it must not follow the close frame
        self.gateway.timers.after(CLOSE_TIMEOUT_S, Call(self.abort))

    def abort(self) -> None:
        """Drop the connection at once."""
        self._closing = True
        self._sockets.abort(self._descriptor)

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
            why = f"something went wrong on our side; quote {self.id}"
            self.close(BeaconfireError(errors.INTERNAL, why))

    def _read(self, data: bytes) -> tuple[list[tuple[int, bytes]], FrameError | None]:
        """The messages that `data` completes, and what is wrong after them. Between messages there is no reader."""
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
        """End a connection whose bytes have no meaning any more.

        Our side is ended. The other side is read and thrown away until it ends, too: if we closed at once, with bytes
        still on their way to us, a TCP reset would take our close frame back, and the client would not learn why.
        """
        self._broken = True
        if self._closing:
            return
        log.info("broken frame", session=self.id, code=error.code, reason=error.reason)
        self.lost()
        self.hang_up(error.code, error.reason)
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
            self.receive(payload)
        elif opcode == _BINARY:
            raise FrameError(1003, "binary messages are not part of the protocol")
        elif opcode == _CLOSE:
            self._answer_close(payload)
        else:
            self._handle_control(opcode, payload)

    def _handle_control(self, opcode: int, payload: bytes) -> None:
        self._controls_empty_at, wait_s = spend(self._controls_empty_at, 1, CONTROL_PER_MINUTE, time.monotonic())
        if wait_s:
            self.close(BeaconfireError(errors.TOO_MANY, f"at most {CONTROL_PER_MINUTE} pings a minute"))
            return
        self.heard()
        if opcode == _PING:
            self._sockets.write(self._descriptor, encode(payload, Opcode.PONG))

    def _answer_close(self, payload: bytes) -> None:
        code, _ = decode_close(payload)
        self.lost()
        self._closing = True
        self._sockets.write(self._descriptor, encode_close(1000 if code == 1005 else code))
        self._sockets.abort(self._descriptor)
