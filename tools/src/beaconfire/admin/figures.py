"""Read what the admin page shows from the metrics of a service, and turn two readings into rates. No I/O."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

EVENTS = "beaconfire_gateway_events_delivered_total"
FRAMES = "beaconfire_gateway_event_frames_sent_total"
OPENED = "beaconfire_gateway_connections_opened_total"
SESSIONS = "beaconfire_gateway_sessions"
POSITION = "beaconfire_gateway_position"
DEGRADED = "beaconfire_gateway_degraded"
ROOMS = "beaconfire_gateway_rooms"
CATALOGUE = "beaconfire_gateway_catalogue_revision"
HEARD = "beaconfire_gateway_hear_latency_seconds_bucket"
WRITTEN = "beaconfire_gateway_write_latency_seconds_bucket"
PENDING = "beaconfire_outbox_pending_events"
OLDEST = "beaconfire_outbox_oldest_event_age_seconds"
WAITING_ROOTS = "beaconfire_outbox_waiting_roots"
SET_ASIDE = "beaconfire_outbox_set_aside_events"

READ = (
    EVENTS,
    FRAMES,
    OPENED,
    SESSIONS,
    POSITION,
    DEGRADED,
    ROOMS,
    CATALOGUE,
    HEARD,
    WRITTEN,
    PENDING,
    OLDEST,
    WAITING_ROOTS,
    SET_ASIDE,
)
"""Every metric that is read. The others are not parsed."""
P95 = 0.95

Process = tuple[str, str]
"""An address, and the number of the worker there, or an empty text."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The metrics of one process at one moment, summed over their labels."""

    values: Mapping[str, float] = field(default_factory=dict)
    buckets: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    """Of histograms: the observations up to each bound."""

    def get(self, name: str) -> float:
        return self.values.get(name, 0.0)


def read(text: str, address: str) -> dict[Process, Reading]:
    """Read the metrics of a service, for each of its processes."""
    wanted = "\n".join(line for line in text.splitlines() if line.startswith(READ))
    values: dict[Process, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    buckets: dict[Process, dict[str, dict[float, float]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(float)))
    for family in text_string_to_metric_families(f"{wanted}\n"):
        for sample in family.samples:
            process = (address, sample.labels.get("worker", ""))
            if sample.name in (HEARD, WRITTEN):
                buckets[process][sample.name][float(sample.labels["le"])] += sample.value
            elif sample.name in READ:
                values[process][sample.name] += sample.value
    return {process: Reading(values[process], buckets[process]) for process in {*values, *buckets}}


def grown(before: Mapping[Process, Reading], now: Mapping[Process, Reading], name: str) -> dict[Process, float]:
    """Return how much a counter has grown in each process. One that was started in between counts from 0."""
    grown = {}
    for process, reading in now.items():
        if process in before:
            more = reading.get(name) - before[process].get(name)
            grown[process] = more if more >= 0 else reading.get(name)
    return grown


def quantile_ms(
    before: Mapping[Process, Reading], now: Mapping[Process, Reading], name: str, quantile: float = P95
) -> float | None:
    """Return a quantile of what a histogram observed between two readings, in milliseconds. None without any."""
    counts: dict[float, float] = defaultdict(float)
    for process in now.keys() & before.keys():
        earlier = before[process].buckets.get(name, {})
        for bound, count in now[process].buckets.get(name, {}).items():
            counts[bound] += max(0.0, count - earlier.get(bound, 0.0))
    total = counts.get(float("inf"), 0.0)
    if not total:
        return None
    return _interpolated(sorted(counts.items()), quantile * total) * 1000


def _interpolated(counts: Iterable[tuple[float, float]], rank: float) -> float:
    """Return where the observation of this rank lies, as Prometheus' histogram_quantile does."""
    bound_before = count_before = 0.0
    for bound, count in counts:
        if count >= rank:
            if bound == float("inf"):
                return bound_before
            within = (rank - count_before) / (count - count_before) if count > count_before else 0.0
            return bound_before + (bound - bound_before) * within
        bound_before, count_before = bound, count
    return bound_before
