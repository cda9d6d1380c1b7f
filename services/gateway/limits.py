"""How much one client may ask for. No I/O; time comes from the caller.

A rate is a bucket that holds as much as a minute allows and fills evenly (GCRA, ATM Forum TM 4.0: one number of state):
a burst of a whole minute's worth passes, after it one at a time.
"""

from dataclasses import dataclass

PATIENCE = 100
"""Refused messages in a row after which a client is closed instead of answered."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may do. Seconds, bytes and counts as named."""

    heartbeat_s: int = 25
    connect_timeout_s: int = 10
    max_frame_bytes: int = 16 * 1024
    max_rooms: int = 100
    max_sessions_per_user: int = 20
    messages_per_minute: int = 100
    rooms_per_minute: int = 600

    def told(self) -> dict[str, int]:
        """The limits a client is told."""
        return {
            "maxFrameBytes": self.max_frame_bytes,
            "maxRooms": self.max_rooms,
            "messagesPerMinute": self.messages_per_minute,
        }


class Rate:
    """A rate of so many a minute."""

    __slots__ = ("_empty_at", "_per_minute")

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._empty_at = 0.0  # when everything taken so far will have been given back

    def take(self, count: int, now: float) -> float:
        """Take `count` at time `now` (seconds of any steady clock). 0.0 where granted, else seconds to wait.

        More than a minute's worth at once is granted only to a full bucket.
        """
        cost = min(count, self._per_minute) * 60.0 / self._per_minute
        empty_at = max(self._empty_at, now) + cost
        if empty_at - now > 60.0 + 1e-9:
            return empty_at - now - 60.0
        self._empty_at = empty_at
        return 0.0

    def reset(self) -> None:
        """Forget what was taken."""
        self._empty_at = 0.0
