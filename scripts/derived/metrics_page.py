"""Write `docs/reference/metrics.md`: the metrics of each service."""

from collections.abc import Iterable
from itertools import groupby

from scripts.derived.all_metrics import Metric, all_metrics

HEAD = """\
# Metrics

The [glossary](../../PROTOCOL.md#1-words) explains words such as room, event, session, gateway, broker, stream, offset,
cursor, outbox, catalogue and operations port.

Written by `make generate` from the modules that declare the metrics. Do not edit.

Every service answers `GET /metrics` on its operations port (`BEACONFIRE_OPS_PORT`), in Prometheus' text format. Besides
the metrics below, there are those of the Python process (`process_resident_memory_bytes`, `process_cpu_seconds_total`,
…). A gateway with several workers adds the label `worker` to each metric.

The label `transport` says how clients connect (WebSocket, server-sent events or long polling), and `dialect` which
protocol they speak.

`deploy/alerts` has alert rules, and `deploy/grafana` has a dashboard
([how to use them](../howto/operate.md#watch-it-with-prometheus-and-grafana)).
"""
PARTS = {
    "gateway": ("Gateway", "These metrics are of each gateway process."),
    "outbox": ("Outbox", "These metrics are of services with an outbox: publisher, auth, and your own services."),
    "http": ("HTTP", "These metrics are of every service."),
    "auth": ("Auth", "These metrics are of auth."),
    "publisher": ("Publisher", "These metrics are of the publisher."),
    "tokens": ("Tokens", "These metrics are of every service that verifies tokens."),
    "jwks": ("Public keys", "These metrics are of every service that verifies tokens."),
    "broker": ("Broker client", "These metrics are of every service."),
    "consumer": (
        "Consumers",
        "These metrics are of services that read the stream with a durable consumer: the broker keeps how far "
        "they have read.",
    ),
    "database": ("Database", "These metrics are of services with a database."),
    "rules": ("Rules engine", "These metrics are of the worker `rules-engine`."),
    "scheduler": ("Scheduler", "These metrics are of the worker `scheduler`."),
}
"""The title of each part that counts, and which services have its metrics."""


def metrics_page() -> str:
    """Return the whole page."""
    by_part = {part: list(some) for part, some in groupby(all_metrics(), lambda one: one.part)}
    return "\n".join([HEAD, *(_section(*PARTS[part], by_part[part]) for part in PARTS)])


def _section(title: str, services: str, metrics: Iterable[Metric]) -> str:
    rows = "".join(f"| `{one.name}` | {one.kind} | {_labels(one)} | {one.text} |\n" for one in metrics)
    head = "| metric | kind | labels | what it counts or measures |\n|---|---|---|---|\n"
    return f"## {title}\n\n{services}\n\n{head}{rows}"


def _labels(metric: Metric) -> str:
    return ", ".join(f"`{label}`" for label in metric.labels) or "-"
