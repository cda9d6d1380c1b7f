"""A collector of traces, as services reach it: OTLP over HTTP, with protobuf bodies."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE_S = 30.0
NO_PARENT = ""


@dataclass(frozen=True, slots=True)
class CollectedSpan:
    """A span as it arrived."""

    service: str
    name: str
    kind: str
    """`SERVER`, `CLIENT` and so on."""
    trace: str
    id: str
    parent: str
    attributes: Mapping[str, Any]
    has_failed: bool
    started_ns: int
    ended_ns: int


class Collector:
    """What arrived so far."""

    def __init__(self) -> None:
        self.spans: list[CollectedSpan] = []
        self._more = asyncio.Event()

    async def until(self, trace: str, **counts: int) -> list[CollectedSpan]:
        """Wait until a trace has as many spans whose names begin with these words. Returns all that it has."""
        await self.until_true(
            lambda: all(
                sum(one.name.startswith(word) for one in self.of(trace)) >= count for word, count in counts.items()
            )
        )
        return self.of(trace)

    async def until_true(self, is_enough: Callable[[], bool]) -> None:
        """Wait until this is true of what arrived."""
        async with asyncio.timeout(PATIENCE_S):
            while not is_enough():
                self._more.clear()
                await self._more.wait()

    def of(self, trace: str) -> list[CollectedSpan]:
        """The spans of a trace, in the order of their beginnings."""
        return sorted((one for one in self.spans if one.trace == trace), key=lambda one: one.started_ns)

    async def receive(self, request: web.Request) -> web.Response:
        """Answer `POST /v1/traces`."""
        assert request.content_type == "application/x-protobuf"
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for group in sent.resource_spans:
            service = _values(group.resource.attributes)["service.name"]
            self.spans += [_read(service, span) for scope in group.scope_spans for span in scope.spans]
        self._more.set()
        return web.Response(content_type="application/x-protobuf")


@asynccontextmanager
async def collecting(at: socket.socket) -> AsyncIterator[Collector]:
    """Run a collector on a socket that listens already, so that services may connect before."""
    collector = Collector()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/traces", collector.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.SockSite(runner, at).start()
    try:
        yield collector
    finally:
        await runner.cleanup()


def _read(service: str, span: Any) -> CollectedSpan:
    return CollectedSpan(
        service,
        span.name,
        type(span).SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex() or NO_PARENT,
        _values(span.attributes),
        span.status.code == 2,  # STATUS_CODE_ERROR
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
