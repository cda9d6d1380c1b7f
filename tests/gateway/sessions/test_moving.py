"""A session goes on in another process: two cores that hear the same events stand for the processes."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from beaconfire_gateway.presence.attendance import GatewayAttendance
from beaconfire_gateway.presence.node import Node
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_gateway.sessions.moving import Moved, pack, unpack
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_gateway.wire.messages import Status
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.outside_tokens import OutsideClaims
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair
from beaconfire_kit.tokens import Claims
from tests.gateway.core import SUBSCRIPTION, Open, build_core, deliver, settled, spawning
from tests.gateway.toys import Brackets, Line, Lined, Words

WIRE = Wire(Words(), Brackets())


class Strict(Open):
    """Refuses some rooms, and answers only while it is not held back."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.answers = asyncio.Event()
        self.answers.set()

    async def decide(self, claims: Claims, rooms: Sequence[str]) -> Mapping[str, Subscription | BeaconfireError]:
        await self.answers.wait()
        allowed = await super().decide(claims, rooms)
        refusal = BeaconfireError(errors.FORBIDDEN, "not a member")
        return {name: refusal if name in self.refused else one for name, one in allowed.items()}


@pytest.fixture(name="access")
async def _access() -> Strict:
    return Strict()


@pytest.fixture(name="cores")
async def _cores(access: Strict) -> list[Core]:
    loop = asyncio.get_running_loop()
    cores = [
        build_core(
            call_soon=loop.call_soon, spawn=spawning(loop), access=access, limits=Limits(max_sessions_per_user=2)
        )
        for _ in range(2)
    ]
    for core in cores:
        core.begin("e", 10)
    return cores


async def connected(core: Core, user: str = "a", rooms: str = "campaign:c1") -> Line:
    """A connection with one session that has started."""
    line = Line(core)
    Lined(WIRE, line).receive(f"connect {user} e:10 {rooms}".encode())
    await settled()
    assert line.taken() == b"[connection.ack]"
    return line


async def packed(line: Line) -> Moved:
    """Its session, as it arrives at another process."""
    moved = await pack(line.sessions)
    assert moved is not None
    (one,) = moved
    return Moved.decode(json.loads(json.dumps(one.encode())))


async def moved_to(core: Core, line: Line) -> tuple[Line, Session]:
    """The connection that goes on in another core, and its session there."""
    moved = await packed(line)
    there = Line(core)
    session = Lined(WIRE, there)
    unpack(session, moved)
    await settled()
    return there, session


def deliver_to(cores: list[Core], offset: int, body: bytes = b"x") -> None:
    for core in cores:
        deliver(core, offset, body)


def events(written: bytes) -> list[int]:
    """The offsets of the events among what was written."""
    parts = written.decode().strip("[]").split("][")
    return [int(one.split()[0]) for one in parts if one[:1].isdigit()]


async def test_session_hears_every_event_once_before_and_after_it_moves(cores: list[Core]) -> None:
    """Those that were queued when it left are written at its first process."""
    line = await connected(cores[0])
    deliver_to(cores, 11)
    await settled()
    deliver_to(cores, 12)
    moving = asyncio.ensure_future(moved_to(cores[1], line))
    deliver_to(cores, 13)
    there, session = await moving
    deliver_to(cores, 14)
    await settled()

    assert events(line.taken() + there.taken()) == [11, 12, 13, 14]
    assert session.state is State.LIVE
    assert not cores[0].hub.sessions_of("a")


async def test_message_that_waits_behind_events_is_written_before_its_session_moves() -> None:
    """Each turn of the loop makes one write, so it still waits when the events are written."""
    loop = asyncio.get_running_loop()
    core = build_core(call_soon=loop.call_soon, spawn=spawning(loop), slice_sessions=1)
    core.begin("e", 10)
    line = await connected(core)
    (session,) = line.sessions
    for number in range(5):
        await connected(core, f"b{number}")
    deliver_to([core], 11)

    async def move() -> bytes:
        await pack(line.sessions)
        return line.taken()

    moving = asyncio.ensure_future(move())
    while session.behind is None:
        await asyncio.sleep(0)
    session.leave_room("campaign:c1", "membership_removed")

    assert (await moving).endswith(b"[room.left]")


async def test_session_that_is_behind_catches_up_at_the_other_process(cores: list[Core]) -> None:
    """It was behind because its connection was full."""
    line = await connected(cores[0])
    line.fill()
    for offset in range(11, 20):
        deliver_to(cores, offset)
        await settled()
    assert line.taken() == b""
    there, session = await moved_to(cores[1], line)

    assert events(there.taken()) == list(range(11, 20))
    assert session.state is State.LIVE


async def test_process_that_is_behind_waits_until_it_has_what_the_client_had(cores: list[Core]) -> None:
    """So no event is written twice."""
    line = await connected(cores[0])
    deliver_to(cores[:1], 11)
    await settled()
    moved = await packed(line)
    there = Line(cores[1])
    session = Lined(WIRE, there)
    cores[1].history.end = _eleven  # type: ignore[method-assign]
    unpack(session, moved)
    await settled()
    before = session.state
    deliver_to(cores[1:], 11)
    deliver_to(cores[1:], 12)
    await settled()

    assert before is State.CONNECTING
    assert events(line.taken()) == [11]
    assert events(there.taken()) == [12]


async def _eleven() -> int:
    return 11


