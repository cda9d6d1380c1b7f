"""Metrics follow Prometheus' naming practices, and are declared in one way (beaconfire_kit/metrics.py)."""

import ast
import re
from collections.abc import Iterator

import prometheus_client
import pytest
from prometheus_client.core import Metric
from prometheus_client.process_collector import PROCESS_COLLECTOR

import beaconfire_auth.app  # noqa: F401
import beaconfire_gateway.process.app  # noqa: F401
import beaconfire_publisher.app
import beaconfire_publisher.worker  # noqa: F401  (each module declares its metrics when it is imported)
from beaconfire_gateway.process import worker_operations
from beaconfire_gateway.process.supervisor import Board
from tests.architecture.sources import modules, parsed

PARTS = "auth|broker|consumer|database|gateway|http|jwks|outbox|publisher|rules_engine|scheduler|tokens"
NOT_BASE_UNITS = r"_(s|ms|us|ns|seconds?_total|milliseconds|minutes|hours|kib|mib|kb|mb|per_s|count|sum|bucket|info)$"
THE_LIBRARY_S_OWN = {
    family.name
    for collector in (PROCESS_COLLECTOR, prometheus_client.PLATFORM_COLLECTOR, prometheus_client.GC_COLLECTOR)
    for family in collector.collect()
}


def ours() -> Iterator[Metric]:
    """Every metric of every service, without those of the Prometheus client itself."""
    yield from (one for one in prometheus_client.REGISTRY.collect() if one.name not in THE_LIBRARY_S_OWN)
    yield from worker_operations.about(Board(1), ())


METRICS = sorted(ours(), key=lambda one: one.name)


def test_metrics_are_found_in_the_sources() -> None:
    """Without this, the tests below could look at nothing."""
    assert len(METRICS) > 55


@pytest.mark.parametrize("metric", METRICS, ids=lambda one: one.name)
def test_metric_name_has_the_prefix_and_the_part_that_counts(metric: Metric) -> None:
    """A metric's name says `beaconfire`, which part counts, and what it counts."""
    assert re.fullmatch(rf"beaconfire_(?:{PARTS})(?:_[a-z]+)+", metric.name)


@pytest.mark.parametrize("metric", METRICS, ids=lambda one: one.name)
def test_metric_name_ends_with_a_base_unit(metric: Metric) -> None:
    """Units are seconds and bytes, written out, and only a counter's name ends with `_total`."""
    assert not re.search(NOT_BASE_UNITS, metric.name)
    assert not metric.name.endswith("_total")  # the client adds it to a counter's samples, and only to those
    assert all(one.name.endswith(("_total", "_created")) for one in metric.samples if metric.type == "counter")
    if metric.type == "histogram":
        assert metric.name.endswith(("_seconds", "_bytes"))


@pytest.mark.parametrize("metric", METRICS, ids=lambda one: one.name)
def test_metric_has_a_help_text(metric: Metric) -> None:
    """Every metric is explained in a sentence."""
    assert re.fullmatch(r"[A-Z0-9].{12,}\.", metric.documentation)


def test_metrics_are_declared_in_one_way() -> None:
    """Each is a constant at the top of a module, `NAME = metrics.Counter("beaconfire_…", …)`, or a `Tally` of one."""
    for path in modules("shared", "services"):
        tree = parsed(path)
        calls = {id(node): node for node in ast.walk(tree) if isinstance(node, ast.Call) and declares(node)}
        for statement in tree.body:
            if isinstance(statement, ast.Assign):
                for node in ast.walk(statement.value):
                    calls.pop(id(node), None)
        assert not calls, f"{path}: {[node.lineno for node in calls.values()]}"


def declares(call: ast.Call) -> bool:
    """Whether a call creates a metric."""
    return ast.unparse(call.func) in ("metrics.Counter", "metrics.Gauge", "metrics.Histogram")


def test_only_the_kit_creates_metrics_of_the_client_library() -> None:
    """Every module takes `Counter`, `Gauge` and `Histogram` from `beaconfire_kit.metrics`, by that name."""
    for path in modules("shared", "services", "tools"):
        if path.name == "metrics.py":
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module in ("prometheus_client", "beaconfire_kit.metrics"):
                assert not {one.name for one in node.names} & {"Counter", "Gauge", "Histogram", "Summary", "Info"}, path
