"""Which root fills the stream, computed from the ring."""

from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from beaconfire_gateway.fanout.busiest_root import EVERY_S, SAMPLE, BusiestRoot
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.ring import Ring
from beaconfire_gateway.fanout.route import Route


def ring_of(*events: tuple[str, int, float]) -> Ring:
    """A ring with events: their root (`campaign.c1`), bytes, and when they came."""
    ring = Ring(max_bytes=1 << 30, max_age_s=60)
    for offset, (root, size, at) in enumerate(events, 1):
        ring.append(Entry(offset, Route(f"{root}.state", ()), b"x" * size, at, type="state_invalidated"))
    return ring


def figures(ring: Ring, now: float) -> tuple[float | None, float | None]:
    BusiestRoot().look(ring, now)
    return (
        REGISTRY.get_sample_value("beaconfire_gateway_busiest_root_bytes_per_second"),
        REGISTRY.get_sample_value("beaconfire_gateway_stream_bytes_per_second"),
    )


def test_busiest_root_of_the_last_seconds_is_shown_with_the_total() -> None:
    ring = ring_of(("campaign.c1", 5_000, 0.0), *[("campaign.c2", 1_000, 95.0)] * 6, ("user.u1", 4_000, 99.0))

    assert figures(ring, 100.0) == (6_000 / EVERY_S, 10_000 / EVERY_S)


def test_quiet_stream_shows_no_busiest_root() -> None:
    assert figures(ring_of(), 100.0) == (0.0, 0.0)
    assert figures(ring_of(("campaign.c1", 5_000, 0.0)), 100.0) == (0.0, 0.0)


def test_flood_is_measured_over_the_time_of_its_newest_events() -> None:
    ring = ring_of(*[("campaign.c1", 100, 98.0)] * (3 * SAMPLE))

    assert figures(ring, 100.0) == (SAMPLE * 100 / 2, SAMPLE * 100 / 2)


def test_root_that_fills_the_stream_is_named_in_the_log_only() -> None:
    """A label would create a time series for each root."""
    busiest = BusiestRoot()
    with capture_logs() as lines:
        for second in range(30):
            busiest.look(ring_of(("campaign.c1", 2_000_000, 100.0 + second)), 100.0 + second)

    assert [(line["event"], line["root"]) for line in lines] == [("one root fills the stream", "campaign:c1")]
