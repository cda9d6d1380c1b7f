"""Read and write Engine.IO 4: packets, the payloads of its polling transport, and the framing of Socket.IO. No I/O.

A packet is a digit for its type and its data: `4hello` is a message. On a WebSocket each packet is a text frame, and a
binary message is a binary frame without a digit. A poll carries a payload: packets with SEPARATOR between them, and
binary messages in Base64 behind a `b`.

What a gateway sends exists in one form only: as WebSocket frames. A poll's payload is made of them (`payload_of`). So
sessions share the bytes of an event however their packets travel, and an upgrade changes no session's wire.
"""

import base64
import binascii
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from beaconfire_gateway.wire.compact_json import to_json
from beaconfire_gateway.wire.dialect import Spliced
from beaconfire_gateway.wire.messages import Event, Message
from beaconfire_gateway.wire.websocket_frames import Opcode, encode, header

VERSION = "4"
SEPARATOR = b"\x1e"
"""JSON has no such byte: it must be escaped in strings."""
MAX_PACKETS = 256
"""Packets that one payload of a client may have. A client sends what it has at once, and has few."""
_MESSAGE = b"4"


class PacketType(IntEnum):
    OPEN = 0
    CLOSE = 1
    PING = 2
    PONG = 3
    MESSAGE = 4
    UPGRADE = 5
    NOOP = 6


class Packet(NamedTuple):
    """A client's packet. A binary one is always a message."""

    type: PacketType
    data: bytes = b""
    is_binary: bool = False


class InvalidPacket(Exception):
    """The client broke Engine.IO or Socket.IO: its connection is to be closed. The text says how."""


_TYPES = {b"%d" % kind: kind for kind in PacketType}

PING, NOOP, CLOSE = (encode(b"%d" % kind) for kind in (PacketType.PING, PacketType.NOOP, PacketType.CLOSE))
"""Packets that a gateway sends, as frames."""
PROBE = b"probe"
"""The data of the ping that tries out a WebSocket, and of its answer."""


def decode(data: bytes) -> Packet:
    """Read a packet of text. Raises InvalidPacket."""
    kind = _TYPES.get(data[:1])
    if kind is None:
        raise InvalidPacket("a packet starts with a digit from 0 to 6")
    return Packet(kind, data[1:])


def decode_payload(body: bytes) -> list[Packet]:
    """Read the body of a client's POST. It must be valid UTF-8. Raises InvalidPacket."""
    parts = body.split(SEPARATOR, MAX_PACKETS)
    if len(parts) > MAX_PACKETS:
        raise InvalidPacket(f"a payload has at most {MAX_PACKETS} packets")
    return [_decode_base64(part[1:]) if part[:1] == b"b" else decode(part) for part in parts]


def _decode_base64(data: bytes) -> Packet:
    try:
        return Packet(PacketType.MESSAGE, base64.b64decode(data, validate=True), is_binary=True)
    except binascii.Error:
        raise InvalidPacket("a packet that starts with b is Base64") from None


def payload_of(frames: bytes) -> bytes:
    """Return the payload of a poll that carries the packets of these frames, which a gateway has made."""
    return SEPARATOR.join(
        payload if opcode == Opcode.TEXT else b"b" + base64.b64encode(payload) for opcode, payload in _read(frames)
    )


def _read(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the opcode and the payload of each whole, unmasked frame."""
    position = 0
    while position < len(frames):
        opcode, length, start = frames[position] & 0x0F, frames[position + 1], position + 2
        if length >= 126:
            width = 2 if length == 126 else 8
            length = int.from_bytes(frames[start : start + width], "big")
            start += width
        position = start + length
        yield opcode, frames[start:position]


def open_packet(sid: str, *, upgrades: list[str], ping_interval_s: int, ping_timeout_s: int, max_payload: int) -> bytes:
    """Return the first packet of a connection, as a frame."""
    handshake = {
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": ping_interval_s * 1000,
        "pingTimeout": ping_timeout_s * 1000,
        "maxPayload": max_payload,
    }
    return encode(b"0" + to_json(handshake))


def message(data: bytes) -> bytes:
    """Return a message packet, as a frame."""
    return encode(_MESSAGE + data)


class MessagePackets:
    """A framing: each payload is a message packet in a text frame. Implements `framing.Framing`.

    A dialect may write several packets for one message, with SEPARATOR between them. It must not do so for an event,
    and each event has bytes before its body.
    """

    def frame(self, payload: Spliced, content: Message | Event) -> Spliced:
        before, body, after = payload
        if before:
            return header(1 + len(before) + len(body) + len(after)) + _MESSAGE + before, body, after
        return b"", b"".join(map(message, body.split(SEPARATOR))), b""
