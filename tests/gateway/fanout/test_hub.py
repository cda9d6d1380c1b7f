"""The hub remembers the recipients of rooms, and a join or leave makes it forget only those that change."""

import pytest

from beaconfire_gateway.fanout.hub import Hub, Recipients
from beaconfire_gateway.fanout.route import Routes
from beaconfire_gateway.fanout.targets import CALLING
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.roles import Role
from tests.gateway.core import VERBATIM, key

ROUTES = Routes()


class Listener:
    """Stands for a session. It is its own target."""

    user_id = "u"
    writer = CALLING

    def __init__(self, wire: Wire = VERBATIM) -> None:
        self.wire = wire

    @property
    def target(self) -> "Listener":
        return self


def recipients(hub: Hub[Listener], subject: str) -> tuple[Recipients, ...]:
    route = ROUTES[subject]
    return tuple(hub.recipients(route.subject, route.rooms, "t", None))


def is_heard(hub: Hub[Listener], subject: str) -> bool:
    route = ROUTES[subject]
    return hub.is_heard(route.subject, route.rooms)


def crowd(hub: Hub[Listener], room: str, count: int = 3) -> list[Listener]:
    listeners = [Listener() for _ in range(count)]
    for listener in listeners:
        hub.join(listener, key(room), Role.VIEWER)
    return listeners


def test_joins_and_leaves_in_other_rooms_forget_no_recipients() -> None:
    """A room's recipients are the same objects after joins and leaves in other rooms, of its root and of others."""
    hub: Hub[Listener] = Hub()
    crowd(hub, "campaign:c1")
    subjects = ("campaign.c1.settlement.s1", "campaign.c1.state")
    before = [recipients(hub, subject) for subject in subjects]
    for room in ("campaign:c2", "campaign:c1/settlement:s2", "user:u1"):
        [listener] = crowd(hub, room, 1)
        hub.leave(listener, key(room), Role.VIEWER)
    after = [recipients(hub, subject) for subject in subjects]

    assert after == before  # compared by identity


@pytest.mark.parametrize("room", ["campaign:c1", "campaign:c1/settlement:s1"])
def test_join_and_leave_change_the_recipients_of_each_subject_of_the_room(room: str) -> None:
    """A session that joins any room of a subject hears it from then on, and no longer once it has left."""
    hub: Hub[Listener] = Hub()
    listeners = crowd(hub, "campaign:c1")
    subject = "campaign.c1.settlement.s1"
    found = [recipients(hub, subject)]
    [late] = crowd(hub, room, 1)
    found.append(recipients(hub, subject))
    hub.leave(late, key(room), Role.VIEWER)
    found.append(recipients(hub, subject))

    assert [[one.targets for one in each] for each in found] == [[listeners], [[*listeners, late]], [listeners]]


def test_room_without_sessions_is_remembered_until_one_joins() -> None:
    """Whether a subject is heard changes with the first session of any of its rooms, and with the last."""
    hub: Hub[Listener] = Hub()
    found = [is_heard(hub, "campaign.c1.settlement.s1")]
    listeners = crowd(hub, "campaign:c1/settlement:s1", 2)
    found.append(is_heard(hub, "campaign.c1.settlement.s1"))
    for listener in listeners:
        hub.leave(listener, key("campaign:c1/settlement:s1"), Role.VIEWER)
        found.append(is_heard(hub, "campaign.c1.settlement.s1"))

    assert found == [False, True, True, False]


def test_hubs_memory_stays_bounded_however_often_sessions_join() -> None:
    """New subjects and joins in one of their rooms, again and again, do not make the hub remember ever more."""
    hub: Hub[Listener] = Hub(max_remembered=50)
    crowd(hub, "campaign:c1")
    for number in range(1_000):
        subject = f"campaign.c1.settlement.s{number}"
        is_heard(hub, subject)
        recipients(hub, subject)
        crowd(hub, f"campaign:c1/settlement:s{number}", 1)

    assert len(hub._heard) <= 50
    assert len(hub._by_event) <= 50
    assert sum(map(len, hub._depending.values())) <= 200 + 10
    assert hub._remembered_targets == sum(len(one.targets) for found in hub._by_rooms.values() for one in found)
