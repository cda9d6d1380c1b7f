"""Sum up who is in each room, from what every gateway knows. No I/O."""

from collections.abc import Collection, Iterator, Mapping

from beaconfire_gateway.presence.messages import Share, foremost
from beaconfire_gateway.wire.messages import Person

_Shares = tuple[tuple[str, Share], ...]
"""What each gateway knows of a user in a room. Mostly one gateway does."""


class Roster:
    """The users of all rooms."""

    def __init__(self) -> None:
        self._rooms: dict[str, dict[str, _Shares]] = {}
        self._watched: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def put(self, gateway: str, room: str, user: str, share: Share | None) -> None:
        """Note what a gateway knows of a user in a room. None: the user is not there."""
        users = self._rooms.get(room)
        before: _Shares = () if users is None else users.get(user, ())
        shares = tuple(one for one in before if one[0] != gateway)
        if share is not None:
            shares = (*shares, (gateway, share))
        if shares:
            if users is None:
                users = self._rooms[room] = {}
            users[user] = shares
        elif users is not None and before:
            del users[user]
            if not users:
                del self._rooms[room]
        if room in self._watched:
            self._watched[room][user] = None

    def drop(self, gateway: str) -> None:
        """Forget everything that a gateway knew."""
        for room, user in self._of(gateway):
            self.put(gateway, room, user, None)

    def keep_only(self, gateway: str, entries: Mapping[str, Mapping[str, Share | None]]) -> None:
        """Forget what a gateway knew and does not know any more, according to `entries`."""
        for room, user in self._of(gateway):
            if user not in entries.get(room, ()):
                self.put(gateway, room, user, None)

    def person(self, room: str, user: str) -> Person | None:
        """Return a user in a room, over all gateways. None if the user is not there."""
        shares = self._rooms.get(room, {}).get(user)
        return None if shares is None else _person(user, shares)

    def users(self, room: str) -> Collection[str]:
        """Return the ids of the users in a room."""
        return self._rooms.get(room, {}).keys()

    def count(self, room: str) -> int:
        """Return how many users are in a room."""
        return len(self._rooms.get(room, ()))

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield each room that has users, with how many it has."""
        return ((room, len(users)) for room, users in self._rooms.items())

    # What changes in rooms that somebody watches.

    def watch(self, room: str) -> None:
        """Collect the users of a room that change."""
        self._watched.setdefault(room, {})

    def unwatch(self, room: str) -> None:
        """Undo `watch`."""
        self._watched.pop(room, None)

    def has_changes(self, room: str) -> bool:
        """Whether a user of a watched room has changed since `take_changes`."""
        return bool(self._watched.get(room))

    def take_changes(self, room: str) -> Collection[str]:
        """Return the users of a watched room that have changed since the last call."""
        changed = self._watched[room]
        self._watched[room] = {}
        return changed

    def _of(self, gateway: str) -> list[tuple[str, str]]:
        return [
            (room, user)
            for room, users in self._rooms.items()
            for user, shares in users.items()
            if any(one[0] == gateway for one in shares)
        ]


def _person(user: str, shares: _Shares) -> Person:
    connected = [share for _, share in shares if share.devices]
    status = foremost({share.status for share in connected or [share for _, share in shares]})
    return Person(user, status, max(1, sum(share.devices for share in connected)))
