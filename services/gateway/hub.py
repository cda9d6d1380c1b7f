"""Who is in which room: (root, pair) → role → sessions. No I/O.

The lists are kept by role because an event may name, in `metadata.audience`, the roles that may see it. They hold bound
`transport.write`s: delivering is a loop over them and nothing else.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from shared.roles import Role
from shared.subjects import RoomKey

Write = Callable[[bytes], object]


class Member(Protocol):
    """What the hub needs to know of a session."""

    @property
    def user_id(self) -> str: ...
    @property
    def write(self) -> Write: ...


S = TypeVar("S", bound=Member)


class Hub(Generic[S]):
    """Rooms and users of this gateway. A session that lags stays a member but not in the write lists."""

    def __init__(self) -> None:
        self.users: dict[str, set[S]] = {}
        self._rooms: dict[RoomKey, dict[Role, dict[S, Write]]] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def add(self, session: S) -> None:
        """A session is connected."""
        self.users.setdefault(session.user_id, set()).add(session)

    def remove(self, session: S) -> None:
        """A session is gone. Call `leave` for its rooms first."""
        sessions = self.users.get(session.user_id)
        if sessions is not None:
            sessions.discard(session)
            if not sessions:
                del self.users[session.user_id]

    def join(self, session: S, room: RoomKey, role: Role) -> None:
        """Put a session into a room's write list."""
        self._rooms.setdefault(room, {}).setdefault(role, {})[session] = session.write

    def leave(self, session: S, room: RoomKey, role: Role) -> None:
        """Take it out; no matter whether it was in."""
        roles = self._rooms.get(room)
        if roles is None:
            return
        sessions = roles.get(role)
        if sessions is None:
            return
        sessions.pop(session, None)
        if not sessions:
            del roles[role]
            if not roles:
                del self._rooms[room]

    def populated(self, rooms: Iterable[RoomKey]) -> tuple[RoomKey, ...]:
        """Those of the rooms that have anybody in their write lists."""
        here = self._rooms
        return tuple(room for room in rooms if room in here)

    def writers(self, rooms: Sequence[RoomKey], audience: frozenset[Role] | None) -> list[Write]:
        """The write of each session in any of the rooms, once each, for the roles of `audience` (None: all)."""
        lists = [
            sessions
            for room in rooms
            for role, sessions in self._rooms.get(room, {}).items()
            if audience is None or role in audience
        ]
        if len(lists) == 1:
            return list(lists[0].values())
        merged: dict[S, Write] = {}
        for sessions in lists:
            merged.update(sessions)
        return list(merged.values())

    def sessions_of(self, user_id: str) -> Sequence[S]:
        """A user's sessions here."""
        return tuple(self.users.get(user_id, ()))

    def all_sessions(self) -> Iterable[S]:
        """Every connected session."""
        return (session for sessions in self.users.values() for session in sessions)

    def sizes(self) -> dict[str, int]:
        """How many sessions each room's write lists hold, by the room's long name."""
        return {str(room): sum(map(len, roles.values())) for room, roles in self._rooms.items()}
