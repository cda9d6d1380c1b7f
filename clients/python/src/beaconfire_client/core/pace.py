"""How fast a connection may ask for rooms.

A gateway refuses messages that come faster than its limits, and closes a connection with more than 100 unanswered
messages or 64 KiB of them (PROTOCOL.md §4). So the client counts what it sends against the limits of the ack, and has
only a few unanswered messages at a time. After a refusal it waits as long as the gateway says. At any other time rooms
can be left, because the limits do not count that, and it makes space for others.
"""

from collections.abc import Callable

from beaconfire_client.core.backoff import Chance, cap_s
from beaconfire_client.core.timers import Timers

_MAX_UNANSWERED = 16
_MAX_UNANSWERED_BYTES = 48 * 1024
"""Well below the gateway's 100 messages and 64 KiB: pings and token refreshes are messages, too."""
_RESERVE = 0.1
"""The part of the messages per minute that is left to everything else: pings, refreshes, presence, typing."""
_HOLD, _WAIT = "pause after a refusal", "limit used up"
"""The alarms. Rooms can be left while a limit per minute is used up: leaving counts against none of them."""


class Allowance:
    """A limit per minute: all of it at once, and then as much as time has passed."""

    def __init__(self, timers: Timers, per_minute: float) -> None:
        self._timers = timers
        self._per_minute = per_minute
        self._left = per_minute
        self._at = timers.now

    def take(self, count: float) -> None:
        self._refill()
        self._left -= count

    def wait_s(self, count: float) -> float:
        """Return how long to wait until so much is there. More than the limit is there when all of it is."""
        self._refill()
        missing = min(count, self._per_minute) - self._left
        return max(0.0, missing * 60 / self._per_minute)

    def _refill(self) -> None:
        now = self._timers.now
        self._left = min(self._per_minute, self._left + (now - self._at) * self._per_minute / 60)
        self._at = now


class Pace:
    """Says whether a message about rooms may go now, and calls `on_go` when a pause has ended."""

    def __init__(self, timers: Timers, chance: Chance, on_go: Callable[[], None]) -> None:
        self._timers = timers
        self._chance = chance
        self._on_go = on_go
        self._unanswered: dict[int, int] = {}
        self._refusals = 0
        self._messages = Allowance(timers, 100)
        self._rooms = Allowance(timers, 600)
        self._reserve = 0.0

    def begin(self, *, messages_per_minute: float, rooms_per_minute: float) -> None:
        """A connection begins, with these limits."""
        self._unanswered.clear()
        self._refusals = 0
        self._timers.stop(_HOLD)
        self._timers.stop(_WAIT)
        self._messages = Allowance(self._timers, messages_per_minute)
        self._rooms = Allowance(self._timers, rooms_per_minute)
        self._reserve = messages_per_minute * _RESERVE

    def allows(self, size: int, *, rooms: int, is_leaving: bool) -> bool:
        """Return whether a message may be sent now. If not, `on_go` or an answer says when to ask again."""
        if self._timers.is_running(_HOLD):
            return False
        if not is_leaving:
            wait_s = max(self._messages.wait_s(1 + self._reserve), self._rooms.wait_s(rooms))
            if wait_s > 0:
                self._timers.start(_WAIT, wait_s, self._on_go)
                return False
        waiting = sum(self._unanswered.values())
        return not self._unanswered or (
            len(self._unanswered) < _MAX_UNANSWERED and waiting + size <= _MAX_UNANSWERED_BYTES
        )

    def sent(self, message_id: int, size: int, *, rooms: int, is_leaving: bool) -> None:
        self._unanswered[message_id] = size
        if not is_leaving:
            self._messages.take(1)
            self._rooms.take(rooms)

    def sent_otherwise(self) -> None:
        """Count a message that is not about rooms."""
        self._messages.take(1)

    def answered(self, message_id: int) -> None:
        """The gateway has carried the message out, or refused it for good."""
        self._unanswered.pop(message_id, None)
        self._refusals = 0

    def refused(self, message_id: int, retry_after_s: float) -> None:
        """A limit has refused the message as a whole: it must be repeated."""
        self._unanswered.pop(message_id, None)
        if not self._timers.is_running(_HOLD):  # messages that were already on their way are refused, too
            self._timers.start(_HOLD, retry_after_s + self._chance() * cap_s(self._refusals), self._on_go)
            self._refusals += 1
