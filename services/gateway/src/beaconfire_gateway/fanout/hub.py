"""Who is in which room: (root, pair) → role and wanted types → sessions. No I/O.

The lists are kept by role because an event may name, in `metadata.audience`, the roles that may see it, and by what a
subscription wants to hear, for those that do not want everything; and by how what they get is encoded. They hold the
sessions' targets: delivering is one write to each, and nothing else.
"""

from collections.abc import Collection, Hashable, Iterable, Sequence
from itertools import chain
from typing import Generic, NamedTuple, Protocol, TypeVar

from beaconfire_gateway.fanout.selection import Selection
from beaconfire_gateway.fanout.wires import Encode, Target
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import RoomKey


class Member(Protocol):
    """What the hub needs to know of a session."""

    @property
    def user_id(self) -> str: ...
    @property
    def target(self) -> Target: ...
    @property
    def encode(self) -> Encode | None: ...


S = TypeVar("S", bound=Member)


class Group(NamedTuple):
    """Sessions of a room that hear the same, encoded alike: their role there, and the types they want."""

    role: Role
    types: Selection
    encode: Encode | None


class Writers(NamedTuple):
    """Whom an event is written to, encoded alike. `targets` is not to be changed."""

    targets: list[Target]
    encode: Encode | None


Rooms = tuple[RoomKey, ...]
_MAX_REMEMBERED = 10_000
_MAX_REMEMBERED_WRITES = 1_000_000
"""In all lists together, 8 bytes each: subjects of one large room may have a list each."""


class Hub(Generic[S]):
    """Rooms and users of this gateway. A session that lags stays a member but not in the write lists."""

    def __init__(self) -> None:
        self._first: dict[str, S] = {}  # of each user; most have one session, and no object is made for it
        self._others: dict[str, tuple[S, ...]] = {}
        self.sessions = 0
        """How many sessions are connected."""
        self._rooms: dict[RoomKey, dict[Group, dict[S, Target]]] = {}
        # What `writers` found, until anybody joins or leaves; by subject, and by what makes subjects the same.
        self._lists: dict[Hashable, tuple[Writers, ...]] = {}
        self._remembered_writes = 0
        self._heard: dict[Hashable, bool] = {}  # of subjects, until anybody joins or leaves

    def __len__(self) -> int:
        return len(self._rooms)

    def add(self, session: S) -> None:
        """A session is connected."""
        self.sessions += 1
        if session.user_id in self._first:
            self._others[session.user_id] = (*self._others.get(session.user_id, ()), session)
        else:
            self._first[session.user_id] = session

    def remove(self, session: S) -> None:
        """A session is gone. Call `leave` for its rooms first."""
        self.sessions -= 1
        user_id = session.user_id
        left = tuple(one for one in self.sessions_of(user_id) if one is not session)
        self._first.pop(user_id, None)
        self._others.pop(user_id, None)
        if left:
            self._first[user_id] = left[0]
        if len(left) > 1:
            self._others[user_id] = left[1:]

    def join(self, session: S, room: RoomKey, role: Role, types: Selection = None) -> None:
        """Put a session into one of a room's write lists."""
        self._forget_lists()
        self._rooms.setdefault(room, {}).setdefault(Group(role, types, session.encode), {})[session] = session.target

    def leave(self, session: S, room: RoomKey, role: Role, types: Selection = None) -> None:
        """Take it out; no matter whether it was in."""
        groups = self._rooms.get(room)
        if groups is None:
            return
        group = Group(role, types, session.encode)
        sessions = groups.get(group)
        if sessions is None:
            return
        self._forget_lists()
        sessions.pop(session, None)
        if not sessions:
            del groups[group]
            if not groups:
                del self._rooms[room]

    def is_heard(self, subject: Hashable, rooms: Rooms) -> bool:
        """Whether anybody is in the write lists of any of the rooms, which are those of `subject`."""
        heard = self._heard.get(subject)
        if heard is None:
            if len(self._heard) >= _MAX_REMEMBERED:
                self._heard.clear()
            heard = self._heard[subject] = not self._rooms.keys().isdisjoint(rooms)
        return heard

    def writers(
        self, subject: Hashable, rooms: Rooms, type_: str, audience: frozenset[Role] | None
    ) -> Sequence[Writers]:
        """Each session in any of the rooms that wants the type, once each, for the roles of `audience` (None: all).

        The rooms are those of `subject`. The lists are the same objects for all that goes to the same rooms, roles and
        types, until anybody joins or leaves.
        """
        asked = (subject, type_, audience)
        known = self._lists.get(asked)
        if known is None:
            if len(self._lists) >= _MAX_REMEMBERED or self._remembered_writes >= _MAX_REMEMBERED_WRITES:
                self._forget_lists()
            populated = tuple(room for room in rooms if room in self._rooms)
            same = (populated, type_ if self._is_narrowed(populated) else None, audience)
            known = self._lists.get(same)
            if known is None:
                known = self._lists[same] = self._find_writers(populated, type_, audience)
                self._remembered_writes += sum(len(targets) for targets, _ in known)
            self._lists[asked] = known
        return known

    def _forget_lists(self) -> None:
        self._lists.clear()
        self._remembered_writes = 0
        self._heard.clear()

    def _is_narrowed(self, rooms: Rooms) -> bool:
        """Whether anybody in these rooms wants some types only."""
        return any(types is not None for room in rooms for _, types, _ in self._rooms[room])

    def _find_writers(self, rooms: Rooms, type_: str, audience: frozenset[Role] | None) -> tuple[Writers, ...]:
        merged: dict[Encode | None, dict[S, Target]] = {}
        for room in rooms:
            for (role, types, encode), sessions in self._rooms[room].items():
                if (audience is None or role in audience) and (types is None or type_ in types):
                    merged.setdefault(encode, {}).update(sessions)
        return tuple(Writers(list(sessions.values()), encode) for encode, sessions in merged.items())

    def sessions_of(self, user_id: str) -> Sequence[S]:
        """A user's sessions here."""
        first = self._first.get(user_id)
        return () if first is None else (first, *self._others.get(user_id, ()))

    @property
    def users(self) -> Collection[str]:
        """Everybody who has a session."""
        return self._first.keys()

    def all_sessions(self) -> Iterable[S]:
        """Every connected session."""
        return chain(self._first.values(), *self._others.values())

    def sizes(self) -> dict[str, int]:
        """How many sessions each room's write lists hold, by the room's long name."""
        # Under two names of one room, a session may be in two of its lists.
        return {str(room): len(set().union(*groups.values())) for room, groups in self._rooms.items()}
