"""Trace a change from the request to the sockets, with OpenTelemetry. Off unless `OTEL_TRACES_EXPORTER=otlp`.

    with tracing.running("quests", tracing.read_settings()):
        …
        with tracing.step("load the map"):      # a part of the current trace, if there is one
            …

`beaconfire_kit.service.run` does the first for a service.

A trace goes on in other processes by its *context*: the W3C fields `traceparent` and `tracestate`. An event carries it
in its `metadata`, and the relay copies it into the headers of the broker's message (docs/adr/0088). Only sampled events
carry a context. While traces are off, nothing here does anything, and no package of OpenTelemetry is imported. While
they are on, `spans` makes them.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from beaconfire_kit import trace_context
from beaconfire_kit.trace_context import Carried, Context
from beaconfire_kit.trace_settings import TraceSettings, read_trace_settings, refuse

if TYPE_CHECKING:
    from beaconfire_kit.spans import Spans

_OFF: AbstractContextManager[None] = nullcontext()
_active: "Spans | None" = None


def read_settings() -> TraceSettings | None:
    """Read the settings. None if traces are off. Ends the process if a value is wrong, or OpenTelemetry is missing.

    A process that forks workers does this before, so that they share the imported code.
    """
    settings = read_trace_settings()
    if settings is not None:
        try:
            from beaconfire_kit import spans  # noqa: F401
        except ImportError as error:
            refuse(
                f"OTEL_TRACES_EXPORTER: {error.name} is not installed: install the extra `traces`, as in "
                "beaconfire-gateway[traces] or, for a service of your own, beaconfire-kit[traces]"
            )
    return settings


@contextmanager
def running(service: str, settings: TraceSettings | None) -> Iterator[None]:
    """Send traces during the block, if there are settings. Starts a thread, so enter it after any fork.

    What is left at the end is sent within two seconds, or dropped.
    """
    global _active
    if settings is None:
        yield
        return
    from beaconfire_kit.spans import Spans

    _active = spans = Spans(service, settings)
    try:
        yield
    finally:
        _active = None
        spans.close()


def active() -> "Spans | None":
    """Return what makes spans, or None while traces are off."""
    return _active


def step(name: str, attributes: Mapping[str, Any] | None = None) -> AbstractContextManager[None]:
    """Make the block a span of the current trace, if there is one."""
    return _OFF if _active is None else _active.step(name, attributes or {})


def outgoing() -> Context:
    """Return the headers with which a request to another service continues the current trace."""
    return {} if _active is None else _active.outgoing()


def created(subject: str, event: Carried) -> Context | None:
    """Note that the current trace has created an event. Returns what the event has to carry, if anything."""
    return None if _active is None else _active.created(subject, event)


def sending(subject: str, event: Carried) -> AbstractContextManager[Context | None]:
    """Make the block, which creates and publishes an event, a span. Yields what the event has to carry, if anything."""
    return _OFF if _active is None else _active.sending(subject, event)


def headers_of(body: bytes) -> Context | None:
    """Return the headers for the message of an event that carries a context."""
    carried = None if _active is None else trace_context.carried_by(body)
    return None if carried is None else carried.context


def publishing(events: Iterable[tuple[str, bytes]]) -> AbstractContextManager[None]:
    """Make the block, which publishes these events, a span of each that carries a context: its subject and its body.

    If the block raises, the spans are marked as failed.
    """
    if _active is None:
        return _OFF
    found = [(subject, trace_context.carried_by(body)) for subject, body in events]
    carried = [(subject, one) for subject, one in found if one is not None]
    return _active.publishing(carried, len(found)) if carried else _OFF


def handling(consumer: str, subject: str, body: bytes) -> AbstractContextManager[None]:
    """Make the block, which consumes an event, a span if the event carries a context. Its changes are traced, too."""
    carried = None if _active is None else trace_context.carried_by(body)
    return _OFF if carried is None or _active is None else _active.handling(consumer, subject, carried)
