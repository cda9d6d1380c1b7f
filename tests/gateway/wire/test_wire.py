"""beaconfire_gateway.wire.wire: sessions of several wires on one core. Each wire's bytes are made once, by whatever way
an event reaches its sessions."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.ring import Ring
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.wire.framing import TextFrames
from beaconfire_gateway.wire.messages import Degraded
from beaconfire_gateway.wire.plain import Plain
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.subjects import Pair
from tests.gateway.core import (
    ROUTE,
    VERBATIM,
    Empty,
    Unframed,
    Verbatim,
    build_core,
    deliver,
    settled,
    spawning,
)
from tests.gateway.toys import Brackets, Line, Lined, Words


class Stored(Empty):
    """A stream with events, which the ring does not have."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    async def page(self, _roots: Iterable[Pair], after: int, _ring: Ring) -> tuple[Sequence[Entry], int]:
        return [one for one in self.entries if one.offset > after], self.entries[-1].offset


@pytest.fixture(name="history")
def _history() -> Stored:
    return Stored()


@pytest.fixture(name="core")
async def _core(history: Stored) -> Core:
    loop = asyncio.get_running_loop()
    core = build_core(call_soon=loop.call_soon, spawn=spawning(loop), history=history, ring_bytes=20_000)
    core.begin("e", 10)
    return core


async def connect(core: Core, wire: Wire, user: str, cursor: str = "e:10", room: str = "campaign:c1") -> Line:
    """A session of the toy protocol that has heard what its cursor leaves out."""
    line = Line(core)
    Lined(wire, line).receive(f"connect {user} {cursor} {room}".encode())
    await settled()
    return line


async def test_live_event_is_encoded_once_for_each_wire(core: Core) -> None:
    """Sessions with one wire share its bytes; sessions with another wire get other bytes of the same event."""
    words, other_words = Words(), Words()
    square, angled = Wire(words, Brackets()), Wire(other_words, Brackets(b"<>"))
    lines = [await connect(core, wire, user) for wire, user in ((square, "a"), (square, "b"), (angled, "c"))]
    for line in lines:
        line.taken()
    deliver(core, 11, b"abc")
    await settled()

    assert [line.taken() for line in lines] == [b"[11 cba]", b"[11 cba]", b"<11 cba>"]
    assert (words.encoded, other_words.encoded) == ([11], [11])


async def test_ring_gives_resuming_sessions_the_bytes_that_were_sent_live(core: Core) -> None:
    """A session that resumes from the ring gets the bytes of its wire, and nothing is encoded again."""
    words = Words()
    wire = Wire(words, Brackets())
    await connect(core, wire, "a")
    for offset, body in ((11, b"abc"), (12, b"def")):
        deliver(core, offset, body)
    await settled()
    resumed = [await connect(core, wire, user, cursor) for user, cursor in (("b", "e:10"), ("c", "e:11"))]

    assert [line.taken() for line in resumed] == [
        b"[connection.ack][11 cba][12 fed][position e:12][position e:12]",
        b"[connection.ack][12 fed][position e:12][position e:12]",
    ]
    assert words.encoded == [11, 12]


async def test_replay_from_the_stream_is_encoded_once_for_each_wire(core: Core, history: Stored) -> None:
    """Sessions that resume from before the ring share the bytes of their wire, whatever their cursors are."""
    words, other_words = Words(), Words()
    history.entries = [Entry(offset, ROUTE, b"old%d" % offset, 0.0, type="t") for offset in (4, 6, 10)]
    square, angled = Wire(words, Brackets()), Wire(other_words, Brackets(b"<>"))
    lines = [
        await connect(core, wire, user, cursor)
        for wire, user, cursor in ((square, "a", "e:3"), (square, "b", "e:5"), (angled, "c", "e:6"))
    ]

    assert [line.taken() for line in lines] == [
        b"[connection.ack][4 4dlo][6 6dlo][10 01dlo][position e:10][position e:10]",
        b"[connection.ack][6 6dlo][10 01dlo][position e:10][position e:10]",
        b"<connection.ack><10 01dlo><position e:10><position e:10>",
    ]
    assert (words.encoded, other_words.encoded) == ([4, 6, 10], [10])


