"""Replaces the token before it runs out, without a reconnect. There is no error while time is left."""

from collections.abc import Callable

from beaconfire_client.core.timers import Timers

_FIRST_PAUSE_S = 1.0
TRY_S = 15.0
"""How long to wait for a new token and for the gateway's answer, before the next try."""
_ALARM = "renewal"


class Renewal:
    """Asks for tokens until the gateway accepts one, or the old one has ended.

    `ask` must lead to a call of `answered`. If it does not do so in time, it is called again.
    """

    def __init__(self, timers: Timers, ask: Callable[[], None]) -> None:
        self._timers = timers
        self._ask = ask
        self._ends_at = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._is_trying = False

    def start(self, in_s: float) -> None:
        """Begin: the gateway says that the token expires after some seconds."""
        self._ends_at = self._timers.now + in_s
        self._pause_s = _FIRST_PAUSE_S
        self._try()

    def stop(self) -> None:
        """Stop: the connection is gone, or has a new token."""
        self._is_trying = False
        self._timers.stop(_ALARM)

    def answered(self, *, is_accepted: bool) -> None:
        """The gateway has answered the new token, or no token could be had."""
        if is_accepted:
            self.stop()
        elif self._is_trying:
            self._again()

    def _try(self) -> None:
        self._is_trying = True
        self._timers.start(_ALARM, TRY_S, self._again)
        self._ask()

    def _again(self) -> None:
        self.stop()
        # After the token's end it is too late: close 4401 follows, and the client gets a token to connect with.
        if self._timers.now + self._pause_s < self._ends_at:
            self._timers.start(_ALARM, self._pause_s, self._try)
            self._pause_s *= 2
