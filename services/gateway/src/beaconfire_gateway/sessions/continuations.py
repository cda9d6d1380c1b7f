"""Remember what short sessions were subscribed to, so that the client's next one continues it. No I/O.

Each long poll is a session, and any gateway can answer it. A gateway that remembers the last one treats the next as the
same subscription: it counts as no new join, and is logged as none. A gateway that does not remember it treats it as a
new subscription, which is also correct.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TypeAlias

KEEP_S = 120.0
"""How long after its last session a subscription is remembered. A poll lasts a minute at most."""
CURSORS = 4
"""The cursors of a subscription that are remembered: one for each tab."""
MAX_KNOWN = 100_000
"""Subscriptions, of 200 bytes each. Then the oldest are forgotten."""

Subscribed: TypeAlias = Mapping[str, Sequence[str] | None]
"""The event types of each room; None for all."""
Refusals: TypeAlias = frozenset[tuple[str, str]]
"""The rooms that were refused, each with the error's code."""


class Continuations:
    """The subscriptions of a process, by user and rooms. Two tabs with the same rooms share one."""

    def __init__(self, *, most: int = MAX_KNOWN) -> None:
        self._most = most
        # The one that is kept longest is last.
        self._known: dict[bytes, tuple[float, Refusals, tuple[str, ...]]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, user_id: str, subscribed: Subscribed, now: float) -> Refusals | None:
        """The rooms that were refused when the user last asked for these. None if that is not remembered."""
        found = self._known.get(_key(user_id, subscribed))
        return found[1] if found is not None and found[0] > now else None

    def gave(self, user_id: str, subscribed: Subscribed, cursor: str) -> bool:
        """Whether a session with these rooms ended with this cursor, and had everything up to it."""
        found = self._known.get(_key(user_id, subscribed))
        return found is not None and cursor in found[2]

    def note(
        self, user_id: str, subscribed: Subscribed, refusals: Refusals, now: float, cursor: str | None = None
    ) -> None:
        """Remember that the user is subscribed to these rooms, except to those that were refused.

        `cursor` is the session's last one, if it had everything up to it.
        """
        key = _key(user_id, subscribed)
        _, _, cursors = self._known.pop(key, (0.0, refusals, ()))
        self._forget(now)
        if cursor is not None:
            cursors = (*(one for one in cursors if one != cursor), cursor)[-CURSORS:]
        self._known[key] = now + KEEP_S, refusals, cursors

    def _forget(self, now: float) -> None:
        """Drop what is old, and the oldest if there are too many."""
        while self._known:
            oldest = next(iter(self._known))
            if self._known[oldest][0] > now and len(self._known) < self._most:
                return
            del self._known[oldest]


def _key(user_id: str, subscribed: Subscribed) -> bytes:
    """Stand for a user and rooms, however many there are."""
    rooms = sorted((name, None if types is None else sorted(types)) for name, types in subscribed.items())
    return blake2b(repr((user_id, rooms)).encode(), digest_size=16).digest()
