"""Write `docs/reference/metrics.md`: the metrics of each service."""

from collections.abc import Iterable
from itertools import groupby

from scripts.derived.all_metrics import Metric, all_metrics

HEAD = """\
# Metrics

Written by `make generate` from the modules that declare the metrics. Do not edit.

Every service answers `GET /metrics` on its operations port in Prometheus' text format. Besides the metrics below, there
are those of the Python process (`process_resident_memory_bytes`, `process_cpu_seconds_total`, …). A gateway with
several workers adds the label `worker` to each metric.

`deploy/alerts` has alert rules, and `deploy/grafana` has a dashboard
([how to use them](../howto/operate.md#watch-it-with-prometheus-and-grafana)).
"""
PARTS = {
    "gateway": ("Gateway", "Of each gateway process."),
    "outbox": ("Outbox", "Of services that commit events to an outbox: publisher, auth, and your own services."),
    "http": ("HTTP", "Of every service."),
    "auth": ("Auth", "Of the auth service."),
    "publisher": ("Publisher", "Of the publisher."),
    "tokens": ("Tokens", "Of every service that verifies tokens."),
    "jwks": ("Public keys", "Of every service that verifies tokens."),
    "broker": ("Broker client", "Of every service."),
    "consumer": ("Consumers", "Of services that read the stream with a durable consumer."),
    "database": ("Database", "Of services with a database."),
    "rules": ("Rules engine", "Of the worker `rules-engine`."),
    "scheduler": ("Scheduler", "Of the worker `scheduler`."),
}
"""The title of each part that counts, and which services have its metrics."""


def metrics_page() -> str:
    """Return the whole page."""
    by_part = {part: list(some) for part, some in groupby(all_metrics(), lambda one: one.part)}
    return "\n".join([HEAD, *(_section(*PARTS[part], by_part[part]) for part in PARTS)])


def _section(title: str, services: str, metrics: Iterable[Metric]) -> str:
    rows = "".join(f"| `{one.name}` | {one.kind} | {_labels(one)} | {one.text} |\n" for one in metrics)
    return f"## {title}\n\n{services}\n\n| metric | kind | labels | |\n|---|---|---|---|\n{rows}"


def _labels(metric: Metric) -> str:
    return ", ".join(f"`{label}`" for label in metric.labels) or "-"