async def test_sessions_of_different_wires_do_not_share_a_catch_up(core: Core) -> None:
    """Two sessions that missed the same in the same room get the bytes of their own wires."""
    deliver(core, 11, b"abc")
    lines = [
        await connect(core, Wire(Words(), Brackets(brackets)), user) for brackets, user in ((b"[]", "a"), (b"<>", "b"))
    ]

    assert [line.taken() for line in lines] == [
        b"[connection.ack][11 cba][position e:11][position e:11]",
        b"<connection.ack><11 cba><position e:11><position e:11>",
    ]


async def test_restored_message_is_the_dialects_own(core: Core) -> None:
    """A `subscribe` with a cursor is answered in the session's own dialect and framing."""
    line = await connect(core, Wire(Words(), Brackets()), "a", room="")
    deliver(core, 11, b"abc")
    line.taken()
    line.sessions[0].receive(b"subscribe e:10 campaign:c1")
    await settled()

    assert line.taken() == b"[restored][reply]"


async def test_message_that_a_dialect_does_not_have_is_not_sent(core: Core) -> None:
    """A message without a counterpart in the session's dialect is not written, not even as an empty frame."""
    line = await connect(core, Wire(Words(), Brackets()), "a")
    line.taken()
    core.send_goaways(10, 0.0)
    await settled()

    assert line.taken() == b""


async def test_clients_that_know_no_goaway_are_closed_one_after_the_other_within_half_the_window(core: Core) -> None:
    """The last one connects while the gateway is already stopping."""
    wire = Wire(Words(), Brackets())
    lines = [await connect(core, wire, user) for user in ("a", "b", "c", "d")]
    goaways = core.send_goaways(40, time.monotonic())
    began_at = time.monotonic()
    lines.append(await connect(core, wire, "e"))
    open_ = []
    for at_s in (0, 4, 6, 14, 16, 19, 31):
        goaways.close_due(began_at + at_s)
        open_.append([line.is_open for line in lines])

    assert [states.count(True) for states in open_] == [4, 4, 3, 2, 1, 1, 0]
    assert open_[-2] == [False] * 4 + [True]
    assert b"!4503" in lines[0].taken()


async def test_bytes_of_every_wire_count_against_the_ring(core: Core) -> None:
    """Encoding an event for one more wire takes room in the ring, and the oldest events leave for it."""
    for offset in range(11, 31):
        deliver(core, offset, b"x" * 500)
    before, count = core.ring.bytes, len(core.ring)
    for entry in core.ring.after(10, 100):
        entry.frame(Wire(Words(), Brackets()))
    after = core.ring.bytes

    assert before < after <= 20_000
    assert len(core.ring) < count
    assert after == sum(entry.size for entry in core.ring.after(0, 100))


async def test_body_is_kept_once_for_one_wire_and_once_more_for_all_others(core: Core) -> None:
    """The bytes for wires that contain the body as it is take no more room than what is put around it."""
    body = b"x" * 5_000
    entry = deliver(core, 11, body)
    sizes = [entry.size]
    for wire in (VERBATIM, *(Wire(Verbatim(), Unframed()) for _ in range(3))):
        assert entry.frame(wire) == body
        sizes.append(entry.size)

    assert [after - before > 500 for before, after in pairwise(sizes)] == [False, True, False, False]
    assert entry.body == body
    assert core.ring.bytes == entry.size


async def test_event_that_left_the_ring_is_not_counted_any_more(core: Core) -> None:
    """An event that is encoded after it left the ring does not take room in it."""
    gone = deliver(core, 11, b"abc")
    core.ring.start(11)
    gone.frame(Wire(Words(), Brackets()))

    assert core.ring.bytes == 0


def test_wire_names_its_dialect() -> None:
    assert Wire(Words(), Brackets()).dialect_name == "words"


def test_message_to_all_sessions_is_encoded_once_and_the_next_one_anew() -> None:
    """A dialect may write the time into it."""
    wire = Wire(Plain(resumes=False), TextFrames())
    message = Degraded()
    first, again, later = wire.encode(message), wire.encode(message), wire.encode(Degraded())

    assert first is again
    assert later is not first
