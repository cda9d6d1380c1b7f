"""Make the spans of a change while traces are on (`tracing`). Needs the extra `traces`.

Names and attributes follow OpenTelemetry's conventions for HTTP, databases and messaging. `beaconfire.…` are our own:

    PATCH /v1/settlements/{id}          the request                                      SERVER
    └── transaction                     of the database                                  CLIENT
        └── create campaign.>           an event, which carries the context of this span PRODUCER
            ├── publish campaign.>      the relay gives it to the broker                 CLIENT
            ├── deliver campaign.>      a gateway, from hearing it until it is written   CONSUMER
            └── handle campaign.>       a service that consumes it                       CONSUMER

An error is recorded with its kind alone: a message could contain values of a row, and a stack trace helps nobody here.
"""

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from opentelemetry.context import Context as Within
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span, set_span_in_context, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.trace_context import Carried, Context
from beaconfire_kit.trace_settings import TraceSettings

CLOSE_S = 2.0
MAX_TEXT = 1_200
"""Characters of an attribute. A subject has at most as many."""
_W3C = TraceContextTextMapPropagator()
_ERROR = "error.type"


class Spans:
    """Makes spans and sends them to the collector, from a thread of its own.

    At most 2,048 spans wait (`OTEL_BSP_MAX_QUEUE_SIZE`). While the collector is away, the oldest are dropped.
    """

    def __init__(self, service: str, settings: TraceSettings) -> None:
        """`service` is its name, if the settings have no other."""
        release = version("beaconfire-kit")
        named = {SERVICE_NAMESPACE: "beaconfire", SERVICE_VERSION: release}
        resource = Resource(named).merge(Resource.create())
        if not settings.service_name and str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: f"beaconfire-{service}"}))
        # Not at exit: the library would wait for a collector that is away for half a minute.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(settings.endpoint)))
        self._tracer = self._provider.get_tracer("beaconfire", release)

    def close(self) -> None:
        """Send what is left, for at most `CLOSE_S` seconds."""
        ending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(CLOSE_S)

    # A request over HTTP.

    def parent(self, context: Context) -> Within | None:
        """Return the parent that a request's headers name, or None if they are no valid W3C context."""
        within = _W3C.extract(context, Within())
        return within if get_current_span(within).get_span_context().is_valid else None

    def is_sampled(self, parent: Within) -> bool:
        """Whether the one who sent this context traces it."""
        return get_current_span(parent).get_span_context().trace_flags.sampled

    @contextmanager
    def serving(self, name: str, parent: Within | None, attributes: Mapping[str, Any]) -> Iterator[Span]:
        """Make the block, which answers a request, a span. Without a parent a new trace may begin."""
        span = self._tracer.start_span(name, parent or Within(), SpanKind.SERVER, attributes)
        with self._current(span):
            yield span

    # Parts of a request.

    @contextmanager
    def step(self, name: str, attributes: Mapping[str, Any]) -> Iterator[None]:
        """Make the block a span of the current trace, if there is one."""
        if not get_current_span().is_recording():
            yield
            return
        kind = SpanKind.CLIENT if "db.system.name" in attributes else SpanKind.INTERNAL
        with self._current(self._tracer.start_span(name, kind=kind, attributes=attributes)):
            yield

    def outgoing(self) -> Context:
        """Return the current trace's context, or an empty one."""
        return _context_of(get_current_span()) if get_current_span().is_recording() else {}

    # Events.

    def created(self, subject: str, about: Carried) -> Context | None:
        """Note that the current trace has created an event. Returns what the event carries, or None without a trace."""
        if not get_current_span().is_recording():
            return None
        span = self._start("create", "create", SpanKind.PRODUCER, subject, about)
        span.end()
        return _context_of(span)

    @contextmanager
    def sending(self, subject: str, about: Carried) -> Iterator[Context | None]:
        """Make the block a span that creates and publishes an event. Yields what the event carries."""
        span = self._start("publish", "send", SpanKind.PRODUCER, subject, about)
        with self._current(span):
            yield _context_of(span) if span.is_recording() else None

    @contextmanager
    def publishing(self, events: Sequence[tuple[str, Carried]], batch: int) -> Iterator[None]:
        """Make the block a span of each of these events, which it publishes among `batch` events."""
        more = {"messaging.batch.message_count": batch} if batch > 1 else {}
        spans = [self._start("publish", "send", SpanKind.CLIENT, subject, one, more) for subject, one in events]
        try:
            yield
        except BaseException as error:
            for span in spans:
                self.fail(span, _kind_of(error))
            raise
        finally:
            for span in spans:
                span.end()

    @contextmanager
    def handling(self, consumer: str, subject: str, event: Carried) -> Iterator[None]:
        """Make the block a span that consumes an event."""
        more = {"messaging.consumer.group.name": consumer}
        with self._current(self._start("handle", "process", SpanKind.CONSUMER, subject, event, more)):
            yield

    def delivering(self, offset: int, subject: str, event: Carried) -> Span | None:
        """Begin the span of an event that a gateway delivers. None if it is not sampled. The caller ends it."""
        more = {"beaconfire.offset": offset}
        span = self._start("deliver", "process", SpanKind.CONSUMER, subject, event, more)
        return span if span.is_recording() else None

    def fail(self, span: Span, kind: str) -> None:
        """Mark a span as failed. `kind` is one of few words, never a text with values."""
        span.set_attribute(_ERROR, kind)
        span.set_status(Status(StatusCode.ERROR))

    def _start(
        self, name: str, type_: str, kind: SpanKind, subject: str, event: Carried, more: Mapping[str, Any] | None = None
    ) -> Span:
        """Begin the span of an operation on an event, as a child of what the event carries, or else of what runs."""
        within = _W3C.extract(event.context, Within()) if event.context else None
        # The stream's subjects: ids would make each span's name another one.
        template = f"{subject.partition('.')[0][:64]}.>"
        attributes = {
            "messaging.system": "nats",
            "messaging.operation.name": name,
            "messaging.operation.type": type_,
            "messaging.destination.name": subject[:MAX_TEXT],
            "messaging.destination.template": template,
            "messaging.message.id": event.id,
            "beaconfire.event.type": event.type,
            **({"messaging.message.conversation_id": event.correlation_id} if event.correlation_id else {}),
            **(more or {}),
        }
        return self._tracer.start_span(f"{name} {template}", within, kind, attributes)

    @contextmanager
    def _current(self, span: Span) -> Iterator[None]:
        """Make a span the current one until the end of the block, and end it. An error marks it."""
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield
            except BaseException as error:
                if not _is_refusal(error):
                    self.fail(span, _kind_of(error))
                raise


def _kind_of(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return error.code.code if isinstance(error, BeaconfireError) else type(error).__qualname__


def _is_refusal(error: BaseException) -> bool:
    """Whether a caller's mistake was answered. That is not a failure of the service."""
    return isinstance(error, BeaconfireError) and error.code.status < 500


def _context_of(span: Span) -> Context:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(span, Within()))
    return carrier
