"""One timer for everything that waits in whole seconds: deadlines, heartbeats, token ends. No task a session."""

from collections.abc import Callable
from typing import Protocol

from beaconfire_kit import logs

log = logs.get(__name__)


class Timed(Protocol):
    """Something that waits for a second to come.

    The timers hold the object itself: a bound method would be 64 bytes more for each idle session.
    """

    def on_timer(self) -> None: ...


class Call:
    """A function to be called when its second has come."""

    __slots__ = ("on_timer",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.on_timer = callback


class Timers:
    """Calls back in the second asked for. Timers are never cancelled: `on_timer` checks whether one still matters."""

    def __init__(self, now: int) -> None:
        self.now = now
        """The second it has turned to."""
        self._slots: dict[int, list[Timed]] = {}

    def after(self, seconds: float, timed: Timed) -> int:
        """Call back `seconds` from now or up to two seconds later; never earlier. Returns the second, as `now` is."""
        return self._at(self.now + 1 + max(0, int(-(-seconds // 1))), timed)  # `now` itself may be a second behind

    def within(self, seconds: int, timed: Timed) -> int:
        """Call back `seconds` from now or up to a second earlier; at least in the next turn, never later.

        From within `on_timer` it is exact to the second. Returns the second, as `now` is.
        """
        return self._at(self.now + max(1, seconds), timed)

    def _at(self, second: int, timed: Timed) -> int:
        self._slots.setdefault(second, []).append(timed)
        return second

    def turn(self, now: int) -> None:
        """Call everything that is due at `now` (whole seconds of the same clock).

        Times asked for in `on_timer` count from now, even after a standstill. So a client that is pinged only now has
        time to answer.
        """
        missed, self.now = range(self.now + 1, now + 1), max(self.now, now)
        for second in missed:
            for timed in self._slots.pop(second, ()):
                try:
                    timed.on_timer()
                except Exception:
                    log.exception("a timer failed")
