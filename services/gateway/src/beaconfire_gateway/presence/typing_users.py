"""Tell the sessions of a room who is typing there. No I/O.

A client says it again every few seconds while its user types. It is told on, but at most every two seconds. Nothing is
stored: each gateway forgets a user who has not been heard for five seconds, and tells its sessions.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.wire.messages import Typing
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.subjects import RoomKey

TYPING_S = 5.0
"""After so long without a word, a user does not type any more."""
RENEW_S = 2.0
"""Within so long, the same is not told again."""
MAX_SHOWN = 20
"""The most users of a room that are told to be typing. Else a large room would cost messages by pairs of users."""
SLICE = 100
"""Sessions that are told in one step: about a millisecond."""


class RoomsTypingUsers:
    """Implements `sessions.gateway.TypingUsers`."""

    def __init__(self, gateway: Gateway, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._gateway = gateway
        self._clock = clock
        self._until: dict[RoomKey, dict[str, float]] = {}
        """When each user of a room who is typing is forgotten."""
        self.tell_others: Callable[[Typing], None] = lambda _typing: None
        """Tells the other gateways."""

    def set(self, session: Session, room: RoomKey, *, typing: bool) -> None:
        """A session that is in the room says whether its user is typing there. Raises LimitReached."""
        now = self._clock()
        self._gateway.users.of(session.user_id).spend_typing(now)
        until = self._until.get(room, {}).get(session.user_id, now)
        if typing and until - now > TYPING_S - RENEW_S:
            return
        message = Typing(room, session.user_id, typing)
        if self._enter(message, now):
            self._start_telling(message, besides=session)
            self.tell_others(message)

    def hear(self, message: Typing) -> None:
        """Another gateway says what one of its users does."""
        if self._gateway.hub.listeners(message.room, Typing.EVENT_TYPE) and self._enter(message, self._clock()):
            self._start_telling(message)

    def turn(self, now: float) -> None:
        """Forget those who have not been heard for too long."""
        for room, users in list(self._until.items()):
            for user_id in [one for one, until in users.items() if until <= now]:
                message = Typing(room, user_id, typing=False)
                self._enter(message, now)
                self._start_telling(message)

    def _enter(self, message: Typing, now: float) -> bool:
        """Note it. Returns whether the room's sessions should be told."""
        users = self._until.get(message.room, {})
        if not message.typing:
            was_typing = users.pop(message.user_id, None) is not None
            if not users:
                self._until.pop(message.room, None)
            return was_typing
        if message.user_id not in users and len(users) >= MAX_SHOWN:
            return False
        users[message.user_id] = now + TYPING_S
        self._until[message.room] = users
        return True

    def _start_telling(self, message: Typing, *, besides: Session | None = None) -> None:
        sessions = [one for one in self._gateway.hub.listeners(message.room, Typing.EVENT_TYPE) if one is not besides]
        self._tell(message, iter(sessions), {})

    def _tell(self, message: Typing, sessions: Iterator[Session], encoded: dict[Wire, bytes]) -> None:
        """Tell some of these sessions, and the others in a later turn of the loop."""
        has_more = False
        for session in islice(sessions, SLICE):
            has_more = True
            # It may have left since, or catch up. Then it hears from the next message on.
            if session.state is not State.LIVE or all(one.room != message.room for one in session.rooms.values()):
                continue
            data = encoded.get(session.wire)
            if data is None:
                data = encoded[session.wire] = session.wire.encode(message)
            self._gateway.outbound.send(session, data)
        if has_more:
            self._gateway.steps.add(partial(self._tell, message, sessions, encoded))
