"""Several sessions on one connection, as the namespaces of a protocol need: each has its own wire and its own life."""

import pytest

from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from tests.gateway.core import deliver, settled, started_core
from tests.gateway.toys import Brackets, Line, Lined, Words


@pytest.fixture(name="core")
async def _core() -> Core:
    return started_core()


@pytest.fixture(name="line")
async def _line(core: Core) -> Line:
    """A connection with two sessions, whose framings differ."""
    line = Line(core)
    for user, brackets in (("a", b"[]"), ("b", b"<>")):
        Lined(Wire(Words(), Brackets(brackets)), line).receive(f"connect {user} e:10 campaign:c1".encode())
    await settled()
    line.taken()
    return line


def states(sessions: list[Session]) -> list[State]:
    return [one.state for one in sessions]


async def test_event_is_sent_to_each_session_of_a_connection(core: Core, line: Line) -> None:
    """Each session gets each event once, as its own wire writes it, in the order of the stream."""
    deliver(core, 11, b"abc")
    deliver(core, 12, b"def")
    await settled()

    heard = line.taken()
    assert sorted([heard[:8], heard[8:16]]) == [b"<11 cba>", b"[11 cba]"]
    assert sorted([heard[16:24], heard[24:]]) == [b"<12 fed>", b"[12 fed]"]


async def test_full_connection_makes_each_of_its_sessions_catch_up(core: Core, line: Line) -> None:
    """While the connection is full, nothing is written to it. Then each session gets what it missed."""
    line.fill()
    deliver(core, 11, b"abc")
    await settled()
    while_full = states(line.sessions), line.taken()
    line.drain()
    await settled()

    heard = line.taken()
    assert while_full == ([State.CATCHING_UP] * 2, b"")
    assert states(line.sessions) == [State.LIVE] * 2
    assert heard.count(b"[11 cba]") == heard.count(b"<11 cba>") == 1


async def test_closed_session_leaves_the_others_alone(core: Core, line: Line) -> None:
    """One session is closed; the other one on the same connection goes on."""
    sessions = list(line.sessions)
    sessions[0].close(BeaconfireError(errors.TOKEN_INVALID, "the token ran out"))
    still_open, goodbye = line.is_open, line.taken()
    deliver(core, 11, b"abc")
    await settled()

    assert (still_open, goodbye) == (True, b"!4401")
    assert states(sessions) == [State.CLOSED, State.LIVE]
    assert line.taken() == b"<11 cba>"
