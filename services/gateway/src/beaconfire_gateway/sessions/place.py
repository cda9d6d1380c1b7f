"""Where a session stands in a room, and what is heard from there. No I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from beaconfire_gateway.fanout.ring import Entry
from beaconfire_gateway.fanout.selection import Selection
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import RoomKey

WRITE_BYTES = 32_768
"""Written to a catching-up session at once, and the event that goes beyond it: its socket is looked at before more."""


@dataclass(frozen=True, slots=True)
class Place:
    """A session's place in a room: which room its name means, the role that opened it, the event types it wants."""

    room: RoomKey
    role: Role
    types: Selection = None

    def hears(self, entry: Entry) -> bool:
        """Whether an event of this room is for it."""
        return (entry.audience is None or self.role in entry.audience) and (
            self.types is None or entry.type in self.types
        )


def heard(entries: Sequence[Entry], through: int, places: Iterable[Place]) -> tuple[list[bytes], int]:
    """The frames of a part of these entries that are heard from these places, and the offset the part ends at.

    The entries are all there are up to `through`. The part ends with the event that goes beyond WRITE_BYTES.
    """
    inside: dict[RoomKey, list[Place]] = {}
    for place in places:
        inside.setdefault(place.room, []).append(place)
    mine: list[bytes] = []
    size = 0
    for entry in entries:
        if entry.offset > through:
            break
        if any(place.hears(entry) for room in entry.route.rooms for place in inside.get(room, ())):
            mine.append(entry.frame)
            size += len(entry.frame)
            if size >= WRITE_BYTES:
                return mine, entry.offset
    return mine, through
