"""Tell the sessions of a user what the user has selected in another of them. No I/O.

Each gateway keeps the newest selection of each user and room, and gives it to a session that joins. So a user who opens
another tab sees there what is open in the first one. No other user is told.

A selection has a number, and the highest one is the newest. So all gateways end with the same one, in whatever order
they hear of two.
"""

import time
from collections.abc import Callable, Sequence

from beaconfire_gateway.presence.messages import Selected
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.wire.messages import Selection
from beaconfire_kit.subjects import RoomKey

KEEP_S = 8 * 3600.0
"""How long after a user's last selection all of them are kept: a working day."""
MAX_ROOMS_OF_USER = 20
"""Rooms of a user whose selections are kept. Then the oldest one is forgotten."""
MAX_CHARS = 8_000_000
"""Characters of all selections that are kept. Then those of the user who was idle for longest are forgotten."""
MAX_AHEAD_MS = 60_000
"""How far ahead of this gateway's clock another one's may be."""
_ENTRY_CHARS = 300
"""What an entry takes besides its items."""


class _Selections:
    """The selections of one user, and when they are forgotten. The room of the newest one is last."""

    __slots__ = ("of_room", "until")

    def __init__(self) -> None:
        self.of_room: dict[RoomKey, Selected] = {}
        self.until = 0.0


class UsersSelections:
    """Implements `sessions.gateway.Selections`."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        max_chars: int = MAX_CHARS,
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._wall_clock = wall_clock
        self._max_chars = max_chars
        self._chars = 0
        self._users: dict[str, _Selections] = {}
        """The user with the newest selection is last."""
        self.tell_others: Callable[[Selected], None] = lambda _selected: None
        """Tells the other gateways."""

    def __len__(self) -> int:
        return len(self._users)

    def set(self, session: Session, room: RoomKey, items: Sequence[str]) -> None:
        """A session that is in the room says what its user has selected there. Raises LimitReached."""
        user_id = session.user_id
        self._gateway.users.of(user_id).spend_selection(self._clock())
        known = self._known(user_id, room)
        if known is not None and known.items == tuple(items):
            return
        number = max(self._now_ms(), known.number + 1 if known is not None else 0)
        selected = Selected(room, user_id, number, tuple(items))
        self._keep(selected)
        self._tell(selected, besides=session)
        self.tell_others(selected)

    def hear(self, selected: Selected) -> None:
        """Another gateway says what one of its users has selected."""
        known = self._known(selected.user_id, selected.room)
        selected = selected._replace(number=min(selected.number, self._now_ms() + MAX_AHEAD_MS))
        if known is None or (known.number, known.items) < (selected.number, selected.items):
            self._keep(selected)
            self._tell(selected)

    def of(self, user_id: str, room: RoomKey) -> Sequence[str]:
        """Return what a user has selected in a room. Empty: nothing, or it is not known here."""
        known = self._known(user_id, room)
        return () if known is None else known.items

    def turn(self, now: float) -> None:
        """Forget what is old."""
        while self._users:
            oldest = next(iter(self._users))
            if self._users[oldest].until > now:
                return
            self._forget(oldest)

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)

    def _known(self, user_id: str, room: RoomKey) -> Selected | None:
        user = self._users.get(user_id)
        return None if user is None else user.of_room.get(room)

    def _keep(self, selected: Selected) -> None:
        """Keep it as the newest one, and forget older ones if there are too many."""
        user = self._users.pop(selected.user_id, None) or _Selections()
        self._users[selected.user_id] = user
        user.until = self._clock() + KEEP_S
        before = user.of_room.pop(selected.room, None)
        if before is None and len(user.of_room) >= MAX_ROOMS_OF_USER:
            before = user.of_room.pop(next(iter(user.of_room)))
        user.of_room[selected.room] = selected
        self._chars += _chars(selected) - (0 if before is None else _chars(before))
        while self._chars > self._max_chars and len(self._users) > 1:
            self._forget(next(iter(self._users)))

    def _forget(self, user_id: str) -> None:
        self._chars -= sum(map(_chars, self._users.pop(user_id).of_room.values()))

    def _tell(self, selected: Selected, *, besides: Session | None = None) -> None:
        """Tell the user's sessions in the room. The limit on a user's connections bounds how many there are."""
        message = Selection(selected.room, selected.items)
        for session in self._gateway.hub.sessions_of(selected.user_id):
            if session is not besides and session.is_in(selected.room):
                session.send(message)


def _chars(selected: Selected) -> int:
    return _ENTRY_CHARS + len(selected.user_id) + sum(map(len, selected.items))
