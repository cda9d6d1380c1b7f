"""T12: the groups of cases of the Autobahn|Testsuite, by our own fixtures, against a running gateway."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from beaconfire_gateway.wire.websocket_frames import Opcode
from tests.security.conftest import Target
from tests.websocket import RawSocket, client_frame

TEXT, BINARY, CONT, CLOSE, PING, PONG = (
    Opcode.TEXT,
    Opcode.BINARY,
    Opcode.CONTINUATION,
    Opcode.CLOSE,
    Opcode.PING,
    Opcode.PONG,
)
MAX = 16 * 1024
TOO_LARGE = 4413


@dataclass(frozen=True)
class Case:
    """A case: bytes to send, and the `frames` that come back in order.

    A close with the code `close` follows, or the connection goes on (None).
    """

    number: str
    send: bytes
    frames: Sequence[tuple[int, bytes]] = ()
    close: int | None = None
    chop: int = 0
    """Written in pieces of so many bytes."""


def text(payload: bytes = b"no message", *, final: bool = True, rsv: int = 0) -> bytes:
    return client_frame(payload, TEXT, final=final, rsv=rsv)


def cont(payload: bytes = b"", *, final: bool = True) -> bytes:
    return client_frame(payload, CONT, final=final)


def ping(payload: bytes = b"") -> bytes:
    return client_frame(payload, PING)


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    return client_frame(b"" if code is None else code.to_bytes(2, "big") + reason, CLOSE)


def pong(payload: bytes = b"") -> tuple[int, bytes]:
    return PONG, payload


def message(size: int) -> bytes:
    """A `ping` of the protocol of exactly this many bytes."""
    head = b'{"type":"ping","id":"m","pad":"'
    return head + b"x" * (size - len(head) - 2) + b'"}'


ERROR = (TEXT, b"error")
REPLY = (TEXT, b"reply")


def framed(payload: bytes, size: int, *, opcode: Opcode = TEXT) -> bytes:
    """A message in fragments of `size` bytes."""
    parts = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    last = len(parts) - 1
    return b"".join(
        client_frame(part, opcode if index == 0 else CONT, final=index == last) for index, part in enumerate(parts)
    )


FRAMING = [
    Case("1.1.1", text(b""), [ERROR]),
    *(
        Case(f"1.1.{number}", text(message(size)), [REPLY])
        for number, size in ((2, 125), (3, 126), (4, 127), (5, 128), (6, MAX))
    ),
    Case("1.1.7 over our limit", text(message(65_535)), close=TOO_LARGE),
    Case("1.1.8 in pieces", text(message(16_000)), [REPLY], chop=997),
    *(
        Case(f"1.2.{number} no binary", client_frame(b"\xfe" * size, BINARY), close=1003)
        for number, size in ((1, 0), (2, 125), (3, 126), (4, 127), (5, 128), (6, MAX))
    ),
    Case("1.2.7 over our limit", client_frame(b"\xfe" * 65_536, BINARY), close=TOO_LARGE),
]

PINGS = [
    Case("2.1", ping(), [pong()]),
    Case("2.2", ping(b"Hello, world!"), [pong(b"Hello, world!")]),
    Case("2.3", ping(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), [pong(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")]),
    Case("2.4", ping(b"\xfe" * 125), [pong(b"\xfe" * 125)]),
    Case("2.5", ping(b"\xfe" * 126), close=1002),
    Case("2.6", ping(b"\xfe" * 125), [pong(b"\xfe" * 125)], chop=1),
    Case("2.7", client_frame(b"", PONG)),
    Case("2.8", client_frame(b"unsolicited pong payload", PONG)),
    Case("2.9", client_frame(b"unsolicited", PONG) + ping(b"ping payload"), [pong(b"ping payload")]),
    Case("2.10", b"".join(ping(b"payload-%d" % i) for i in range(10)), [pong(b"payload-%d" % i) for i in range(10)]),
    Case(
        "2.11",
        b"".join(ping(b"payload-%d" % i) for i in range(10)),
        [pong(b"payload-%d" % i) for i in range(10)],
        chop=1,
    ),
]

RESERVED_BITS = [
    Case("3.1", text(rsv=0x10), close=1002),
    Case("3.2", text() + text(rsv=0x20) + ping(), [ERROR], 1002),
    Case("3.3", text() + text(rsv=0x30) + ping(), [ERROR], 1002, chop=20),
    Case("3.4", text() + text(rsv=0x40) + ping(), [ERROR], 1002, chop=1),
    Case("3.5", client_frame(b"\x00\xff", BINARY, rsv=0x50), close=1002),
    Case("3.6", client_frame(b"Hello, world!", PING, rsv=0x60), close=1002),
    Case("3.7", client_frame(b"\x03\xe8", CLOSE, rsv=0x70), close=1002),
]

OPCODES = [
    *(
        Case(f"4.{group}.{number}", before + client_frame(payload, opcode) + after, frames, 1002, chop)
        for group, first in ((1, 3), (2, 11))
        for number, opcode, before, payload, after, frames, chop in (
            (1, first, b"", b"", b"", [], 0),
            (2, first + 1, b"", b"reserved opcode payload", b"", [], 0),
            (3, first + 2, text(), b"", ping(), [ERROR], 0),
            (4, first + 3, text(), b"reserved", ping(), [ERROR], 17),
            (5, first + 4, text(), b"reserved", ping(), [ERROR], 1),
        )
    ),
]

FRAGMENTS = [
    Case("5.1", client_frame(b"frag", PING, final=False) + cont(b"ment"), close=1002),
    Case("5.2", client_frame(b"frag", PONG, final=False) + cont(b"ment"), close=1002),
    Case("5.3", framed(message(100), 50), [REPLY]),
    Case("5.4", framed(message(100), 50), [REPLY], chop=56),
    Case("5.5", framed(message(100), 50), [REPLY], chop=1),
    *(
        Case(
            number,
            text(message(100)[:50], final=False) + ping(b"between") + cont(message(100)[50:]),
            [pong(b"between"), REPLY],
            chop=chop,
        )
        for number, chop in (("5.6", 0), ("5.7", 33), ("5.8", 1))
    ),
    *(
        Case(number, cont(b"nothing to continue", final=final) + text(), close=1002, chop=chop)
        for number, final, chop in (
            ("5.9", True, 0),
            ("5.10", True, 25),
            ("5.11", True, 1),
            ("5.12", False, 0),
            ("5.13", False, 25),
            ("5.14", False, 1),
        )
    ),
    Case("5.15", framed(b"no message", 5) + cont(b"more", final=False) + text(), [ERROR], 1002),
    Case("5.16", (cont(b"fragment", final=False) + text()) * 2, close=1002),
    Case("5.17", (cont(b"fragment") + text()) * 2, close=1002),
    Case("5.18", text(b"fragment1", final=False) + text(b"fragment2"), close=1002),
    *(
        Case(
            number,
            text(message(100)[:20], final=False)
            + cont(message(100)[20:40], final=False)
            + ping(b"pongme 1!")
            + cont(message(100)[40:60], final=False)
            + cont(message(100)[60:80], final=False)
            + ping(b"pongme 2!")
            + cont(message(100)[80:]),
            [pong(b"pongme 1!"), pong(b"pongme 2!"), REPLY],
            chop=chop,
        )
        for number, chop in (("5.19", 0), ("5.20", 40))
    ),
]

STARTS = ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))
LONELY_STARTS = [bytes(range(low, high + 1)) for low, high in STARTS]
INCOMPLETE = "c0 e080 f08080 f8808080 fc80808080 df efbf f7bfbf fbbfbfbf fdbfbfbfbf"
VALID_UTF8 = {
    "6.5": "68656c6c6f24776f726c64 68656c6c6fc2a2776f726c64 68656c6c6fe282ac776f726c64 "
    "68656c6c6ff0a4ada2776f726c64 cebae1bdb9cf83cebcceb5",
    "6.7": "00 c280 e0a080 f0908080",
    "6.9": "7f dfbf efbfbf f48fbfbf",
    "6.11": "ed9fbf ee8080 efbfbd f48fbfbf",
    "6.22": "efbfbe efbfbf "
    + " ".join((chr(plane << 16 | low)).encode().hex() for plane in range(1, 17) for low in (0xFFFE, 0xFFFF)),
    "6.23": "efbfb9 efbfba efbfbb efbfbc efbfbd efbfbe efbfbf",
}
INVALID_UTF8 = {
    "6.8": "f888808080 fc8480808080",
    "6.10": "f7bfbfbf fbbfbfbfbf fdbfbfbfbfbf",
    "6.11b": "f4908080",
    "6.12": "80 bf 80bf 80bf80 80bf80bf 80bf80bf80 80bf80bf80bf " + bytes(range(0x80, 0xC0)).hex(),
    "6.13": " ".join(b"".join(bytes((start, 0x20)) for start in starts).hex() for starts in LONELY_STARTS),
    "6.14": INCOMPLETE,
    "6.15": INCOMPLETE.replace(" ", ""),
    "6.16": "fe ff fefeffff",
    "6.17": "c0af e080af f08080af f8808080af fc80808080af",
    "6.18": "c1bf e09fbf f08fbfbf f887bfbfbf fc83bfbfbfbf",
    "6.19": "c080 e08080 f0808080 f880808080 fc8080808080",
    "6.20": "eda080 edadbf edae80 edafbf edb080 edbe80 edbfbf",
    "6.21": "eda080edb080 eda080edbfbf edadbfedb080 edadbfedbfbf edae80edb080 edae80edbfbf edafbfedb080 edafbfedbfbf",
}
KOSME = bytes.fromhex("cebae1bdb9cf83cebcceb5")
BROKEN = KOSME + b"\xed\xa0\x80" + b"edited"

UTF8 = [
    Case("6.1.1", text(b""), [ERROR]),
    Case("6.1.2", text(b"", final=False) + cont(final=False) + cont(), [ERROR]),
    Case("6.1.3", text(b"", final=False) + cont(b"middle frame payload", final=False) + cont(), [ERROR]),
    Case("6.2.1", text("Hello-µ@ßöäüàá-UTF-8!!".encode()), [ERROR]),
    Case("6.2.2", framed("Hello-µ@ßöäüàá-UTF-8!!".encode(), 12), [ERROR]),
    Case("6.2.3", framed("Hello-µ@ßöäüàá-UTF-8!!".encode(), 1), [ERROR]),
    Case("6.2.4", framed(KOSME, 1), [ERROR]),
    Case("6.3.1", text(BROKEN), close=1007),
    Case("6.3.2", framed(BROKEN, 1), close=1007),
    Case("6.4.1", framed(KOSME + b"\xf4\x90\x80\x80edited", 11), close=1007),
    Case("6.4.2", framed(KOSME + b"\xf4\x90\x80\x80edited", 12), close=1007),
    Case("6.4.3", text(KOSME + b"\xf4\x90\x80\x80edited"), close=1007, chop=17),
    Case("6.4.4", text(KOSME + b"\xf4\x90\x80\x80edited"), close=1007, chop=1),
    *(
        Case(f"6.6.{length}", text(KOSME[:length]), [ERROR])
        if length in (2, 5, 7, 9, 11)
        else Case(f"6.6.{length}", text(KOSME[:length]), close=1007)
        for length in range(1, 12)
    ),
    *(
        Case(f"{group}.{number}", text(bytes.fromhex(payload)), [ERROR])
        for group, payloads in VALID_UTF8.items()
        for number, payload in enumerate(payloads.split(), start=1)
    ),
    *(
        Case(f"{group}.{number}{how}", framed(bytes.fromhex(payload), size), close=1007)
        for group, payloads in INVALID_UTF8.items()
        for number, payload in enumerate(payloads.split(), start=1)
        for how, size in (("", 1000), (" in fragments", 1))
    ),
]

CLOSES = [
    Case("7.1.1", text() + close(1000), [ERROR], 1000),
    Case("7.1.2", close(1000) + close(1000), close=1000),
    Case("7.1.3", close(1000) + ping(), close=1000),
    Case("7.1.4", close(1000) + text(), close=1000),
    Case("7.1.5", text(b"fragment", final=False) + close(1000) + cont(b"fragment"), close=1000),
    Case("7.1.6", text(message(MAX)) + close(1000) + ping(), [REPLY], 1000),
    Case("7.3.1", close(), close=1000),
    Case("7.3.2", client_frame(b"a", CLOSE), close=1002),
    Case("7.3.3", close(1000), close=1000),
    Case("7.3.4", close(1000, b"Hello World!"), close=1000),
    Case("7.3.5", close(1000, b"*" * 123), close=1000),
    Case("7.3.6", close(1000, b"*" * 124), close=1002),
    Case("7.5.1", close(1000, BROKEN), close=1007),
    *(
        Case(f"7.7.{number}", close(code), close=code)
        for number, code in enumerate((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999), 1)
    ),
    *(
        Case(f"7.9.{number}", close(code), close=1002)
        for number, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1)
    ),
    Case("7.13.1", close(5000), close=1002),
    Case("7.13.2", close(65_535), close=1002),
]

LIMITS = [
    *(
        Case(f"9.{group}.{number} over our limit", client_frame(b"*" * size, opcode), close=TOO_LARGE)
        for group, opcode in ((1, TEXT), (2, BINARY))
        for number, size in ((1, 65_536), (2, 262_144), (3, 1_048_576))
    ),
    *(
        Case(f"9.{group}.{number} over our limit", framed(b"*" * 65_536, size, opcode=opcode), close=TOO_LARGE)
        for group, opcode in ((3, TEXT), (4, BINARY))
        for number, size in ((1, 64), (2, 256), (3, 1024), (4, 4096), (5, 16_384))
    ),
    Case("9.3.9 as much as may be", framed(message(MAX), 64), [REPLY]),
    *(Case(f"9.5.{number}", text(message(MAX)), [REPLY], chop=chop) for number, chop in ((1, 64), (2, 128), (3, 1024))),
    Case("9.7.1", text(b'{"type":"ping","id":1}') * 90, [REPLY] * 90),
]

MISCELLANEOUS = [Case("10.1.1", framed(message(MAX), 1300), [REPLY])]

CASES = [
    *FRAMING,
    *PINGS,
    *RESERVED_BITS,
    *OPCODES,
    *FRAGMENTS,
    *UTF8,
    *CLOSES,
    *LIMITS,
    *MISCELLANEOUS,
]


async def _send(raw: RawSocket, case: Case) -> None:
    step = case.chop or len(case.send)
    for start in range(0, len(case.send), step):
        raw.write(case.send[start : start + step])
        if case.chop:
            await raw.writer.drain()


async def _next(raw: RawSocket) -> tuple[int, bytes]:
    """The next frame that is an answer: a text by the type of its message. Heartbeats are passed over."""
    while True:
        opcode, payload = await raw.frame()
        if opcode != TEXT:
            return opcode, payload
        kind = json.loads(payload)["type"]
        if kind in ("error", "reply"):
            return TEXT, kind.encode()


@pytest.mark.parametrize("case", CASES, ids=[case.number for case in CASES])
async def test_gateway_answers_or_closes_as_rfc_6455_says(target: Target, case: Case) -> None:
    """T12: a gateway answers what is right, and closes what is wrong with the code that RFC 6455 gives it."""
    async with target.wire() as raw:
        await _send(raw, case)
        answers = [await _next(raw) for _ in case.frames]
        if case.close is None:
            raw.write(ping(b"still there"))
            after = await _next(raw)
        else:
            opcode, payload = await _next(raw)
            after = opcode, payload[:2]

    assert answers == list(case.frames)
    assert after == (pong(b"still there") if case.close is None else (CLOSE, case.close.to_bytes(2, "big")))


def test_every_applicable_autobahn_group_has_cases_and_no_case_twice() -> None:
    """T12: every group of Autobahn's cases that applies is covered."""
    numbers = [case.number for case in CASES]

    assert sorted({int(number.split(".")[0]) for number in numbers}) == [1, 2, 3, 4, 5, 6, 7, 9, 10]
    assert len(numbers) == len(set(numbers))
    assert len(numbers) > 250


def test_conformance_page_has_the_figures_of_the_case_tables() -> None:
    """T12: the report in the documentation has the figures of these tables."""
    report = (Path(__file__).parents[2] / "docs/topics/websocket-conformance.md").read_text()
    rows = re.findall(r"^\| (\d+) \| .*? \| (\d+) \| (\d+) \|", report, re.MULTILINE)
    counted = Counter(int(case.number.split(".")[0]) for case in CASES)

    assert [(int(group), int(cases), int(passed)) for group, cases, passed in rows] == [
        (group, cases, cases) for group, cases in sorted(counted.items())
    ]
