"""Who is told of a change in a room, if so many watch it that they are told in several turns of the loop."""

from beaconfire_gateway.presence.attendance import GatewayAttendance
from beaconfire_gateway.presence.node import Node
from beaconfire_gateway.presence.telling import SLICE
from beaconfire_gateway.sessions.gateway import Gateway as Core
from tests.gateway.core import connect, key, settled, written
from tests.gateway.presence.watchers import ROOM


async def test_watcher_that_comes_back_meanwhile_is_not_told_what_it_knows(core: Core) -> None:
    """Even if all others have left the room's list of watchers."""
    attendance = core.attendance = GatewayAttendance(core, Node(core.process_id))
    attendance.activate()
    room = key(ROOM)
    watchers = [*await connect(core, SLICE, prefix="first"), *await connect(core, 2)]
    for session in watchers:
        attendance.watch(session, room)
    await connect(core, 1, prefix="newcomer")
    attendance.look(1.0)
    for session in watchers:
        attendance.unwatch(session, room)
    answer = attendance.watch(watchers[-1], room)
    await settled()
    told = [b'"joined":' in b"".join(written(session)) for session in (watchers[0], watchers[-2], watchers[-1])]

    assert answer is not None
    assert answer.count == SLICE + 3
    assert told == [True, False, False]
