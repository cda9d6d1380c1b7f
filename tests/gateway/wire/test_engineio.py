"""Engine.IO packets, and the payloads of its polling transport."""

import json

import pytest

from beaconfire_gateway.wire.engineio import (
    MAX_PACKETS,
    InvalidPacket,
    MessagePackets,
    Packet,
    PacketType,
    decode,
    decode_payload,
    open_packet,
    payload_of,
)
from beaconfire_gateway.wire.messages import Live
from beaconfire_gateway.wire.websocket_frames import Opcode, encode


def test_packet_is_a_digit_and_its_data() -> None:
    """The data may be empty."""
    assert decode(b"4hello") == Packet(PacketType.MESSAGE, b"hello")
    assert decode(b"3") == Packet(PacketType.PONG)


@pytest.mark.parametrize("data", [b"", b"7", b"abc", b"\xc3\xa4", b"b1"])
def test_packet_of_no_known_type_is_refused(data: bytes) -> None:
    """The error says what a packet looks like."""
    with pytest.raises(InvalidPacket, match="digit from 0 to 6"):
        decode(data)


def test_payload_has_several_packets() -> None:
    """Binary messages are in Base64."""
    assert decode_payload(b"4hello\x1ebAQIDBA==\x1e3") == [
        Packet(PacketType.MESSAGE, b"hello"),
        Packet(PacketType.MESSAGE, b"\x01\x02\x03\x04", is_binary=True),
        Packet(PacketType.PONG),
    ]


@pytest.mark.parametrize(
    "body", [b"", b"4a\x1e", b"bA", b"b*", b"4a\x1e\x1e4b", b"\x1e".join([b"4"] * (MAX_PACKETS + 1))]
)
def test_payload_that_is_broken_or_has_too_many_packets_is_refused(body: bytes) -> None:
    """Nothing of it is read."""
    with pytest.raises(InvalidPacket):
        decode_payload(body)


@pytest.mark.parametrize("length", [0, 1, 124, 125, 65_534, 65_535, 70_000])
def test_payload_of_a_poll_is_made_of_frames(length: int) -> None:
    """Frames of any length become packets again, binary ones in Base64."""
    data = b"x" * length
    frames = encode(b"4" + data) + encode(b"\x01\x02", Opcode.BINARY) + encode(b"2")

    assert payload_of(frames) == b"4" + data + b"\x1ebAQI=\x1e2"


def test_first_packet_has_the_handshake() -> None:
    """Its times are in milliseconds."""
    data = payload_of(open_packet("a.b", upgrades=[], ping_interval_s=25, ping_timeout_s=20, max_payload=16_384))

    assert data[:1] == b"0"
    assert json.loads(data[1:]) == {
        "sid": "a.b",
        "upgrades": [],
        "pingInterval": 25_000,
        "pingTimeout": 20_000,
        "maxPayload": 16_384,
    }


def test_message_may_be_several_packets() -> None:
    """Each one is a frame of its own, with Engine.IO's type in front."""
    frames = MessagePackets().frame((b"", b"0{}\x1e2[]", b""), Live())

    assert payload_of(b"".join(frames)) == b"40{}\x1e42[]"
