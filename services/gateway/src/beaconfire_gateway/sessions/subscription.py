"""A session's subscription to a room. No I/O."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.wanted_types import WantedTypes
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import RoomKey

WRITE_BYTES = 32_768
"""Written at once to a session that catches up. The event that goes beyond it is the last before its socket is looked
at."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """The room that a name means, the role that opens it, and the event types that are wanted."""

    room: RoomKey
    role: Role
    types: WantedTypes = None

    def hears(self, entry: Entry) -> bool:
        """Whether an event of this room is for it. An event that was not checked yet is checked now."""
        entry.check()
        return (entry.audience is None or self.role in entry.audience) and (
            self.types is None or entry.type in self.types
        )


def heard(entries: Sequence[Entry], through: int, subscriptions: Iterable[Subscription]) -> Iterator[Entry]:
    """Those of the entries up to `through` that are heard by any of the subscriptions."""
    inside: dict[RoomKey, list[Subscription]] = {}
    for subscription in subscriptions:
        inside.setdefault(subscription.room, []).append(subscription)
    for entry in entries:
        if entry.offset > through:
            break
        if any(one.hears(entry) for room in entry.route.rooms for one in inside.get(room, ())):
            yield entry