async def test_session_moves_once_its_request_is_answered(cores: list[Core], access: Strict) -> None:
    """The answer is written before it leaves."""
    line = await connected(cores[0])
    access.answers.clear()
    line.sessions[0].receive(b"subscribe e:10 campaign:c2")
    moving = asyncio.ensure_future(moved_to(cores[1], line))
    await settled()
    assert not moving.done()
    access.answers.set()
    there, session = await moving

    assert b"[reply]" in line.taken()
    assert set(session.rooms) == {"campaign:c1", "campaign:c2"}
    assert b"[reply]" not in there.taken()


async def test_messages_that_wait_are_answered_at_the_other_process_in_order(cores: list[Core]) -> None:
    """They wait for as long as a session is behind."""
    line = await connected(cores[0])
    line.fill()
    deliver_to(cores, 11)
    await settled()
    line.sessions[0].receive(b"subscribe e:11 campaign:c2")
    moved = await packed(line)
    there = Line(cores[1])
    session = Lined(WIRE, there)
    unpack(session, moved)
    session.receive(b"nonsense")
    await settled()

    assert len(moved.waiting) == 1
    assert [one for one in there.taken().split(b"[") if one[:5] in (b"reply", b"error")] == [b"reply]", b"error]"]
    assert set(session.rooms) == {"campaign:c1", "campaign:c2"}


async def test_room_that_the_user_may_not_hear_any_more_is_left(cores: list[Core], access: Strict) -> None:
    """The client is told why."""
    line = await connected(cores[0], rooms="campaign:c1 campaign:c2")
    access.refused.add("campaign:c2")
    there, session = await moved_to(cores[1], line)

    assert set(session.rooms) == {"campaign:c1"}
    assert b"[room.left]" in there.taken()


async def test_wanted_types_move_along(cores: list[Core]) -> None:
    """A room with some types, and a room with all."""
    line = await connected(cores[0], rooms="campaign:c1 campaign:c2")
    (session,) = line.sessions
    session.join("campaign:c2", replace(SUBSCRIPTION, types=frozenset({"settlement_updated"})))
    _, after = await moved_to(cores[1], line)

    assert {name: one.types for name, one in after.rooms.items()} == {
        "campaign:c1": None,
        "campaign:c2": frozenset({"settlement_updated"}),
    }


async def test_session_whose_events_are_gone_is_told_to_start_over(cores: list[Core]) -> None:
    """The other process hears another life of the stream."""
    line = await connected(cores[0])
    cores[1].begin("f", 100)
    there, _ = await moved_to(cores[1], line)

    assert b"[resync]" in there.taken()


async def test_user_with_too_many_sessions_at_the_other_process_is_closed(cores: list[Core]) -> None:
    """As any that connects there."""
    line = await connected(cores[0])
    for _ in range(2):
        await connected(cores[1])
    there, session = await moved_to(cores[1], line)

    assert session.state is State.CLOSED
    assert there.taken() == b"!4429"


async def test_session_that_never_starts_does_not_move(cores: list[Core], access: Strict) -> None:
    """Its connection has to be ended."""
    access.answers.clear()
    line = Line(cores[0])
    Lined(WIRE, line).receive(b"connect a e:10 campaign:c1")
    await settled()

    assert await pack(line.sessions, again_s=0) is None
    access.answers.set()
    await settled()


@pytest.mark.parametrize(
    "claims",
    [
        Claims("u1", "Ada", 1, 2, "t1", "k1"),
        OutsideClaims(
            "acme-u1",
            "Ada",
            1,
            2,
            "t1",
            "k1",
            outside="acme",
            subject="u1",
            email="ada@acme.example",
            grants={Pair("campaign", "c1"): Role.EDITOR, Pair("depot", "d1"): Role.VIEWER},
            token="the token",
        ),
    ],
    ids=["auth", "an outside issuer"],
)
def test_claims_of_every_issuer_arrive_as_they_left(claims: Claims) -> None:
    """Including what an outside issuer grants, and the token that auth checks again."""
    left = Moved("id", claims, "e:1", {"campaign:c1": None, "campaign:c2": ["a", "b"]}, ["waiting"])
    arrived = Moved.decode(json.loads(json.dumps(left.encode())))

    assert arrived == left
    assert type(arrived.claims) is type(claims)
    assert getattr(arrived.claims, "token", "") == getattr(claims, "token", "")


async def test_session_that_is_told_who_is_in_a_room_is_told_so_where_it_goes_on(cores: list[Core]) -> None:
    for name, core in zip(("a" * 16, "b" * 16), cores, strict=True):
        core.attendance = GatewayAttendance(core, Node(name))
    line = await connected(cores[0])
    assert cores[0].attendance is not None
    cores[0].attendance.watch(line.sessions[0], SUBSCRIPTION.room)
    cores[0].attendance.set_status(line.sessions[0], Status.BUSY)
    there, session = await moved_to(cores[1], line)

    assert cores[1].attendance is not None
    assert cores[1].attendance.is_watching(session, SUBSCRIPTION.room)
    assert cores[1].attendance.status(session) is Status.BUSY
    assert b"[presence]" in there.taken()


async def test_session_that_is_told_nothing_moves_as_in_the_version_before(cores: list[Core]) -> None:
    moved = await packed(await connected(cores[0]))

    assert not {"watched", "status"} & moved.encode().keys()
