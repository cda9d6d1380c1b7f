"""How long a gateway takes to find the sessions in a room, without network, in this process."""

import time

from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.fanout.route import Route, Routes
from beaconfire_gateway.fanout.targets import CALLING
from beaconfire_gateway.wire.framing import TextFrames
from beaconfire_gateway.wire.native import Native
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.roles import Role

SESSIONS = 10_000
LOOKS = 1_000


class _Session:
    """Stands for a session. It is its own target."""

    user_id = "u"
    writer = CALLING
    wire = Wire(Native(), TextFrames())

    @property
    def target(self) -> "_Session":
        return self


def look_up_us(rooms: int, *, joins: bool) -> float:
    """Put 10,000 sessions into so many rooms, and return the median microseconds to find those of one room.

    The hub remembers what it has found. With `joins`, a session joins the room before each look, so it must look again.
    """
    hub: Hub[_Session] = Hub()
    routes = Routes()
    asked = [routes[f"campaign.c{number}.settlement.s1"] for number in range(rooms)]
    for number in range(SESSIONS):
        hub.join(_Session(), asked[number % rooms].rooms[0], Role.VIEWER)
    found = []
    for number in range(LOOKS):
        route = asked[number % rooms]
        if joins:
            hub.join(_Session(), route.rooms[0], Role.VIEWER)
        else:
            _look(hub, route)
        began = time.perf_counter()
        _look(hub, route)
        found.append(time.perf_counter() - began)
    return 1e6 * sorted(found)[LOOKS // 2]


def _look(hub: Hub[_Session], route: Route) -> None:
    assert hub.is_heard(route.subject, route.rooms)
    assert hub.recipients(route.subject, route.rooms, "settlement.updated", None)
