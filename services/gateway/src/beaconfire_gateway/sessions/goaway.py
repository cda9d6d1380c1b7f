"""Schedule the `goaway` of each session of a stopping gateway. No I/O. Times are seconds of any steady clock.

A client whose protocol has no `goaway` is closed at that time instead. It connects again, as after any lost connection.
"""

import random
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from beaconfire_gateway.wire.messages import GoAway
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError


class Going(Protocol):
    """A session whose client does not know `goaway`."""

    def close(self, error: BeaconfireError) -> None: ...


def going_away() -> BeaconfireError:
    """Return the reason why a gateway that stops closes or refuses a connection."""
    return BeaconfireError(errors.UNAVAILABLE, "this gateway is going away, connect again", retry_after_ms=1000)


class GoAways:
    """Starts when the gateway is asked to stop, and lasts for `window_s`."""

    def __init__(self, window_s: float, now: float) -> None:
        self._window_s = window_s
        self._to_close: list[tuple[float, int, Going]] = []
        self._numbers = count()  # so that two sessions of the same moment are not compared
        self.ends_at = now + window_s

    def close_at(self, at: float, session: Going) -> None:
        """Close a session at its time, because its client cannot be told."""
        heappush(self._to_close, (at, next(self._numbers), session))

    def close_due(self, now: float) -> None:
        """Close the sessions whose time has come. Call it often."""
        while self._to_close and self._to_close[0][0] <= now:
            heappop(self._to_close)[2].close(going_away())

    def to_all(self, count: int) -> Iterator[GoAway]:
        """Yield a `goaway` for each of the sessions that are connected at the start.

        Their turns are spread over the first half of the window, so that they do not all arrive elsewhere at once. The
        second half is for arriving.
        """
        for number in range(count):
            yield GoAway(int(number * self._window_s * 500) // count, int(self._window_s * 1000))

    def to_newcomer(self, now: float) -> GoAway:
        """A `goaway` for a session that has connected since.

        Its turn comes late: by then the load balancer has noticed that this gateway is not ready, and does not send it
        here again.
        """
        left_ms = max(0.0, self.ends_at - now) * 1000
        return GoAway(int(left_ms * random.uniform(0.5, 0.75)), int(left_ms))  # noqa: S311
