"""Find the rooms of an event's subject, once for each subject. No I/O."""

import re

from beaconfire_kit.events.user import AccessRevoked, MemberChanged
from beaconfire_kit.subjects import ID_PATTERN, RoomKey, parse_subject

_MAX_ROUTES = 100_000
_OF_ACCESS = re.compile("|".join(re.sub(r"\{\w+\}", ID_PATTERN, one.subject) for one in (MemberChanged, AccessRevoked)))


class Route:
    """A subject's rooms, and whether its events change access to rooms."""

    __slots__ = ("is_of_access", "rooms", "subject")

    def __init__(self, subject: str, rooms: tuple[RoomKey, ...]) -> None:
        self.subject = subject
        """Empty if the event was sent to rooms of its sender's choice."""
        self.rooms = rooms
        self.is_of_access = _OF_ACCESS.fullmatch(subject) is not None


class Routes(dict[str, Route]):
    """`routes[subject]` is its route; raises InvalidSubject. Bounded: forgets all when there are too many."""

    def __missing__(self, subject: str) -> Route:
        route = Route(subject, parse_subject(subject).rooms)
        if len(self) >= _MAX_ROUTES:
            self.clear()
        self[subject] = route
        return route
