"""Prometheus metrics: the registry of the process, and its text form.

    from beaconfire_kit import metrics

    HASHED = metrics.Counter("beaconfire_auth_password_hashes_total", "Passwords hashed, by purpose.", ["purpose"])

Each module declares what it counts at its top, as above. A name starts with `beaconfire_` and the part that counts. It
ends with the unit, and a counter's name with `_total` (https://prometheus.io/docs/practices/naming/). Labels are closed
sets of words (a reason, a type), never a room, user or offset.
"""

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "LATENCIES", "Counter", "Gauge", "Histogram", "Tally", "render"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
LATENCIES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
"""Buckets (seconds) for a step of an event's way from its commit to a socket."""


_tallies: "list[Tally]" = []


class Tally:
    """Count what happens too often for a counter's lock (0.9 µs each time): `tally.count += 1`, in the event loop only.

    A tally lives as long as the process, so create one per counter or label, when it is first needed.
    """

    __slots__ = ("_counter", "count")

    def __init__(self, counter: Counter) -> None:
        self.count = 0
        self._counter = counter
        _tallies.append(self)

    def settle(self) -> None:
        """Add the count to the counter and start again at 0."""
        count, self.count = self.count, 0
        self._counter.inc(count)


def render() -> bytes:
    """Return everything counted in this process, in Prometheus text format."""
    for tally in _tallies:
        tally.settle()
    return generate_latest(REGISTRY)
