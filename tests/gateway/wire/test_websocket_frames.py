"""RFC 6455 frames without a socket."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_gateway.wire.websocket_frames import (
    MAX_FRAGMENTS,
    FrameError,
    FrameReader,
    Opcode,
    decode_close,
    encode,
    encode_close,
)
from tests.websocket import client_frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_message_of_every_length_encoding_is_read_back(size: int) -> None:
    payload = os.urandom(size)

    assert FrameReader(100_000).feed(client_frame(payload, Opcode.BINARY)) == [(Opcode.BINARY, payload)]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.data())
def test_messages_are_read_however_the_bytes_are_split(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(client_frame(payload) for payload in payloads)
    reader, messages, position = FrameReader(1000), [], 0
    while position < len(stream):
        step = data.draw(st.integers(1, len(stream) - position))
        messages += reader.feed(stream[position : position + step])
        position += step

    assert messages == [(Opcode.TEXT, payload) for payload in payloads]


class _Counting(FrameReader):
    """Counts the bytes it looks at."""

    __slots__ = ("looked_at",)

    def _read(self, data: bytes, messages: list[tuple[int, bytes]]) -> None:
        self.looked_at = getattr(self, "looked_at", 0) + len(data)
        super()._read(data, messages)


@pytest.mark.parametrize("size", [1_000, 16_000, 70_000])
def test_message_sent_byte_by_byte_costs_a_few_looks_at_each_byte(size: int) -> None:
    payload, reader = os.urandom(size), _Counting(100_000)
    frame = client_frame(payload)
    messages = [message for at in range(len(frame)) for message in reader.feed(frame[at : at + 1])]

    assert messages == [(Opcode.TEXT, payload)]
    assert reader.looked_at < 2 * len(frame)


@given(
    st.lists(
        st.tuples(
            st.lists(st.binary(max_size=50), min_size=1, max_size=6), st.lists(st.binary(max_size=125), max_size=3)
        ),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_messages_and_pings_are_read_in_any_fragmentation(
    messages: list[tuple[list[bytes], list[bytes]]], data: st.DataObject
) -> None:
    stream, expected = b"", []
    for pieces, pings in messages:
        for number, piece in enumerate(pieces):
            opcode = Opcode.CONTINUATION if number else Opcode.TEXT
            stream += client_frame(piece, opcode, final=number == len(pieces) - 1)
            if number < len(pieces) - 1 and number < len(pings):
                stream += client_frame(pings[number], Opcode.PING)
                expected.append((Opcode.PING, pings[number]))
        expected.append((Opcode.TEXT, b"".join(pieces)))
    reader, found, position = FrameReader(1000), [], 0
    while position < len(stream):
        step = data.draw(st.integers(1, len(stream) - position))
        found += reader.feed(stream[position : position + step])
        position += step

    assert found == expected


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_messages_or_a_frame_error_and_nothing_else(noise: bytes) -> None:
    code = None
    try:
        FrameReader(100).feed(noise)
    except FrameError as error:
        code = error.code

    assert code in {None, 1002, 1007, 1009}


def test_control_frame_between_fragments_is_read_at_once() -> None:
    """RFC 6455 §5.4."""
    reader = FrameReader(100)
    stream = (
        client_frame(b"one ", final=False)
        + client_frame(b"?", Opcode.PING)
        + client_frame(b"two ", Opcode.CONTINUATION, final=False)
        + client_frame(b"three", Opcode.CONTINUATION)
    )

    assert reader.feed(stream) == [(Opcode.PING, b"?"), (Opcode.TEXT, b"one two three")]
    assert reader.feed(client_frame(b"next")) == [(Opcode.TEXT, b"next")]


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        pytest.param(encode(b"hello"), 1002, id="unmasked"),
        pytest.param(client_frame(b"x", rsv=0x40), 1002, id="rsv1"),
        pytest.param(client_frame(b"x", rsv=0x20), 1002, id="rsv2"),
        pytest.param(client_frame(b"x", rsv=0x10), 1002, id="rsv3"),
        pytest.param(client_frame(b"x", 0x3), 1002, id="reserved data opcode"),
        pytest.param(client_frame(b"x", 0xB), 1002, id="reserved control opcode"),
        pytest.param(client_frame(b"x" * 126, Opcode.PING), 1002, id="long ping"),
        pytest.param(client_frame(b"x", Opcode.PING, final=False), 1002, id="fragmented ping"),
        pytest.param(client_frame(b"x", Opcode.CONTINUATION), 1002, id="continuation of nothing"),
        pytest.param(client_frame(b"x", final=False) + client_frame(b"y"), 1002, id="start inside a message"),
        pytest.param(client_frame(b"x" * 101), 1009, id="too large"),
        pytest.param(bytes((0x81, 0xFF)) + (2**62).to_bytes(8, "big"), 1009, id="declared 2^62 bytes"),
        pytest.param(bytes((0x81, 0xFF)) + b"\xff" * 8, 1009, id="declared 2^64-1 bytes"),
        pytest.param(
            client_frame(b"x" * 60, final=False) + client_frame(b"x" * 60, Opcode.CONTINUATION),
            1009,
            id="too large in fragments",
        ),
        pytest.param(
            client_frame(b"", final=False) + client_frame(b"", Opcode.CONTINUATION, final=False) * (MAX_FRAGMENTS + 1),
            1009,
            id="too many empty fragments",
        ),
    ],
)
def test_each_violation_is_refused_with_the_close_code_of_rfc_6455(stream: bytes, code: int) -> None:
    with pytest.raises(FrameError) as caught:
        FrameReader(100).feed(stream)

    assert caught.value.code == code


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 3000, 4401, 4999])
def test_encoded_close_frames_are_read_back(code: int) -> None:
    assert decode_close(encode_close(code, "bye")[2:]) == (code, "bye")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_close_codes_that_must_not_be_sent_are_a_protocol_error(code: int) -> None:
    """RFC 6455 §7.4."""
    with pytest.raises(FrameError) as caught:
        decode_close(code.to_bytes(2, "big"))

    assert caught.value.code == 1002


def test_close_frame_has_no_body_or_a_code_and_utf8() -> None:
    assert decode_close(b"") == (1005, "")
    for body, code in ((b"\x03", 1002), (b"\x03\xe8\xff\xfe", 1007)):
        with pytest.raises(FrameError) as caught:
            decode_close(body)
        assert caught.value.code == code


def test_long_close_reason_is_cut_between_characters() -> None:
    frame = encode_close(4400, "ä" * 200)

    assert frame[1] <= 125
    assert decode_close(frame[2:])[1] == "ä" * 61


def test_reader_keeps_no_buffer_after_whole_messages() -> None:
    reader = FrameReader(100)
    reader.feed(client_frame(b"hello"))

    assert reader._buffer == b""
