"""permessage-deflate: negotiated as in RFC 7692, compressed once for all, and inflated only within bounds."""

import contextlib
import json
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from pydantic import ValidationError

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.process.settings import Settings
from beaconfire_gateway.wire.deflate import (
    MAX_OFFER_CHARACTERS,
    MIN_BYTES,
    DeflatedFrames,
    InflatingReader,
    MalformedOffer,
    negotiate,
)
from beaconfire_gateway.wire.messages import Live
from beaconfire_gateway.wire.websocket_frames import FrameError, FrameReader, Opcode, encode
from tests.client import open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.websocket import RawSocket, client_frame, handshake, raw_socket, status_of

RSV1 = 0x40
MAX = 16 * 1024
TAIL = b"\x00\x00\xff\xff"
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
PING = b'{"type":"ping","id":7,"pad":"%s"}'


def deflated(payload: bytes, *, window_bits: int = 15, end: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """A message as a client compresses it (§7.2.1)."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -window_bits)
    return (deflate.compress(payload) + deflate.flush(end)).removesuffix(TAIL)


def inflated(payload: bytes, *, window_bits: int = 15) -> bytes:
    """Decompress our messages as a client does, with a new window for each message."""
    return zlib.decompressobj(-window_bits).decompress(payload + TAIL)


def test_compression_with_the_aiohttp_transport_is_refused_at_start() -> None:
    with pytest.raises(ValidationError, match="needs the transport handover"):
        Settings(compression=True, transport="aiohttp")


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", AGREED),
        ("permessage-deflate; client_max_window_bits", AGREED),
        ("permessage-deflate ;client_max_window_bits=8 ; server_no_context_takeover", AGREED),
        ('permessage-deflate; client_max_window_bits="12"', AGREED),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", AGREED),
        ("permessage-deflate; server_max_window_bits=10", f"{AGREED}; server_max_window_bits=10"),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", AGREED),
        ("x-webkit-deflate-frame, permessage-deflate; unknown, , permessage-deflate", AGREED),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=09", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; client_max_window_bits=+9", None),
        ("permessage-bzip2", None),
        ("", None),
    ],
)
def test_first_acceptable_compression_offer_is_accepted_with_its_parameters(offer: str, answer: str | None) -> None:
    """RFC 7692 §5.1 and §7.1."""
    agreement = negotiate([offer])

    assert (agreement and agreement.response) == answer


@pytest.mark.parametrize("offer", ["permessage-deflate;", "a b", "a; =1", "a; b=", 'a; b="', 'a; b="c d"', "a/b", ";"])
def test_malformed_extension_header_is_distinguished_from_a_declined_offer(offer: str) -> None:
    with pytest.raises(MalformedOffer):
        negotiate(["permessage-deflate", offer])


HOSTILE = {
    "spaces": [", a,".replace(" ", " " * 8_000)],
    "commas": ["," * 8_000],
    "semicolons": ["a" + ";" * 8_000],
    "one word": ["a" * 8_000],
    "parameters": ["a" + "; b=1" * 1_600],
    "quotes": ['a; b="' * 1_300],
    "tabs between": ["a; b" + "\t" * 8_000 + "= c"],
    "eight headers": [f",{' ' * 8_000},a"] * 8,
    "many short headers": ["a"] * 2_000,
    "many offers": ["permessage-deflate, " * 17],
}


@pytest.mark.parametrize("headers", HOSTILE.values(), ids=HOSTILE)
def test_overlong_compression_offer_is_declined_unread(headers: list[str]) -> None:
    assert negotiate(headers) is None


@pytest.mark.parametrize("headers", HOSTILE.values(), ids=HOSTILE)
def test_work_for_a_compression_offer_is_bounded_whatever_it_contains(headers: list[str]) -> None:
    longest = _steps(["a;b=c," * (MAX_OFFER_CHARACTERS // 6)])

    assert _steps(headers) <= longest
    assert _steps(["a;b=c," * (MAX_OFFER_CHARACTERS // 12)]) > longest // 3


def _steps(headers: list[str]) -> int:
    """How many lines of Python run while these headers are read. No pattern takes more than one pass over a line's
    text: tests/architecture/test_regular_expressions.py."""
    count = 0

    def trace(_frame: Any, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with contextlib.suppress(MalformedOffer):
            negotiate(headers)
    finally:
        sys.settrace(before)
    return count


async def test_hostile_compression_offer_opens_an_uncompressed_socket(stream: NatsServer, auth: FakeAuth) -> None:
    offer = f",{' ' * 8_000},permessage-deflate"
    async with (
        running_gateway(stream, auth, compression=True) as gateway,
        raw_socket(gateway.url, Sec_WebSocket_Extensions="\r\nSec-WebSocket-Extensions: ".join([offer] * 8)) as raw,
    ):
        raw.write(client_frame(PING % b"x"))

        assert (await raw.frame())[0] in (Opcode.TEXT, Opcode.CLOSE)


@given(st.integers(0, 70_000), st.integers(0, 70_000))
def test_payload_in_pieces_is_one_frame_that_a_client_inflates(size: int, cut: int) -> None:
    """A payload is compressed if it is long enough, with the same bytes each time."""
    payload = (b"%d," % size * size)[:size]
    pieces = (payload[:cut], payload[cut:], b"")
    framing = DeflatedFrames()
    written = b"".join(framing.frame(pieces, Live()))

    ((first, text),) = _read_frames(written)
    assert b"".join(framing.frame(pieces, Live())) == written
    assert (inflated(text) if first & RSV1 else text) == payload
    assert bool(first & RSV1) == (len(encode(payload)) >= MIN_BYTES)


def _read_frames(data: bytes) -> list[tuple[int, bytes]]:
    """First byte and payload of each frame."""
    found: list[tuple[int, bytes]] = []
    while data:
        length, start = data[1], 2
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start], "big")
        found.append((data[0], data[start : start + length]))
        data = data[start + length :]
    return found


def test_message_that_compression_makes_longer_is_sent_uncompressed() -> None:
    payload = bytes((number * 7919) % 251 for number in range(120))

    assert b"".join(DeflatedFrames().frame((b"", payload, b""), Live())) == encode(payload)


def test_client_with_a_small_window_can_inflate_everything() -> None:
    payload = b"".join(b"%06d" % number for number in range(2_000)) * 2
    ((first, text),) = _read_frames(b"".join(DeflatedFrames(9).frame((b"", payload, b""), Live())))
    assert first & RSV1
    assert inflated(text, window_bits=9) == payload


@given(st.binary(max_size=3_000), st.integers(9, 15), st.integers(1, 700))
def test_compressed_and_uncompressed_messages_are_read_in_any_fragments_and_window(
    payload: bytes, window_bits: int, size: int
) -> None:
    text = deflated(payload, window_bits=window_bits)
    size = max(size, len(text) // 200 + 1)
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    reader, messages = InflatingReader(MAX), []
    for index, part in enumerate(parts):
        opcode, rsv = (Opcode.CONTINUATION, 0) if index else (Opcode.TEXT, RSV1)
        messages += reader.feed(client_frame(part, opcode, final=index == len(parts) - 1, rsv=rsv))
        messages += reader.feed(client_frame(b"between", Opcode.PING))
    messages += reader.feed(client_frame(b"plain"))

    assert [text for opcode, text in messages if opcode == Opcode.TEXT] == [payload, b"plain"]


@pytest.mark.parametrize("level", [1, 9])
def test_compression_bomb_is_inflated_only_up_to_the_message_limit(level: int) -> None:
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    bomb = deflate.compress(bytes(10_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 64 * 1024

    sent, reader = client_frame(bomb, rsv=RSV1), InflatingReader(64 * 1024, 4413)
    tracemalloc.start()
    try:
        with pytest.raises(FrameError) as error:
            reader.feed(sent)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert error.value.code == 4413
    assert most < 1_000_000


def test_compressed_frame_is_refused_without_negotiation() -> None:
    """RSV1 is then a reserved bit."""
    with pytest.raises(FrameError) as error:
        FrameReader(MAX).feed(client_frame(deflated(b"text"), rsv=RSV1))

    assert error.value.code == 1002


@dataclass(frozen=True)
class Case:
    """A case in the manner of Autobahn's groups 12 and 13: the frames to send, and the answer's type or close code."""

    name: str
    send: bytes
    answer: str | int


def ping(size: int) -> bytes:
    """A `ping` of the protocol of this many bytes."""
    return PING % (b"x" * (size - len(PING) + 2))


def halves(text: bytes, second: int = Opcode.CONTINUATION, *, rsv: int = 0) -> bytes:
    middle = len(text) // 2
    return client_frame(text[:middle], final=False, rsv=RSV1) + client_frame(text[middle:], second, rsv=rsv)


CASES = [
    *(Case(f"a message of {size}", client_frame(deflated(ping(size)), rsv=RSV1), "reply") for size in (64, 512, MAX)),
    Case("in fragments", halves(deflated(ping(1_000))), "reply"),
    Case("with a final block", client_frame(deflated(ping(99), end=zlib.Z_FINISH) + b"\0", rsv=RSV1), "reply"),
    Case("with a window of 9 bits", client_frame(deflated(ping(4_000), window_bits=9), rsv=RSV1), "reply"),
    Case("not compressed", client_frame(ping(500)), "reply"),
    Case("empty", client_frame(b"\0", rsv=RSV1), "error"),
    Case("one byte too long, inflated", client_frame(deflated(ping(MAX + 1)), rsv=RSV1), 4413),
    Case("a bomb", client_frame(deflated(bytes(10_000_000)), rsv=RSV1), 4413),
    Case("a bomb in two streams", client_frame(deflated(bytes(9_999), end=zlib.Z_FINISH) * 2, rsv=RSV1), 4413),
    Case("final blocks without end", client_frame(b"\x03\0" * 8_000, rsv=RSV1), 1007),
    Case("not deflate", client_frame(b"\xff" * 50, rsv=RSV1), 1007),
    Case("no UTF-8, inflated", client_frame(deflated(b"\xc3\x28"), rsv=RSV1), 1007),
    Case("binary", client_frame(deflated(b"{}"), Opcode.BINARY, rsv=RSV1), 1003),
    Case("RSV1 on the second fragment", halves(deflated(ping(1_000)), rsv=RSV1), 1002),
    Case("RSV1 on a ping", client_frame(b"", Opcode.PING, rsv=RSV1), 1002),
    Case("RSV1 on a close", client_frame(b"\x03\xe8", Opcode.CLOSE, rsv=RSV1), 1002),
    Case("RSV1 and RSV2", client_frame(deflated(ping(99)), rsv=0x60), 1002),
]


@pytest.fixture(name="compressing")
async def _compressing(stream: NatsServer, auth: FakeAuth) -> AsyncIterator[Gateway]:
    """A gateway that compresses for clients that ask for it."""
    async with running_gateway(stream, auth, compression=True, messages_per_minute=1_000) as gateway:
        yield gateway


@asynccontextmanager
async def agreed(gateway: Gateway) -> AsyncIterator[RawSocket]:
    """A raw connection on which compression was agreed, after its `connect`."""
    async with raw_socket(gateway.url, Sec_WebSocket_Extensions="permessage-deflate") as raw:
        hello = {"type": "connect", "id": 1, "token": gateway.auth.token("viewer"), "rooms": []}
        raw.write(client_frame(deflated(json.dumps(hello).encode()), rsv=RSV1))
        await frame(raw)
        yield raw


async def frame(raw: RawSocket) -> tuple[bool, int, bytes]:
    """The next frame: whether it was compressed, its opcode, and its message inflated."""
    first, length = await raw.reader.readexactly(2)
    if length >= 126:
        length = int.from_bytes(await raw.reader.readexactly(2 if length == 126 else 8), "big")
    text = await raw.reader.readexactly(length)
    return bool(first & RSV1), first & 0x0F, inflated(text) if first & RSV1 else text


async def test_compressed_message_cases_get_their_expected_answers(compressing: Gateway) -> None:
    came: dict[str, str | int] = {}
    for case in CASES:
        async with agreed(compressing) as raw:
            raw.write(case.send)
            _, opcode, text = await frame(raw)
            is_close = opcode == Opcode.CLOSE
            came[case.name] = int.from_bytes(text[:2], "big") if is_close else json.loads(text)["type"]

    assert came == {case.name: case.answer for case in CASES}


async def test_event_is_compressed_once_for_all_clients_that_negotiated_it(compressing: Gateway) -> None:
    fields = tuple(f"field{number}" for number in range(40))
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_socket(compressing.url, compress=bits)) for bits in (15, 15, 15, 0)
        ]
        for client in clients:
            await client.connect(compressing.auth.token("viewer"), ["campaign:c1"])
        before = _deflated_frames()
        await compressing.publish(settlement("s1", "c1", *fields))
        events = [await client.next("event") for client in clients]
        counted = _deflated_frames() - before
        agreed_on = [client.socket.compress for client in clients]

    assert agreed_on == [15, 15, 15, 0]
    assert all(event == events[0] for event in events)
    assert events[0]["event"]["payload"]["changedFields"] == list(fields)
    assert counted == 1


def _deflated_frames() -> float:
    return REGISTRY.get_sample_value("beaconfire_gateway_frames_compressed_total") or 0.0


async def test_replayed_events_are_compressed_too(compressing: Gateway) -> None:
    async with open_socket(compressing.url) as client:
        ack = await client.connect(compressing.auth.token("viewer"), ["campaign:c1"])
    offsets = [await compressing.publish(settlement(f"s{number}")) for number in range(3)]
    hello = {"type": "connect", "token": compressing.auth.token("viewer"), "rooms": ["campaign:c1"]}
    async with raw_socket(compressing.url, Sec_WebSocket_Extensions="permessage-deflate") as raw:
        raw.write(client_frame(json.dumps({**hello, "id": 1, "cursor": ack["cursor"]}).encode()))
        came: list[tuple[bool, int]] = []
        while len(came) < 3:
            is_deflated, opcode, text = await frame(raw)
            if opcode == Opcode.TEXT and (message := json.loads(text))["type"] == "event":
                came.append((is_deflated, message["offset"]))

    assert came == [(True, offset) for offset in offsets]


async def test_handshake_answers_with_the_negotiated_parameters_and_refuses_malformed_headers(
    compressing: Gateway,
) -> None:
    answers = {}
    for offer in ("permessage-deflate; server_max_window_bits=10", "permessage-deflate; unknown"):
        async with aiohttp.ClientSession() as http:
            headers = {"Sec-WebSocket-Extensions": offer}
            async with http.ws_connect(f"{compressing.url}/ws", protocols=["beaconfire.v1"], headers=headers) as socket:
                answers[offer] = socket._response.headers.get("Sec-WebSocket-Extensions")
    malformed = await status_of(compressing.url, handshake(compressing.url, Sec_WebSocket_Extensions="a b"))

    assert list(answers.values()) == [f"{AGREED}; server_max_window_bits=10", None]
    assert malformed == 400


async def test_compression_is_off_by_default(gateway: Gateway) -> None:
    async with open_socket(gateway.url, compress=15) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        agreed_on = client.socket.compress

    assert agreed_on == 0
