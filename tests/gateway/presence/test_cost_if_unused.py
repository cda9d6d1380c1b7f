"""What presence, typing and selections cost a deployment whose clients do not use them: nothing."""

import tracemalloc
from pathlib import Path

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway import presence
from beaconfire_gateway.presence.attendance import GatewayAttendance
from beaconfire_gateway.presence.node import Node
from beaconfire_gateway.presence.selections import UsersSelections
from beaconfire_gateway.presence.typing_users import RoomsTypingUsers
from beaconfire_gateway.sessions.gateway import Gateway as Core
from tests.client import open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway
from tests.gateway.core import connect, deliver
from tests.gateway.presence.watchers import ROOM, watching

HERE = str(Path(presence.__file__).parent / "*")


def allocated() -> int:
    """The bytes that the package holds and that were allocated since tracemalloc has started."""
    found = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(inclusive=True, filename_pattern=HERE)])
    return sum(one.size for one in found.statistics("filename"))


@pytest.mark.parametrize("is_used", [False, True])
async def test_sessions_and_their_events_allocate_nothing_unless_somebody_asks(core: Core, *, is_used: bool) -> None:
    """Nothing for a session in its rooms, and nothing for one that has left. The same look finds what is allocated."""
    attendance = core.attendance = GatewayAttendance(core, Node(core.process_id))
    core.typing, core.selections = RoomsTypingUsers(core), UsersSelections(core)
    if is_used:
        attendance.activate()
    tracemalloc.start()
    try:
        sessions = await connect(core, 100)
        gone = await connect(core, 100, prefix="gone")
        deliver(core, 1)
        for session in gone:
            session.lost()
        for session in sessions[:10]:
            session.leave(ROOM)
        attendance.look(0.0)
        core.turn(0.0)
        held = allocated()
    finally:
        tracemalloc.stop()

    assert (held > 0) is is_used


async def said(gateway: Gateway) -> str:
    """How many messages about presence were sent."""
    lines = (await gateway.metrics()).splitlines()
    return next(line for line in lines if line.startswith("beaconfire_gateway_presence_messages_total"))


async def test_gateways_say_nothing_to_each_other_before_somebody_asks(stream: NatsServer, auth: FakeAuth) -> None:
    """However many clients come and go. The first one that asks makes both speak."""
    async with (
        running_gateway(stream, auth, heartbeat_s=1) as first,
        running_gateway(stream, auth, heartbeat_s=1) as second,
    ):
        before = await said(first)
        for gateway in (first, second) * 2:
            async with open_socket(gateway.url) as client:
                await client.connect(auth.token("editor"), [ROOM])
                await client.ask("unsubscribe", rooms=[ROOM])
                await client.next("position")
        unused = await said(first)
        async with open_socket(second.url) as other, watching(first) as (client, seen):
            await other.connect(auth.token("editor"), [ROOM])
            await seen.until(client, {"viewer": ("online", 1), "editor": ("online", 1)})
        used = await said(first)

    assert unused == before
    assert used != before
