"""Decide what the clients that watch a room are told about it, and when. No I/O.

All of them know the same list of users: everybody in a small room, and a sample in a large one. What changes comes as
one message for a moment, and less often in a large room. So however many people join, each client is told a bounded
number of times.
"""

from beaconfire_gateway.presence.roster import Roster
from beaconfire_gateway.wire.messages import Person, Presence, PresenceChange

SAMPLE = 100
"""The most users that clients are told about by name. There may be more in the room."""
PAUSE_S = 0.2
"""The shortest time between two messages about a room."""
MAX_PAUSE_S = 2.0
"""The longest one, in rooms of a thousand users and more."""


class View:
    """A room as its watchers see it. Make it when the first one comes."""

    def __init__(self, roster: Roster, room: str) -> None:
        self._roster = roster
        self._room = room
        self._shown: dict[str, Person] = {}
        self._count = 0
        self._next_at = 0.0
        roster.watch(room)
        self._fill(dict.fromkeys(roster.users(room)))
        self._count = roster.count(room)

    def close(self) -> None:
        """Nobody watches any more."""
        self._roster.unwatch(self._room)

    def presence(self) -> Presence:
        """Return what its watchers know, for a new one."""
        return Presence(self._room, self._count, tuple(self._shown.values()))

    def look(self, now: float) -> PresenceChange | None:
        """Return what its watchers must be told now. None if there is nothing, or it is not yet time."""
        if now < self._next_at or not self._roster.has_changes(self._room):
            return None
        changed = self._roster.take_changes(self._room)
        before, self._count = self._count, self._roster.count(self._room)
        renewed: list[Person] = []
        left: list[str] = []
        for user in changed:
            if user not in self._shown:
                continue
            person = self._roster.person(self._room, user)
            if person is None:
                del self._shown[user]
                left.append(user)
            elif person != self._shown[user]:
                self._shown[user] = person
                renewed.append(person)
        joined = self._fill(dict.fromkeys(changed))
        if not (renewed or left or joined or before != self._count):
            return None
        self._next_at = now + min(MAX_PAUSE_S, PAUSE_S * max(1.0, self._count / SAMPLE))
        return PresenceChange(self._room, self._count, tuple(joined), tuple(renewed), tuple(left))

    def _fill(self, first: dict[str, None]) -> list[Person]:
        """Show more users, as long as the list is not full: these first. Returns them."""
        joined: list[Person] = []
        room, shown = self._room, self._shown
        for users in (first, self._roster.users(room)):
            if len(shown) >= min(SAMPLE, self._roster.count(room)):
                break
            for user in users:
                if user not in shown and (person := self._roster.person(room, user)) is not None:
                    shown[user] = person
                    joined.append(person)
                    if len(shown) >= SAMPLE:
                        break
        return joined
