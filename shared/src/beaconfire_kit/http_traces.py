"""Make each request over HTTP a span while traces are on. A client's `traceparent` is continued, within a limit.

A client may name any trace and have it sampled. So only `client_traces_per_s` of these requests are continued in each
second. Further ones begin a trace of their own, or none, as the sampler decides.
"""

import time
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from beaconfire_kit import rates, trace_context
from beaconfire_kit.web import CORRELATION_HEADER, METHODS, route_of

if TYPE_CHECKING:
    from opentelemetry.context import Context as Within

    from beaconfire_kit.spans import Spans

MAX_TEXT = 1_200
_PROBES = frozenset({"/healthz", "/readyz"})


def middleware(spans: "Spans", client_traces_per_s: int) -> Middleware:
    """Return the middleware. It must be outside of those that answer errors."""
    empty_at = 0.0

    def parent(request: web.Request) -> "Within | None":
        nonlocal empty_at
        given = request.headers.getall("traceparent", ())
        context = trace_context.checked(
            given[0] if len(given) == 1 else None, ",".join(request.headers.getall("tracestate", ()))
        )
        found = None if context is None else spans.parent(context)
        if found is None or not spans.is_sampled(found):
            return found
        if not client_traces_per_s:
            return None
        empty_at, wait_s = rates.spend(empty_at, 1, client_traces_per_s, time.monotonic(), window_s=1.0)
        return None if wait_s else found

    @web.middleware
    async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = route_of(request)
        if route in _PROBES:
            return await handler(request)
        is_known = request.method in METHODS
        attributes = {
            "http.request.method": request.method if is_known else "_OTHER",
            "url.scheme": request.scheme,
        }
        name = request.method if is_known else "HTTP"
        if route is not None:
            attributes["http.route"], name = route, f"{name} {route}"
            attributes["url.path"] = request.path[:MAX_TEXT]  # never the query, which may have a credential
        with spans.serving(name, parent(request), attributes) as span:
            if not span.is_recording():
                return await handler(request)
            trace_id = f"{span.get_span_context().trace_id:032x}"
            with structlog.contextvars.bound_contextvars(trace_id=trace_id):
                response = await handler(request)
            span.set_attribute("http.response.status_code", response.status)
            if correlation_id := response.headers.get(CORRELATION_HEADER):
                span.set_attribute("beaconfire.correlation_id", correlation_id)
            if response.status >= 500:
                spans.fail(span, str(response.status))
            return response

    return trace
