"""Count the sessions of one gateway by room and user. No I/O.

A user whose last session was lost stays for a grace period: a client that reconnects was never gone. A user that leaves
a room, or is removed from it, is gone at once.
"""

from collections.abc import Hashable, Iterable, Iterator

from beaconfire_gateway.presence.messages import Share, foremost, share_of
from beaconfire_gateway.wire.messages import Status

GRACE_S = 10.0
"""How long a user whose connection was lost may stay away without being taken for gone."""


class OwnSessions:
    """The sessions of this gateway. `take_changes` has what others should know."""

    def __init__(self) -> None:
        self._rooms: dict[str, dict[str, tuple[Hashable, ...]]] = {}
        self._leaving: dict[tuple[str, str], tuple[float, Status]] = {}  # the one that ends first is first
        self._leaving_of: dict[str, set[str]] = {}  # the rooms of those, by user
        self._status: dict[Hashable, Status] = {}  # of sessions that are not online
        self._changed: dict[str, dict[str, None]] = {}

    def join(self, session: Hashable, user: str, room: str) -> None:
        """A session is in a room. It may be there already."""
        users = self._rooms.setdefault(room, {})
        sessions = users.get(user, ())
        if session not in sessions:
            users[user] = (*sessions, session)
            self._let_go(room, user)
            self._note(room, user)

    def leave(self, session: Hashable, user: str, room: str) -> None:
        """A session has left a room: its user is gone, unless another session is there."""
        if self._remove(session, user, room):
            self._let_go(room, user)

    def lose(self, session: Hashable, user: str, rooms: Iterable[str], now: float) -> None:
        """A session is out of these rooms, and may come back soon."""
        status = self._status.get(session, Status.ONLINE)
        for room in rooms:
            if self._remove(session, user, room):
                self._leaving[room, user] = now + GRACE_S, status
                self._leaving_of.setdefault(user, set()).add(room)

    def forget(self, user: str, root: str | None) -> None:
        """End the grace periods of a user in the rooms of a root, or in all. Sessions that are there do not matter."""
        for room in tuple(self._leaving_of.get(user, ())):
            if root is None or room.partition("/")[0] == root:
                self._let_go(room, user)
                self._note(room, user)

    def set_status(self, session: Hashable, user: str, rooms: Iterable[str], status: Status) -> None:
        """A session says how its user is. `rooms` are those that it is in."""
        if status is Status.ONLINE:
            self._status.pop(session, None)
        else:
            self._status[session] = status
        for room in rooms:
            if session in self._rooms.get(room, {}).get(user, ()):
                self._note(room, user)

    def status(self, session: Hashable) -> Status:
        """Return what a session has said of its user."""
        return self._status.get(session, Status.ONLINE)

    def forget_status(self, session: Hashable) -> None:
        """A session has ended."""
        self._status.pop(session, None)

    def expire(self, now: float) -> None:
        """Forget the users whose grace period is over."""
        while self._leaving:
            key = next(iter(self._leaving))
            if self._leaving[key][0] > now:
                return
            self._let_go(*key)
            self._note(*key)

    def share(self, room: str, user: str) -> Share | None:
        """Return what others should know of a user in a room."""
        sessions = self._rooms.get(room, {}).get(user)
        if sessions:
            status = foremost({self._status.get(one, Status.ONLINE) for one in sessions})
            return share_of(len(sessions), status)
        leaving = self._leaving.get((room, user))
        return None if leaving is None else share_of(0, leaving[1])

    def everything(self) -> dict[str, dict[str, Share | None]]:
        """Return what others should know of everybody."""
        found: dict[str, dict[str, Share | None]] = {}
        for room, user in self._everybody():
            found.setdefault(room, {})[user] = self.share(room, user)
        return found

    def take_changes(self) -> dict[str, dict[str, Share | None]]:
        """Return what has changed since the last call."""
        changed, self._changed = self._changed, {}
        return {room: {user: self.share(room, user) for user in users} for room, users in changed.items()}

    def _everybody(self) -> Iterator[tuple[str, str]]:
        for room, users in self._rooms.items():
            for user in users:
                yield room, user
        yield from self._leaving

    def _let_go(self, room: str, user: str) -> None:
        """End the grace period of a user in a room, if there is one."""
        if self._leaving.pop((room, user), None) is None:
            return
        rooms = self._leaving_of[user]
        rooms.discard(room)
        if not rooms:
            del self._leaving_of[user]

    def _remove(self, session: Hashable, user: str, room: str) -> bool:
        """Take a session out of a room. Returns whether it was the user's last one there."""
        users = self._rooms.get(room, {})
        sessions = users.get(user, ())
        if session not in sessions:
            return False
        self._note(room, user)
        left = tuple(one for one in sessions if one != session)
        if left:
            users[user] = left
            return False
        del users[user]
        if not users:
            del self._rooms[room]
        return True

    def _note(self, room: str, user: str) -> None:
        self._changed.setdefault(room, {})[user] = None
