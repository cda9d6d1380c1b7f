"""Checks that the gateway is still there: `ping` after 1.1 * `heartbeatS` of silence (PROTOCOL.md §5, "Heartbeat")."""

from collections.abc import Callable

from beaconfire_client.core.timers import Timers

ANSWER_S = 5.0
"""How long to wait for the answer to a ping before reconnecting."""
_ALARM = "health"


class Health:
    """Calls `ping` after silence and, if nothing comes, `on_dead`."""

    def __init__(self, timers: Timers, ping: Callable[[], None], on_dead: Callable[[], None]) -> None:
        self._timers = timers
        self._ping = ping
        self._on_dead = on_dead
        self._silence_s = 0.0
        self._heard_at = 0.0
        self._is_asking = False

    def start(self, heartbeat_s: float) -> None:
        # A tenth more, since a `position` that comes every `heartbeatS` may still be on its way.
        self._silence_s = heartbeat_s * 1.1
        self._is_asking = True
        self.heard()

    def stop(self) -> None:
        self._silence_s = 0.0
        self._timers.stop(_ALARM)

    def heard(self) -> None:
        """Note that something arrived. Every message is a sign of life, not only the answer to a ping."""
        self._heard_at = self._timers.now
        if self._is_asking and self._silence_s:
            self._is_asking = False
            self._timers.start(_ALARM, self._silence_s, self._look)

    def _look(self) -> None:
        """Ask if nothing has arrived. The alarm is not moved by each message, of which there are many."""
        left_s = self._heard_at + self._silence_s - self._timers.now
        if left_s > 0:
            self._timers.start(_ALARM, left_s, self._look)
        else:
            self._is_asking = True
            self._timers.start(_ALARM, ANSWER_S, self._on_dead)
            self._ping()
