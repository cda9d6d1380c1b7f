"""Named alarms. The core sets them, and whoever does the I/O calls `run_due` when the next one is due."""

from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds that only grow, like `time.monotonic`."""


class Timers:
    """At most one alarm for each name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._alarms: dict[str, tuple[float, Callable[[], None]]] = {}

    @property
    def now(self) -> float:
        return self._clock()

    @property
    def next_at(self) -> float | None:
        """When the next alarm is due, on the clock. None if there is none."""
        return min((at for at, _ in self._alarms.values()), default=None)

    def start(self, name: str, after_s: float, then: Callable[[], None]) -> None:
        """Call `then` after some seconds, instead of what this name meant before."""
        self._alarms[name] = (self._clock() + after_s, then)

    def stop(self, name: str) -> None:
        self._alarms.pop(name, None)

    def is_running(self, name: str) -> bool:
        return name in self._alarms

    def run_due(self) -> None:
        """Call what is due now, the earliest first. What these calls start waits for the next `run_due`."""
        now = self._clock()
        due = sorted((at, name) for name, (at, _) in self._alarms.items() if at <= now)
        for at, name in due:
            alarm = self._alarms.get(name)
            if alarm is not None and alarm[0] == at:  # an earlier one may have stopped or moved it
                del self._alarms[name]
                alarm[1]()
