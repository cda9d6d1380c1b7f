"""permessage-deflate (RFC 7692), without context takeover on either side. No I/O.

Every message is compressed on its own. So an event is compressed once for all clients that negotiated it, and a
connection keeps no compressor. No message holds a secret next to text that others chose, so its length reveals no
secret.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.websocket_frames import FrameError, FrameReader, Opcode, header
from beaconfire_kit import metrics

DEFLATED = metrics.Counter(
    "beaconfire_gateway_frames_compressed_total",
    "Frames compressed. A frame is compressed once for all sessions that receive it.",
)

MIN_BYTES = 96
"""A shorter frame is sent as it is: it would hardly get smaller."""
LEVEL = 1
"""Measured on events of 200 to 2,000 bytes: higher levels take up to twice the time for a percent or two."""
MAX_STREAMS = 16
"""A message in more deflate streams than this (BFINAL, §7.2.3.4) is an attack: one costs two bytes."""
MAX_OFFER_CHARACTERS = 1_024
MAX_OFFERS = 16
"""Browsers send one offer of 60 characters. A longer header is not read, and the connection is not compressed."""

_TAIL = b"\x00\x00\xff\xff"  # §7.2.1
_RSV1 = 0x40
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SPACE = " \t"
_WINDOW_BITS = re.compile(r"[89]|1[0-5]")  # §7.1.2: no leading zero
_OWN_BITS = re.compile(r"9|1[0-5]")  # zlib makes no raw stream with a window of 8 bits

Parameters = Sequence[tuple[str, str | None]]


class MalformedOffer(Exception):
    """The header is not a list of extensions, so the handshake must fail (RFC 6455 §9.1)."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """The negotiated parameters. `window_bits` is the client's bound on our compression window, if it has one."""

    window_bits: int | None = None

    @property
    def response(self) -> str:
        """Return the value of `Sec-WebSocket-Extensions` for it."""
        bound = "" if self.window_bits is None else f"; server_max_window_bits={self.window_bits}"
        return f"permessage-deflate; server_no_context_takeover; client_no_context_takeover{bound}"


def negotiate(headers: Sequence[str]) -> Agreement | None:
    """The first offer in `Sec-WebSocket-Extensions` that can be accepted, None for none. Raises MalformedOffer.

    More offers than `MAX_OFFERS`, or longer ones than `MAX_OFFER_CHARACTERS` together, are declined unread.
    """
    if sum(map(len, headers)) > MAX_OFFER_CHARACTERS:
        return None
    # A value with a comma or a semicolon in it is not a token, quoted or not. If it is cut there, it is still
    # malformed.
    elements = [part.strip(_SPACE) for header in headers for part in header.split(",")]
    offers = [_read_offer(element) for element in elements if element]
    if len(offers) > MAX_OFFERS:
        return None
    return next((agreed for name, asked in offers if (agreed := _accept(name, asked)) is not None), None)


def _read_offer(text: str) -> tuple[str, Parameters]:
    name, *parameters = text.split(";")
    return _token(name), [_read_parameter(parameter) for parameter in parameters]


def _read_parameter(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    value = value.strip(_SPACE)
    if len(value) > 2 and value[0] == value[-1] == '"':
        value = value[1:-1]  # RFC 6455 §9.1: a quoted one has to be a token, too
    return _token(name), _token(value) if equals else None


def _token(text: str) -> str:
    token = text.strip(_SPACE)
    if not _TOKEN.fullmatch(token):
        raise MalformedOffer
    return token


def _accept(name: str, parameters: Parameters) -> Agreement | None:
    """RFC 7692 §7.1: an offer with a parameter that is unknown, wrong or there twice is declined."""
    asked = dict(parameters)
    if name != "permessage-deflate" or len(asked) < len(parameters):
        return None
    bound = asked.pop("server_max_window_bits", "")
    if bound is None or (bound and not _OWN_BITS.fullmatch(bound)):
        return None
    theirs = asked.pop("client_max_window_bits", None)
    if theirs is not None and not _WINDOW_BITS.fullmatch(theirs):
        return None
    flags = ("server_no_context_takeover", "client_no_context_takeover")
    if any(flag not in flags or value is not None for flag, value in asked.items()):
        return None
    return Agreement(int(bound) if bound else None)


class DeflatedFrames:
    """Implements `framing.Framing`: one compressed frame for each payload that is worth it, text or binary.

    One for each size of window, for all connections that negotiated it.
    """

    def __init__(self, window_bits: int | None = None, opcode: Opcode = Opcode.TEXT) -> None:
        self._window_bits = window_bits or zlib.MAX_WBITS
        self._opcode = int(opcode)

    def frame(self, payload: Spliced, content: object) -> Spliced:
        before, body, after = payload
        plain = header(len(before) + len(body) + len(after), self._opcode) + before
        size = len(plain) + len(body) + len(after)
        if size >= MIN_BYTES:
            deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -self._window_bits)
            text = b"".join([*map(deflate.compress, payload), deflate.flush(zlib.Z_SYNC_FLUSH)]).removesuffix(_TAIL)
            head = header(len(text), _RSV1 | self._opcode)
            if len(head) + len(text) < size:
                DEFLATED.inc()
                return head, text, b""
        return plain, body, after


class InflatingReader(FrameReader):
    """A reader for a client that may compress its messages. `max_bytes` bounds them inflated, too."""

    __slots__ = ("_is_deflated",)

    def __init__(self, max_bytes: int, too_large_code: int = 1009) -> None:
        super().__init__(max_bytes, too_large_code)
        self._is_deflated = False

    def _check_reserved(self, first: int) -> None:
        """RSV1 marks a compressed message. It is allowed only on the first frame of a data message (§6, §7.2.3)."""
        if first & 0x30:
            raise FrameError(1002, "reserved bits are set and no extension was negotiated")
        if first & 0x0F not in (Opcode.TEXT, Opcode.BINARY):
            raise FrameError(1002, "RSV1 is for the first frame of a message")
        self._is_deflated = True

    def _accept(self, opcode: int, final: bool, payload: bytes) -> tuple[int, bytes] | None:
        message = super()._accept(opcode, final, payload)
        if message is None or not self._is_deflated or opcode >= Opcode.CLOSE:
            return message
        self._is_deflated = False
        return message[0], self._inflate(message[1])

    def _inflate(self, data: bytes) -> bytes:
        """The message, of at most `max_bytes`: no more than that is ever inflated. Raises FrameError."""
        data += _TAIL
        inflated = b""
        for _ in range(MAX_STREAMS):
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                inflated += inflate.decompress(data, self._max_bytes - len(inflated) + 1)
            except zlib.error:
                raise FrameError(1007, "the message is not compressed as permessage-deflate does") from None
            if len(inflated) > self._max_bytes:
                raise FrameError(self._too_large_code, f"a message has at most {self._max_bytes} bytes")
            data = inflate.unused_data  # a final block ended this stream
            if not data:
                return inflated
        raise FrameError(1007, f"a message has at most {MAX_STREAMS} final blocks")
