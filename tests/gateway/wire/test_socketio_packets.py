"""Packets of Socket.IO 5."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_gateway.wire.engineio import InvalidPacket
from beaconfire_gateway.wire.socketio_packets import Packet, PacketType, decode, encode_ack, encode_event


@pytest.mark.parametrize(
    ("text", "packet"),
    [
        (b"0", Packet(PacketType.CONNECT)),
        (b'0{"token":"a"}', Packet(PacketType.CONNECT, data={"token": "a"})),
        (b"0/admin", Packet(PacketType.CONNECT, "/admin")),
        (b"0/admin,", Packet(PacketType.CONNECT, "/admin")),
        (b'0/admin?x=1,{"token":"a"}', Packet(PacketType.CONNECT, "/admin", data={"token": "a"})),
        (b"1/admin,", Packet(PacketType.DISCONNECT, "/admin")),
        (b'2["hey",1]', Packet(PacketType.EVENT, data=["hey", 1])),
        (b'2/admin,7["hey"]', Packet(PacketType.EVENT, "/admin", 7, ["hey"])),
        (b'212["a/b,c"]', Packet(PacketType.EVENT, id=12, data=["a/b,c"])),
        (b"2[5]", Packet(PacketType.EVENT, data=[5])),
        (b"3/admin,13[]", Packet(PacketType.ACK, "/admin", 13, [])),
        (
            b'52-/admin,["baz",{"_placeholder":true,"num":0}]',
            Packet(PacketType.BINARY_EVENT, "/admin", None, ["baz", {"_placeholder": True, "num": 0}], 2),
        ),
        (b'51-9["baz"]', Packet(PacketType.BINARY_EVENT, "/", 9, ["baz"], 1)),
        (b"61-15[1]", Packet(PacketType.BINARY_ACK, "/", 15, [1], 1)),
        ('2["grüße"]'.encode(), Packet(PacketType.EVENT, data=["grüße"])),
    ],
)
def test_packet_is_read(text: bytes, packet: Packet) -> None:
    """Type, attachments, namespace, acknowledgement and data, each where it may be."""
    assert decode(text) == packet


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"abc",
        b"7",
        b"2",
        b"2{}",
        b"2[]",
        b'2["a"',
        b'2["a"]x',
        b'2abc["a"]',
        b'2,["a"]',
        b"2[null]",
        b"2[true]",
        b"2[NaN]",
        b'2["connect"]',
        b'2["disconnecting"]',
        b'2["\\ud800"]',
        b'29999999999999999["a"]',
        b"0[]",
        b"0null1",
        b'0"token"',
        b"1{}",
        b"3{}",
        b"3",
        b'4{"message":"no"}',
        b'21-["a"]',
        b'5["a"]',
        b'511-["a"]',
        b'5-["a"]',
        b"2" + b"[" * 5_000,
    ],
)
def test_packet_that_no_client_sends_is_refused(text: bytes) -> None:
    """The connection ends because of it, and nothing else happens."""
    with pytest.raises(InvalidPacket):
        decode(text)


@given(
    st.one_of(
        st.text(), st.from_regex(r"[0-6]([0-9]{1,2}-)?(/[a-z]{0,3},?)?[0-9]{0,3}[\[{].{0,9}[\]}]?", fullmatch=True)
    )
)
def test_any_text_is_a_packet_or_is_refused(text: str) -> None:
    """No other error comes of it."""
    try:
        packet = decode(text.encode(errors="replace"))
    except InvalidPacket:
        return
    assert packet.namespace.startswith("/")


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (encode_event("/", "a", {"ä": 1}), '2["a",{"ä":1}]'),
        (encode_event("/x", "a"), '2/x,["a"]'),
        (encode_ack("/x", 3, {"success": True}), '3/x,3[{"success":true}]'),
    ],
)
def test_packet_is_written(packet: bytes, text: Any) -> None:
    """The main namespace is left out."""
    assert packet.decode() == text
