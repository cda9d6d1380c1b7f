"""Rates and quantiles of the admin page, from the text of metrics."""

import pytest

from beaconfire.admin import figures
from beaconfire.admin.figures import grown, quantile_ms, read

AT = "http://gateway:9090"


def text(delivered: int, buckets: tuple[int, int, int], worker: str = "1") -> str:
    bounds = zip(("0.01", "0.1", "+Inf"), buckets, strict=True)
    return "\n".join(
        [
            "# TYPE beaconfire_gateway_events_delivered counter",
            f'beaconfire_gateway_events_delivered_total{{type="a",worker="{worker}"}} {delivered}',
            f'beaconfire_gateway_events_delivered_total{{type="b",worker="{worker}"}} 1',
            f'beaconfire_gateway_sessions_closed_total{{code="1000",worker="{worker}"}} 7',
            *(
                f'beaconfire_gateway_write_latency_seconds_bucket{{le="{bound}",worker="{worker}"}} {count}'
                for bound, count in bounds
            ),
        ]
    )


def test_metrics_are_summed_over_labels_and_kept_apart_by_worker() -> None:
    both = read(f"{text(5, (0, 0, 0))}\n{text(8, (0, 0, 0), worker='2')}", AT)

    assert {process: one.get(figures.EVENTS) for process, one in both.items()} == {(AT, "1"): 6, (AT, "2"): 9}
    assert both[AT, "1"].get(figures.SESSIONS) == 0


def test_counter_of_a_process_that_started_again_counts_from_zero_and_a_new_process_does_not_count() -> None:
    before = read(text(100, (0, 0, 0)), AT)
    now = read(f"{text(4, (0, 0, 0))}\n{text(900, (0, 0, 0), worker='2')}", AT)

    assert grown(before, now, figures.EVENTS) == {(AT, "1"): 5}


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ((100, 100, 100), 9.5),  # within the first bucket, in proportion
        ((0, 100, 100), 95.5),
        ((0, 0, 100), 100.0),  # beyond the last bound: at least that
        ((0, 0, 0), None),
    ],
)
def test_quantile_counts_only_what_was_observed_in_between(buckets: tuple[int, int, int], expected: float) -> None:
    first = (1_000, 2_000, 3_000)
    one, two, three = (before + more for before, more in zip(first, buckets, strict=True))

    found = quantile_ms(read(text(1, first), AT), read(text(1, (one, two, three)), AT), figures.WRITTEN)

    assert found == (None if expected is None else pytest.approx(expected))
