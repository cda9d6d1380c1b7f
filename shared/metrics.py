"""Prometheus metrics: the process-wide registry and its text form. Each module declares what it counts.

Labels are closed sets of words (a reason, a type); never a room, user or offset.
"""

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Counter", "Gauge", "Histogram", "render"]

CONTENT_TYPE = CONTENT_TYPE_LATEST


def render() -> bytes:
    """Everything counted in this process, in Prometheus text format."""
    return generate_latest(REGISTRY)
