"""Read and write WebSocket frames (RFC 6455), server side. No I/O."""

from enum import IntEnum
from functools import lru_cache
from struct import Struct

_EMPTY = b""
_MEDIUM, _LARGE = Struct("!BBH"), Struct("!BBQ")
"""§5.2: the first two bytes, and a length of more than 125, or of more than 65,535."""


class Opcode(IntEnum):
    """RFC 6455 §5.2."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


# Opcode's members as plain numbers: `feed` compares one for every frame.
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = (int(opcode) for opcode in Opcode)

MAX_CONTROL_BYTES = 125  # §5.5
MAX_FRAGMENTS = 256
"""A message in more pieces than this is an attack: 100,000 empty fragments cost no bytes."""

# The codes that a peer may send (§7.4.1 and the IANA registry). 1004 to 1006 and 1015 are never on the wire.
_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class FrameError(Exception):
    """The peer broke the protocol or a limit: the connection is to be closed with `code`.

    `before` are the messages that were whole before it did, in the same bytes: they were right, and are to be answered.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason
        self.before: list[tuple[int, bytes]] = []


@lru_cache(maxsize=4_096)
def header(length: int, opcode: int = _TEXT) -> bytes:
    """The header of an unfragmented server frame with a payload of `length` bytes. Servers do not mask (§5.1)."""
    if length < 126:
        return bytes((0x80 | opcode, length))
    if length < 65536:
        return _MEDIUM.pack(0x80 | opcode, 126, length)
    return _LARGE.pack(0x80 | opcode, 127, length)


def encode(payload: bytes, opcode: int = _TEXT) -> bytes:
    """One unfragmented server frame."""
    return header(len(payload), opcode) + payload


def encode_close(code: int, reason: str = "") -> bytes:
    """A close frame. The reason is cut to what a control frame holds (123 bytes of UTF-8)."""
    text = reason.encode()[: MAX_CONTROL_BYTES - 2].decode(errors="ignore")
    return encode(code.to_bytes(2, "big") + text.encode(), _CLOSE)


def decode_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame; 1005 where it has none. Raises FrameError."""
    if not payload:
        return 1005, ""
    if len(payload) == 1:
        raise FrameError(1002, "a close frame has no body or at least a code")
    code = int.from_bytes(payload[:2], "big")
    if code not in _CLOSE_CODES and not 3000 <= code <= 4999:
        raise FrameError(1002, f"{code} is not a close code")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(1007, "the close reason is not UTF-8") from None


class FrameReader:
    """Reads a client's frames. Between messages it has no state (`is_inside`), and a new reader works as well.

    `max_bytes` bounds a message, whole or in fragments; it is checked on the declared length, before anything of that
    size is buffered. `too_large_code` is the close code for going over it.
    """

    __slots__ = ("_buffer", "_fragments", "_max_bytes", "_needed", "_opcode", "_size", "_too_large_code")

    def __init__(self, max_bytes: int, too_large_code: int = 1009) -> None:
        self._max_bytes = max_bytes
        self._too_large_code = too_large_code
        self._buffer: bytes | bytearray = _EMPTY
        self._needed = 0
        self._fragments: list[bytes] | None = None
        self._opcode = 0
        self._size = 0

    @property
    def is_inside(self) -> bool:
        """Whether it holds part of a frame or of a message."""
        return bool(self._buffer) or self._fragments is not None

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The messages that `data` completes: (opcode, payload), TEXT, BINARY or control. Raises FrameError.

        Text is not decoded here: `payload.decode()` is the check of §8.1, at the place that needs the text.
        """
        messages: list[tuple[int, bytes]] = []
        if self._buffer:
            self._buffer += data  # in place, and not looked at before it can be a frame: a client may send byte by byte
            if len(self._buffer) < self._needed:
                return messages
            data = bytes(self._buffer)
        try:
            self._read(data, messages)
        except FrameError as error:
            error.before = messages
            raise
        return messages

    def _read(self, data: bytes, messages: list[tuple[int, bytes]]) -> None:
        position, end, needed = 0, len(data), 0
        while end - position >= 2:
            first, second = data[position], data[position + 1]
            if first & 0x70:
                self._check_reserved(first)
            if not second & 0x80:
                raise FrameError(1002, "client frames must be masked")  # §5.1: "MUST close the connection"
            opcode, length, start = first & 0x0F, second & 0x7F, position + 2
            if length >= 126:
                if opcode >= _CLOSE:
                    raise FrameError(1002, "a control frame has at most 125 bytes")
                width = 2 if length == 126 else 8
                if end - start < width:
                    break
                length = int.from_bytes(data[start : start + width], "big")
                start += width
            self._check(opcode, bool(first & 0x80), length)
            if end - start < 4 + length:
                needed = start + 4 + length - position
                break
            payload = _unmask(data[start + 4 : start + 4 + length], data[start : start + 4])
            position = start + 4 + length
            message = self._accept(opcode, bool(first & 0x80), payload)
            if message is not None:
                messages.append(message)
        self._buffer = bytearray(data[position:]) if position < end else _EMPTY
        self._needed = needed

    def _check_reserved(self, first: int) -> None:
        """Bits that only an extension gives a meaning."""
        raise FrameError(1002, "reserved bits are set and no extension was negotiated")

    def _check(self, opcode: int, final: bool, length: int) -> None:
        """Everything that can be refused by the header alone."""
        if opcode >= _CLOSE:
            if opcode > _PONG:
                raise FrameError(1002, f"opcode {opcode} is reserved")
            if not final:
                raise FrameError(1002, "a control frame must not be fragmented")  # §5.5
            return
        if opcode > _BINARY:
            raise FrameError(1002, f"opcode {opcode} is reserved")
        if (opcode == _CONTINUATION) != (self._fragments is not None):
            raise FrameError(1002, "continuation without a start, or a start inside a fragmented message")  # §5.4
        if self._size + length > self._max_bytes:
            raise FrameError(self._too_large_code, f"a message has at most {self._max_bytes} bytes")

    def _accept(self, opcode: int, final: bool, payload: bytes) -> tuple[int, bytes] | None:
        if opcode >= _CLOSE:
            return opcode, payload  # control frames may come between fragments (§5.4)
        if final and self._fragments is None:
            return opcode, payload
        if self._fragments is None:
            self._fragments, self._opcode = [], opcode
        self._fragments.append(payload)
        self._size += len(payload)
        if len(self._fragments) > MAX_FRAGMENTS:
            raise FrameError(self._too_large_code, f"a message has at most {MAX_FRAGMENTS} fragments")
        if not final:
            return None
        message = self._opcode, b"".join(self._fragments)
        self._fragments, self._size = None, 0
        return message


def _unmask(payload: bytes, mask: bytes) -> bytes:
    """§5.3, on the whole payload as one number: hundreds of times faster than byte by byte."""
    length = len(payload)
    if not length or mask == b"\0\0\0\0":
        return payload
    key = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")
