"""Follow who is in a room and who types there, from the gateway's messages."""

from collections.abc import Mapping
from typing import Any

from beaconfire_client.core.actions import PresentUser, WhoIsHere

TYPING_ENDS_S = 7.0
"""A user who was not heard for this long no longer types (PROTOCOL.md §5, "typing")."""


class Roster:
    """The users of one room."""

    def __init__(self) -> None:
        self.here = WhoIsHere()
        self._typing: dict[str, float] = {}

    @property
    def typing(self) -> frozenset[str]:
        return frozenset(self._typing)

    @property
    def typing_ends_at(self) -> float | None:
        """When the next user no longer types unless heard again."""
        return min(self._typing.values(), default=None)

    def take(self, presence: Mapping[str, Any]) -> None:
        """Apply a `presence` message, or the `presence` of an answer."""
        if "users" in presence:
            users = {}
        else:
            users = dict(self.here.users)
            for user_id in presence.get("left", ()):
                users.pop(user_id, None)
        for one in (*presence.get("users", ()), *presence.get("joined", ()), *presence.get("changed", ())):
            users[one["userId"]] = PresentUser(one["userId"], one["status"], one["devices"])
        self.here = WhoIsHere(presence["count"], users)

    def types(self, user_id: str, *, is_typing: bool, now: float) -> None:
        """Apply a `typing` message."""
        if is_typing:
            self._typing[user_id] = now + TYPING_ENDS_S
        else:
            self._typing.pop(user_id, None)

    def forget_silent(self, now: float) -> None:
        """Forget users who were not heard for too long."""
        self._typing = {user: ends_at for user, ends_at in self._typing.items() if ends_at > now}

    def clear(self) -> None:
        """The room was left."""
        self.here = WhoIsHere()
        self._typing.clear()
