"""Each connection says how often its sessions are pinged, and how long their clients may be silent."""

import asyncio

import pytest

from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.session import State
from beaconfire_gateway.wire.wire import Wire
from tests.gateway.core import started_core
from tests.gateway.toys import Brackets, Line, Lined, Words


class Paced(Line):
    """A connection whose heartbeat is not the gateway's."""

    def __init__(self, core: Core, heartbeat_s: int, patience_s: int) -> None:
        super().__init__(core)
        self._paced = heartbeat_s, patience_s

    @property
    def heartbeat_s(self) -> int:
        return self._paced[0]

    @property
    def patience_s(self) -> int:
        return self._paced[1]


@pytest.fixture(name="core")
async def _core() -> Core:
    return started_core()


async def connect(core: Core, heartbeat_s: int, patience_s: int) -> tuple[Paced, Lined]:
    line = Paced(core, heartbeat_s, patience_s)
    session = Lined(Wire(Words(), Brackets()), line)
    session.receive(b"connect a e:10 campaign:c1")
    for _ in range(30):
        await asyncio.sleep(0)
    line.taken()
    return line, session


PACES = [(25, 13), (25, 20), (30, 30), (15, 15), (10, 25), (30, 90), (1, 1)]


@pytest.mark.parametrize(("heartbeat_s", "patience_s"), PACES)
async def test_client_that_answers_is_pinged_once_in_every_heartbeat_of_its_connection(
    core: Core, heartbeat_s: int, patience_s: int
) -> None:
    line, session = await connect(core, heartbeat_s, patience_s)
    pinged = []
    for second in range(1, 10 * heartbeat_s + 1):
        core.timers.turn(second)
        if b"?" in line.taken():
            pinged.append(second)
            line.heard()

    assert pinged == [pinged[0] + beat * heartbeat_s for beat in range(len(pinged))]
    assert 0 < pinged[0] <= heartbeat_s
    assert session.state is State.LIVE


@pytest.mark.parametrize(("heartbeat_s", "patience_s"), PACES)
async def test_client_is_dropped_when_it_has_left_a_ping_unanswered_for_the_patience_of_its_connection(
    core: Core, heartbeat_s: int, patience_s: int
) -> None:
    line, session = await connect(core, heartbeat_s, patience_s)
    unanswered_at = 0
    second = 0
    while session.state is State.LIVE:
        second += 1
        core.timers.turn(second)
        if not unanswered_at and b"?" in line.taken():
            unanswered_at = second

    assert second - unanswered_at == patience_s
    assert not line.is_open
