"""Find the sessions in a room: (root, pair) → role, wanted types and wire → sessions. No I/O.

A room's sessions are grouped by role, because an event may name in `metadata.audience` the roles that may see it. They
are also grouped by the event types they want, by their wire, which decides their bytes, and by their writer. The groups
hold the targets of sessions, so delivering an event is one write to each. They do not tell which sessions are in a
room: a session that catches up is in none of them (`Session.rooms` tells).

The recipients of a subject are remembered until a session joins or leaves one of its rooms. Joins elsewhere do not
affect them.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from beaconfire_gateway.fanout.targets import Target, Writer
from beaconfire_gateway.fanout.wanted_types import WantedTypes
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import RoomKey


class Listener(Protocol):
    """A session, as the hub needs it."""

    @property
    def user_id(self) -> str: ...
    @property
    def target(self) -> Target: ...
    @property
    def writer(self) -> Writer: ...
    @property
    def wire(self) -> Wire: ...


S = TypeVar("S", bound=Listener)


class Group(NamedTuple):
    """Sessions of a room that are written alike: their role there, the types they want, their wire, and what writes."""

    role: Role
    types: WantedTypes
    wire: Wire
    writer: Writer


class Recipients:
    """Sessions that an event is sent to with the same bytes. `targets` must not be changed.

    Compared by identity: two events with the same object go to the same sessions.
    """

    __slots__ = ("frames", "share", "targets", "wire", "writer")

    def __init__(self, targets: list[Target], wire: Wire, writer: Writer) -> None:
        self.targets = targets
        self.wire = wire
        self.writer = writer
        self.frames: list[bytes] | None = None
        """Their share of the batch of events that `outbound` collects. None: they have none."""
        self.share = 0
        """And its bytes."""


Rooms: TypeAlias = tuple[RoomKey, ...]
MAX_REMEMBERED = 10_000
MAX_REMEMBERED_TARGETS = 1_000_000
"""In all lists together, 8 bytes each: subjects of one large room may have a list each."""
NOTES_EACH = 4
"""Notes of which room something remembered depends on. Some are outdated, so they have a bound of their own."""


class Hub(Generic[S]):
    """The write lists of this gateway's rooms, and the sessions of its users.

    A session that catches up is in no write list, but it still is one of its user's sessions.
    """

    def __init__(
        self, *, max_remembered: int = MAX_REMEMBERED, max_remembered_targets: int = MAX_REMEMBERED_TARGETS
    ) -> None:
        self._max_remembered = max_remembered
        self._max_remembered_targets = max_remembered_targets
        self._first: dict[str, S] = {}  # of each user; most have one session, and no object is made for it
        self._others: dict[str, tuple[S, ...]] = {}
        self.sessions = 0
        """How many sessions are connected."""
        self._rooms: dict[RoomKey, dict[Group, dict[S, Target]]] = {}
        # The recipients found, until a session joins or leaves the rooms that they depend on.
        self._heard: dict[Hashable, bool] = {}  # by subject
        self._pinned: Counter[Hashable] = Counter()
        self._by_event: dict[Hashable, tuple[Recipients, ...]] = {}  # by (subject, type, audience)
        self._by_rooms: dict[Hashable, tuple[Recipients, ...]] = {}  # by all that makes two events alike here
        self._remembered_targets = 0
        self._depending: dict[RoomKey, set[Hashable]] = {}  # the keys of all three
        self._noted = 0

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

    def join(self, session: S, room: RoomKey, role: Role, types: WantedTypes = None) -> None:
        """Put a session into one of a room's write lists."""
        self._forget(room)
        group = Group(role, types, session.wire, session.writer)
        self._rooms.setdefault(room, {}).setdefault(group, {})[session] = session.target

    def leave(self, session: S, room: RoomKey, role: Role, types: WantedTypes = None) -> None:
        """Take it out of the write list; harmless if it was not in it."""
        groups = self._rooms.get(room)
        if groups is None:
            return
        group = Group(role, types, session.wire, session.writer)
        sessions = groups.get(group)
        if sessions is None:
            return
        self._forget(room)
        sessions.pop(session, None)
        if not sessions:
            del groups[group]
            if not groups:
                del self._rooms[room]

    def is_heard(self, subject: Hashable, rooms: Rooms) -> bool:
        """Whether any session is in the write lists of any of the rooms, which are those of `subject`."""
        heard = self._heard.get(subject)
        if heard is None:
            if len(self._heard) >= self._max_remembered:
                self._forget_everything()
            heard = self._heard[subject] = subject in self._pinned or not self._rooms.keys().isdisjoint(rooms)
            self._note(subject, rooms)
        return heard

    def pin(self, subject: Hashable) -> None:
        """Treat a subject as heard until `unpin`, even if its rooms are empty. Pins of one subject are counted."""
        self._pinned[subject] += 1
        self._heard.pop(subject, None)

    def unpin(self, subject: Hashable) -> None:
        """Undo one `pin`."""
        self._pinned[subject] -= 1
        if not self._pinned[subject]:
            del self._pinned[subject]
        self._heard.pop(subject, None)

    def recipients(
        self, subject: Hashable, rooms: Rooms, type_: str, audience: frozenset[Role] | None
    ) -> Sequence[Recipients]:
        """Return the sessions in any of the rooms that want the type, once each.

        `audience` has their roles (None: all).

        The rooms are those of `subject`. Events with the same rooms, roles and type get the same objects, until a
        session joins or leaves one of these rooms.
        """
        asked = (subject, type_, audience)
        found = self._by_event.get(asked)
        if found is None:
            if len(self._by_event) >= self._max_remembered or self._remembered_targets >= self._max_remembered_targets:
                self._forget_everything()
            found = self._by_event[asked] = self._find_alike(rooms, type_, audience)
            self._note(asked, rooms)
        return found

    def recipients_besides(
        self, rooms: Rooms, type_: str, audience: frozenset[Role] | None, besides: set[S]
    ) -> Sequence[Recipients]:
        """Return the same sessions without those in `besides`, and add them to it. Nothing is remembered."""
        found: list[Recipients] = []
        populated = tuple(room for room in rooms if room in self._rooms)
        for alike, sessions in self._merged(populated, type_, audience).items():
            new = {session: target for session, target in sessions.items() if session not in besides}
            besides.update(new)
            if new:
                found.append(Recipients(list(new.values()), *alike))
        return found

    def listeners(self, room: RoomKey, type_: str) -> Collection[S]:
        """Return the sessions in the write lists of one room that want the type, once each."""
        groups = self._rooms.get(room, {})
        wanting = (sessions for group, sessions in groups.items() if group.types is None or type_ in group.types)
        return dict.fromkeys(chain.from_iterable(wanting))

    def _find_alike(self, rooms: Rooms, type_: str, audience: frozenset[Role] | None) -> tuple[Recipients, ...]:
        """The recipients, the same objects for all events that are alike."""
        populated = tuple(room for room in rooms if room in self._rooms)
        alike = (populated, type_ if self._is_narrowed(populated) else None, audience)
        found = self._by_rooms.get(alike)
        if found is None:
            found = self._by_rooms[alike] = self._find(populated, type_, audience)
            self._remembered_targets += _count(found)
            self._note(alike, populated)
        return found

    def _find(self, rooms: Rooms, type_: str, audience: frozenset[Role] | None) -> tuple[Recipients, ...]:
        merged = self._merged(rooms, type_, audience)
        return tuple(Recipients(list(sessions.values()), *alike) for alike, sessions in merged.items())

    def _merged(
        self, rooms: Rooms, type_: str, audience: frozenset[Role] | None
    ) -> Mapping[tuple[Wire, Writer], Mapping[S, Target]]:
        """Return the sessions in these rooms, of which each has sessions, by what they are written alike with."""
        merged: dict[tuple[Wire, Writer], dict[S, Target]] = {}
        for room in rooms:
            for (role, types, wire, writer), sessions in self._rooms[room].items():
                if (audience is None or role in audience) and (types is None or type_ in types):
                    merged.setdefault((wire, writer), {}).update(sessions)
        return merged

    def _is_narrowed(self, rooms: Rooms) -> bool:
        """Whether any session in these rooms wants some types only."""
        return any(types is not None for room in rooms for _, types, _, _ in self._rooms[room])

    # Remembered recipients.

    def _note(self, key: Hashable, rooms: Rooms) -> None:
        """Note the rooms that the entry with this key depends on."""
        self._noted += len(rooms)
        if self._noted > NOTES_EACH * self._max_remembered:
            self._forget_everything()
            return
        for room in rooms:
            depending = self._depending.get(room)
            if depending is None:
                self._depending[room] = {key}
            else:
                depending.add(key)

    def _forget(self, room: RoomKey) -> None:
        """Forget everything that depends on the sessions in this room."""
        for key in self._depending.pop(room, ()):
            if self._heard.pop(key, None) is None and self._by_event.pop(key, None) is None:
                self._remembered_targets -= _count(self._by_rooms.pop(key, ()))

    def _forget_everything(self) -> None:
        self._heard.clear()
        self._by_event.clear()
        self._by_rooms.clear()
        self._remembered_targets = 0
        self._depending.clear()
        self._noted = 0

    # Sessions.

    def sessions_of(self, user_id: str) -> Sequence[S]:
        """A user's sessions here."""
        first = self._first.get(user_id)
        return () if first is None else (first, *self._others.get(user_id, ()))

    @property
    def users(self) -> Collection[str]:
        """Return all users with a session."""
        return self._first.keys()

    def all_sessions(self) -> Iterable[S]:
        """Every connected session."""
        return chain(self._first.values(), *self._others.values())

    def sizes(self) -> dict[str, int]:
        """How many sessions each room's write lists hold, by the room's long name."""
        # Under two names of one room, a session may be in two of its lists.
        return {str(room): len(set().union(*groups.values())) for room, groups in self._rooms.items()}


def _count(found: Iterable[Recipients]) -> int:
    return sum(len(one.targets) for one in found)
