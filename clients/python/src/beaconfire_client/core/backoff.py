"""How long to wait before the next attempt, and when to stop trying."""

from collections.abc import Callable

FIRST_CAP_S = 1.0
LAST_CAP_S = 32.0
MAX_ATTEMPTS = 10

Chance = Callable[[], float]
"""Returns a number from [0, 1), like `random.random`."""


def cap_s(pauses: int, last_cap_s: float = LAST_CAP_S) -> float:
    """Return the longest pause number `pauses`, from 0: 1, 2, 4, 8, 16, 32, 32 … s."""
    return min(last_cap_s, FIRST_CAP_S * 2.0 ** min(pauses, 63))


class Backoff:
    """Full jitter: each pause is random, between 0 and its maximum, so clients of a restarted gateway spread out.

    `max_attempts` may be None: it then never ends.
    """

    def __init__(
        self, chance: Chance, *, last_cap_s: float = LAST_CAP_S, max_attempts: int | None = MAX_ATTEMPTS
    ) -> None:
        if not FIRST_CAP_S <= last_cap_s < float("inf"):
            raise ValueError(f"max_pause_s: expected a number of seconds from {FIRST_CAP_S:g}, got {last_cap_s!r}")
        if max_attempts is not None and max_attempts < 1:
            raise ValueError(f"max_attempts: expected a number from 1, or None, got {max_attempts!r}")
        self.max_attempts = max_attempts
        self._chance = chance
        self._last_cap_s = last_cap_s
        self._pauses = 0
        self._failures = 0

    @property
    def attempt(self) -> int:
        """The number of the next attempt, from 1."""
        return min(self._failures + 1, self.max_attempts or self._failures + 1)

    @property
    def failures(self) -> int:
        """How many attempts in a row have failed."""
        return self._failures

    @property
    def is_exhausted(self) -> bool:
        return self.max_attempts is not None and self._failures >= self.max_attempts

    def fail(self) -> None:
        """Count a failed attempt."""
        self._failures += 1

    def next_s(self) -> float:
        """Return the next pause in seconds."""
        pause = self._chance() * cap_s(self._pauses, self._last_cap_s)
        self._pauses += 1
        return pause

    def reset(self) -> None:
        self._pauses = 0
        self._failures = 0
