"""Schedule the `goaway` of each session of a stopping gateway. No I/O. Times are seconds of any steady clock."""

import random
from collections.abc import Iterator

from beaconfire_gateway.wire.messages import GoAway


class GoAways:
    """Starts when the gateway is asked to stop, and lasts for `window_s`."""

    def __init__(self, window_s: float, now: float) -> None:
        self._window_s = window_s
        self.ends_at = now + window_s

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
