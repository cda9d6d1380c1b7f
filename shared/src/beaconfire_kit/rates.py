"""Rates: so much in each window, as one number of state (GCRA, ATM Forum TM 4.0).

A rate is a bucket that empties evenly. A burst of a whole window's worth passes, and after it one at a time. The caller
gives the time and keeps the number, in memory or in a database.
"""

ROUNDING_S = 1e-6
"""A wait this short is only rounding: as a float, the time in Unix seconds is exact to a quarter of a microsecond."""


def spend(empty_at: float, count: float, per_window: float, now: float, window_s: float = 60.0) -> tuple[float, float]:
    """Spend `count` at time `now` of a rate of so many in each window.

    `empty_at` is the whole state of a rate: the time when everything spent will have been given back, 0.0 at first.
    Returns its new value, and 0.0 if `count` was granted, else the seconds to wait. More than a window's worth at once
    is granted only if nothing was spent before.
    """
    cost_s = min(count, per_window) * window_s / per_window
    then = max(empty_at, now) + cost_s
    wait_s = then - now - window_s
    return (then, 0.0) if wait_s < ROUNDING_S else (empty_at, wait_s)


def remaining(empty_at: float, per_window: int, now: float, window_s: float = 60.0) -> int:
    """Return how many can be spent at time `now`, one at a time, before one is refused."""
    spent_s = max(empty_at - now, 0.0)
    return int((window_s - spent_s + ROUNDING_S) * per_window / window_s)
