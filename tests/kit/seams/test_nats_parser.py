"""How the bytes of a connection become messages, and what is left to nats-py.

test_nats_direct.py and tests/security/test_bad_messages.py do the same on a real broker.
"""

import pytest
from nats.aio.client import Client
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from beaconfire_kit.seams.nats_connection import Connection
from beaconfire_kit.seams.nats_parser import MessageParser, read_headers
from tests.kit.seams.signatures import parameters, source

HEADERS = b"NATS/1.0\r\nA: b\r\n\r\n"
LENGTH = len(HEADERS)
STREAM = (
    b"MSG live.a 1 5\r\nhello\r\n"
    b"PING\r\n"
    b"MSG live.b 1 reply.to 2\r\n\r\n\r\n"  # a body that looks like the end of one
    b"HMSG live.c 1 %d %d\r\n%sbody\r\n"
    b"MSG _INBOX.x 2 3\r\nxyz\r\n"
    b"HMSG live.d 1 reply.to %d %d\r\n%sMSG live.e 1 1\r\n\r\n"  # one that looks like a message
    b"PONG\r\n"
    b"HMSG _INBOX.x 2 %d %d\r\n%s\r\n"
    b"MSG live.f 1 0\r\n\r\n"
) % (LENGTH, LENGTH + 4, HEADERS, LENGTH, LENGTH + 16, HEADERS, LENGTH, LENGTH, HEADERS)
TAKEN = [
    (b"live.a", b"", b"hello", None),
    "ping",
    (b"live.b", b"reply.to", b"\r\n", None),
    (b"live.c", b"", b"body", HEADERS),
    (2, b"_INBOX.x", b"", b"xyz", None),
    (b"live.d", b"reply.to", b"MSG live.e 1 1\r\n", HEADERS),
    "pong",
    (2, b"_INBOX.x", b"", b"", {"A": "b"}),
    (b"live.f", b"", b"", None),
]


class Ear(Connection):
    """A client without a connection, and everything its parser took, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[object] = []
        self._direct[b"1"] = lambda *message: self.taken.append(message)

    async def _process_msg(self, *message: object) -> None:
        self.taken.append(message)

    async def _process_ping(self) -> None:
        self.taken.append("ping")

    async def _process_pong(self) -> None:
        self.taken.append("pong")


async def test_messages_are_read_whole_and_in_order_however_the_network_splits_them() -> None:
    for size in [*range(1, 40), len(STREAM)]:
        ear = Ear()
        for start in range(0, len(STREAM), size):
            await ear._ps.parse(STREAM[start : start + size])

        assert ear.taken == TAKEN, size


async def test_message_that_comes_in_many_reads_is_assembled_once() -> None:
    ear = Ear()
    body = bytes(range(256)) * 4096
    message = b"MSG live.a 1 %d\r\n%s\r\nPING\r\n" % (len(body), body)
    for start in range(0, len(message), 32768):
        await ear._ps.parse(message[start : start + 32768])

    assert ear.taken == [(b"live.a", b"", body, None), "ping"]


async def test_partial_message_of_a_lost_connection_does_not_mix_with_the_next() -> None:
    ear = Ear()
    await ear._ps.parse(b"MSG live.a 1 5\r\nhe")
    ear._ps.reset()
    await ear._ps.parse(b"MSG live.a 1 5\r\nhello\r\n")

    assert ear.taken == [(b"live.a", b"", b"hello", None)]


@pytest.mark.parametrize("line", [b"MSG live.a 1 x\r\n", b"MSG\r\n", b"HMSG live.a 1 5\r\n", b"NONSENSE\r\n"])
async def test_bytes_that_no_broker_sends_are_an_error_that_reconnects(line: bytes) -> None:
    ear = Ear()
    with pytest.raises(ProtocolError):
        await ear._ps.parse(line + b"hello\r\n")

    assert ear.taken == []


@pytest.mark.parametrize("letter", [bytes([code]) for code in range(256) if bytes([code]) not in b" \t\r\n"])
async def test_message_with_any_byte_in_its_subject_and_the_next_one_are_read(letter: bytes) -> None:
    ear = Ear()
    await ear._ps.parse(b"MSG live.%s 1 r.%s 2\r\nhi\r\nMSG a.%s 2 r.%s 2\r\nyo\r\nPING\r\n" % ((letter,) * 4))

    theirs = letter if letter.isascii() else "\ufffd".encode()
    assert ear.taken == [
        (b"live." + letter, b"r." + letter, b"hi", None),
        (2, b"a." + theirs, b"r." + theirs, b"yo", None),
        "ping",
    ]


@pytest.mark.parametrize(
    ("block", "is_stored", "headers"),
    [
        (b"NATS/1.0\r\nA: b\r\nC:d\r\n\r\n", True, {"A": "b", "C": "d"}),
        (b"NATS/1.0\r\nA: first\r\nA: second\r\n\r\n", True, {"A": "first"}),
        (b"NATS/1.0 404 No Messages\r\n\r\n", False, {"Status": "404", "Description": "No Messages"}),
        (b"NATS/1.0 100 Idle\r\nB: 1\r\n\r\n", False, {"Status": "100", "Description": "Idle", "B": "1"}),
        (b"NATS/1.0 404 No Messages\r\nA: b\r\n\r\n", True, {"A": "b"}),
        (b"NATS/1.0\r\nStatus: 503\r\n\r\n", True, None),
        (b"NATS/1.0\r\nStatus: 503\r\n\r\n", False, None),
        (b"NATS/1.0 \xff\xff\xff\r\nA: \xff\r\n\xff: x\r\nB b: x\r\n: x\r\nnone\r\n\r\n", False, {"A": "\ufffd"}),
        (b"", False, None),
        (b"N", True, None),
    ],
)  # fmt: skip
def test_first_of_several_headers_counts_and_malformed_ones_are_skipped(
    block: bytes, is_stored: bool, headers: dict[str, str] | None
) -> None:
    """Only the server may give a status."""
    assert read_headers(block, is_stored=is_stored) == headers


async def test_server_error_that_quotes_bytes_that_are_no_text_does_not_end_the_connection() -> None:
    ear = Ear()
    heard: list[str] = []

    async def hear(err_msg: str) -> None:
        heard.append(err_msg)

    ear._process_err = hear  # type: ignore[method-assign]
    await ear._ps.parse(b"-ERR 'Permissions Violation for Publish to \"a.\xff\"'\r\nPING\r\n")

    assert heard == ["'permissions violation for publish to \"a.\ufffd\"'"]
    assert ear.taken == ["ping"]


async def test_next_message_is_read_although_nats_py_failed_on_one() -> None:
    ear = Ear()

    async def fail(*_: object) -> None:
        raise KeyError("a bug")

    ear._process_msg = fail  # type: ignore[method-assign]
    await ear._ps.parse(b"MSG a 2 2\r\nhi\r\nPING\r\n")

    assert ear.taken == ["ping"]


def test_nats_py_still_has_the_private_names_of_its_parser() -> None:
    """The read loop of nats-py feeds a `Parser` in `_ps`, which hands messages to `_process_msg`."""
    assert parameters(Client._process_msg) == ["self", "sid", "subject", "reply", "data", "headers"]
    assert parameters(Parser.parse) == ["self", "data"]
    assert parameters(Parser.reset) == ["self"]
    assert type(Client()._ps) is Parser
    assert type(Connection()._ps) is MessageParser
    assert "self._ps.parse(b)" in source(Client._read_loop)
