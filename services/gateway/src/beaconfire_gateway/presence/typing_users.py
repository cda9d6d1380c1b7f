"""Tell the sessions of a room who is typing there. No I/O.

A client repeats it every few seconds while its user types. The sessions of the room are told at most every two seconds.
Nothing is stored: each gateway forgets a user of whom it has heard nothing for five seconds, and tells its sessions.
"""

import time
from collections.abc import Callable

from beaconfire_gateway.presence.telling import tell
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.wire.messages import Typing
from beaconfire_kit.subjects import RoomKey

TYPING_S = 5.0
"""After so long without another message, a user no longer types."""
RENEW_S = 2.0
"""A message that comes sooner after the last one is not passed on."""
MAX_SHOWN = 20
"""The most users of a room that are shown as typing. Otherwise, messages would grow with the square of the users."""


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
            self._tell(message, besides=session)
            self.tell_others(message)

    def hear(self, message: Typing) -> None:
        """Another gateway says what one of its users does."""
        if self._gateway.hub.listeners(message.room, Typing.EVENT_TYPE) and self._enter(message, self._clock()):
            self._tell(message)

    def turn(self, now: float) -> None:
        """Forget users of whom nothing was heard for `TYPING_S`, and tell the sessions. Call it each second."""
        for room, users in list(self._until.items()):
            for user_id in [one for one, until in users.items() if until <= now]:
                message = Typing(room, user_id, typing=False)
                self._enter(message, now)
                self._tell(message)

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

    def _tell(self, message: Typing, *, besides: Session | None = None) -> None:
        """Tell the sessions in the room that want to know. One that catches up hears from the next message on."""
        sessions = [one for one in self._gateway.hub.listeners(message.room, Typing.EVENT_TYPE) if one is not besides]
        tell(self._gateway, message, sessions, lambda session: session.is_in(message.room))
