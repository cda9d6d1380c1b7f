"""Find the root that fills the stream. Publishers that use NATS directly are seen only here.

It looks at the ring now and then, so that events do not get slower.
"""

from collections import Counter

from beaconfire_gateway.fanout.ring import Ring
from beaconfire_kit import logs, metrics
from beaconfire_kit.subjects import root_name

log = logs.get(__name__)

BUSIEST = metrics.Gauge(
    "beaconfire_gateway_busiest_root_bytes_per_second",
    "Bytes per second of the root whose events fill the stream fastest.",
)
HEARD = metrics.Gauge("beaconfire_gateway_stream_bytes_per_second", "Bytes per second of all events of the stream.")

EVERY_S = 10
SAMPLE = 2_000
"""The newest events that are looked at, which takes less than a millisecond."""
LOGGED_FROM = 100_000
"""Bytes a second of one root that are worth a line in the log: in a day they fill the stream (8 GiB)."""
LOG_EVERY_S = 60


class BusiestRoot:
    """Looks for the root that fills the stream."""

    def __init__(self) -> None:
        self._look_at = self._log_at = 0.0

    def look(self, ring: Ring, now: float) -> None:
        """Show how fast the stream fills, by the newest events, every `EVERY_S` seconds. Call it every second."""
        if now < self._look_at:
            return
        self._look_at = now + EVERY_S
        newest = [entry for entry in ring.newest(SAMPLE) if now - entry.at < EVERY_S]
        sizes: Counter[str] = Counter()
        for entry in newest:
            sizes[root_name(entry.route.subject)] += len(entry.body)
        # If the sample is full, it came in a shorter time.
        seconds = max(now - newest[0].at, 0.001) if len(newest) == SAMPLE else EVERY_S
        root, size = max(sizes.items(), key=lambda one: one[1], default=("", 0))
        BUSIEST.set(size / seconds)
        HEARD.set(sizes.total() / seconds)
        if size / seconds >= LOGGED_FROM and now >= self._log_at:
            self._log_at = now + LOG_EVERY_S
            log.warning("one root fills the stream", root=root, bytes_per_s=round(size / seconds))
