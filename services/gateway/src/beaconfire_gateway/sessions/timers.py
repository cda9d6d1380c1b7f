"""One timer for everything that waits in whole seconds: deadlines, heartbeats, token ends. No task a session."""

from collections.abc import Callable

from beaconfire_kit import logs

log = logs.get(__name__)


class Wheel:
    """Calls back in the second asked for. Nothing is ever cancelled: who is called looks whether it still matters."""

    def __init__(self, now: int) -> None:
        self.now = now
        """The second it has turned to."""
        self._slots: dict[int, list[Callable[[], None]]] = {}

    def after(self, seconds: float, callback: Callable[[], None]) -> int:
        """Call back `seconds` from now or up to two seconds later; never earlier. Returns the second, as `now` is."""
        return self._at(self.now + 1 + max(0, int(-(-seconds // 1))), callback)  # `now` itself may be a second behind

    def within(self, seconds: int, callback: Callable[[], None]) -> int:
        """Call back `seconds` from now or up to a second earlier; at least in the next turn, never later.

        Called by the wheel itself, it is to the second. Returns the second, as `now` is.
        """
        return self._at(self.now + max(1, seconds), callback)

    def _at(self, second: int, callback: Callable[[], None]) -> int:
        self._slots.setdefault(second, []).append(callback)
        return second

    def turn(self, now: int) -> None:
        """Call everything that is due at `now` (whole seconds of the same clock).

        After a standstill too, times given to a callback count from now: who is asked only now has time to answer.
        """
        missed, self.now = range(self.now + 1, now + 1), max(self.now, now)
        for second in missed:
            for callback in self._slots.pop(second, ()):
                try:
                    callback()
                except Exception:
                    log.exception("a timer callback failed")
