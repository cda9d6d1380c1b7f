"""Answer HTTP requests as every service does: errors of the one table, CORS, correlation ids, time limits, health.

No stack trace reaches a client. Our own errors are logged, and the client gets an id to quote. `beaconfire_kit.serving`
runs the applications that are made here.
"""

import asyncio
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TypeVar

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, BeforeValidator, ValidationError

from beaconfire_kit import errors, logs, metrics
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.settings import Settings

log = logs.get(__name__)

REQUESTS = metrics.Histogram(
    "beaconfire_http_request_duration_seconds",
    "Time to answer an HTTP request, by method, route and status. The route is `other` for an unknown path.",
    ["method", "route", "status"],
)

MAX_BODY_BYTES = 64 * 1024
CORRELATION_HEADER = "X-Correlation-Id"
CURSOR_HEADER = "X-Beaconfire-Cursor"
OFFSET_HEADER = "X-Beaconfire-Offset"
PENDING_HEADER = "X-Beaconfire-Pending"
_RATE_HEADERS = "RateLimit, RateLimit-Policy, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset"
_READABLE = (
    f"{CORRELATION_HEADER}, ETag, Retry-After, {_RATE_HEADERS}, {CURSOR_HEADER}, {OFFSET_HEADER}, {PENDING_HEADER}"
)
_SENDABLE = f"Authorization, Content-Type, If-Match, Idempotency-Key, {CORRELATION_HEADER}, traceparent, tracestate"
_PREFLIGHT_AGE_S = 600
HANDED_OVER: web.RequestKey[bool] = web.RequestKey("handed_over", bool)
"""Request key set by a handler that took the connection over (an upgrade)."""

ROUTINE: web.RequestKey[bool] = web.RequestKey("routine", bool)
"""Request key of a request that clients repeat all the time: it is logged only if it is refused."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """How long a client may take, in seconds. Operators do not set this; tests choose shorter times."""

    idle_s: float = 10.0
    """A connection that has sent no complete request head for this long is closed."""
    body_s: float = 10.0
    """A body has to arrive within this, from the end of its head."""
    request_s: float = 13.0
    """A request has to arrive within this, head and body together. `linger_s` comes on top: less than 15 s."""
    linger_s: float = 1.5
    """How long the rest of a body is read that no handler wanted, so that the client sees our answer."""


@dataclass(frozen=True, slots=True)
class CrossOrigin:
    """What pages of the allowed origins may do with some routes (CORS). Header names are separated by commas."""

    methods: str = "GET, POST, PUT, PATCH, DELETE"
    sendable: str = _SENDABLE
    """The request headers that a page may set."""
    readable: str = _READABLE
    """The response headers that a page may read."""
    with_cookies: bool = False
    """Whether the browser may send cookies, and the page may read the answer to such a request."""


CROSS_ORIGIN: web.AppKey[Mapping[str, CrossOrigin]] = web.AppKey("cross_origin", Mapping)
"""Optional: the rules of routes that differ from the other routes, by the beginning of their path."""

REQUEST_TIMES: web.AppKey[RequestTimes] = web.AppKey("request_times", RequestTimes)
"""Optional: `DEFAULT_TIMES` are used without it. The operations port has the times of its service."""
DEFAULT_TIMES = RequestTimes()

SERVICE: web.AppKey[str] = web.AppKey("service", str)
"""The service's name, for operators."""
READY: web.AppKey[Callable[[], str | None]] = web.AppKey("ready", Callable[[], str | None])  # type: ignore[arg-type]
"""Why the service is not ready, or None where it is."""

WARNINGS: web.AppKey[Callable[[], list[str]]] = web.AppKey("warnings", Callable[[], list[str]])  # type: ignore[arg-type]
"""Problems that an operator should look at although the service is ready. It is public, so it names no ids."""

DRAIN: web.AppKey[Callable[[], Awaitable[None]]] = web.AppKey("drain", Callable[[], Awaitable[None]])  # type: ignore[arg-type]
"""Optional: awaited when the service has been asked to stop, while it still listens."""
FINISH_S: web.AppKey[float] = web.AppKey("finish_s", float)
"""Seconds that requests under way have when the service stops; `serving.FINISH_DEFAULT_S` where it is not set."""

FOR_OPERATORS: web.AppKey[Iterable[web.AbstractRouteDef]] = web.AppKey("for_operators", Iterable)
"""Routes that a service offers on its operations port only."""

began: dict[Any, float] = {}
"""When a connection's current request started to arrive (`time.monotonic`). It may be answered already."""

busy: set[Any] = set()
"""Connections that have a request being answered."""

served: set[Any] = set()
"""Those that had one answered since `serving.Deadlines` looked last: between two of them they are not idle for long."""


def application(settings: Settings, *, ready: Callable[[], str | None]) -> web.Application:
    """An application with our middlewares and health endpoints."""
    app = web.Application(
        middlewares=[
            _watch,
            _measure,
            _end_refused_upgrades,
            _refuse_ambiguous,
            _answer_preflights,
            _correlate,
            _answer_errors,
        ],
        client_max_size=MAX_BODY_BYTES,
    )
    app.on_response_prepare.append(_harden)
    app.on_response_prepare.append(_share)
    app[_ALLOWED_ORIGINS] = frozenset(settings.allowed_origins)
    app[_LOGS_ACCESS] = settings.access_log
    app[READY] = ready
    _add_health(app)
    return app


def operations(app: web.Application) -> web.Application:
    """The application of the operations port: health, metrics, and what `app` offers operators."""
    ops = worker_application(ready=app[READY])
    ops[WARNINGS] = app.get(WARNINGS, list)
    ops[SERVICE] = app.get(SERVICE, "")
    ops[REQUEST_TIMES] = times_of(app)
    ops.add_routes(app.get(FOR_OPERATORS, ()))
    return ops


def worker_application(*, ready: Callable[[], str | None]) -> web.Application:
    """The application of a service that has an operations port only: health and metrics."""
    app = operators_application()
    app[READY] = ready
    app[_SHOWN_VERSION] = VERSION
    _add_health(app)
    app.router.add_get("/metrics", _metrics)
    return app


def operators_application(routes: Iterable[web.AbstractRouteDef] = ()) -> web.Application:
    """An application that answers operators with these routes."""
    middlewares = [_watch, _end_refused_upgrades, _refuse_ambiguous, _correlate, _answer_errors, _refuse_pages]
    app = web.Application(middlewares=middlewares)
    app.on_response_prepare.append(_harden)
    app.add_routes(routes)
    return app


leaving: dict[Any, Callable[[], object]] = {}
"""What to call when a connection is lost whose request is being answered, if something is."""


@contextmanager
def when_client_leaves(request: web.Request, callback: Callable[[], object]) -> Iterator[None]:
    """Call `callback` if the client's connection is lost in the block, at once if it is lost already.

    aiohttp does not end the handler of a request whose client is gone, and a handler that waits would not notice.
    """
    connection = request.protocol
    leaving[connection] = callback
    try:
        if request.transport is None or request.transport.is_closing():
            callback()
        yield
    finally:
        del leaving[connection]


def times_of(app: Mapping[Any, Any]) -> RequestTimes:
    """How long clients of this application may take."""
    times: RequestTimes = app.get(REQUEST_TIMES, DEFAULT_TIMES)
    return times


async def read_body(request: web.Request, model: type[M]) -> M:
    """The request's JSON body as `model`. Raises BeaconfireError: too large, too slow, no JSON, wrong field."""
    body = await read_bytes(request)
    try:
        return model.model_validate_json(body, by_name=False, by_alias=True)
    except ValidationError as error:
        raise BeaconfireError(errors.BAD_REQUEST, describe(error)) from None


async def read_bytes(request: web.Request, *, limit: int = MAX_BODY_BYTES) -> bytes:
    """The request's body, of at most `limit` bytes; asked for again, the same. Raises BeaconfireError: too large, too
    slow, cut off.

    Read it before you decide what its sender may do: it may arrive seconds after the head.
    """
    if _BODY not in request:
        request[_BODY] = await _receive(request, limit)
    return request[_BODY]


async def _receive(request: web.Request, limit: int) -> bytes:
    now, times = time.monotonic(), times_of(request.config_dict)
    left_s = times.request_s - (now - began.get(request.protocol, now))
    try:
        async with asyncio.timeout(min(times.body_s, left_s)):
            return await request.clone(client_max_size=limit).read()
    except TimeoutError:
        raise BeaconfireError(
            errors.TIMEOUT,
            f"a body has to arrive within {times.body_s:.0f} s, and a request within {times.request_s:.0f} s",
        ) from None
    except web.HTTPRequestEntityTooLarge:
        raise BeaconfireError(errors.TOO_LARGE, f"a body has at most {limit} bytes") from None
    except (web.RequestPayloadError, ConnectionError):  # broken chunks, a wrong Content-Encoding, or cut off
        raise BeaconfireError(errors.BAD_REQUEST, "the body cannot be read: it is cut off or wrongly encoded") from None


def whole(value: Any) -> Any:
    """A whole number for one that is written with a fraction of zero; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole)
"""For whole numbers in strict models: takes `5.0` for `5`, which are the same in JSON and to JSON Schema."""


LINE = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"
"""A line of text that is not only white space, for JSON Schema and pydantic (whose engine takes linear time)."""


def describe(error: ValidationError) -> str:
    """Return a sentence about the first wrong field that a caller can act on."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(step)[:80] for step in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid" and ("hex escape" in message or "surrogate" in message):
        at = message.partition(" at ")[2]
        message = f"Invalid JSON: half of a surrogate pair, or a broken \\u escape, is not text, at {at}"
    return f"{where}: {message}" if where else message


def json_answer(body: BaseModel | dict[str, Any], *, status: int = 200) -> web.Response:
    """Return an answer in camelCase JSON."""
    if isinstance(body, BaseModel):
        return web.Response(text=body.model_dump_json(by_alias=True), status=status, content_type="application/json")
    return web.json_response(body, status=status)


def error_answer(error: BeaconfireError) -> web.Response:
    """Return the answer for an error. A handler raises the error instead, as long as aiohttp answers its request."""
    headers = dict(error.headers)
    if error.retry_after_ms is not None:
        headers[hdrs.RETRY_AFTER] = str(max(1, math.ceil(error.retry_after_ms / 1000)))
    return web.json_response({"error": error.body()}, status=error.code.status, headers=headers)


def bearer_token(request: web.Request) -> str:
    """Return the text after `Authorization: Bearer` (RFC 6750 §2.1), or an empty text.

    Only the spaces before it are removed. Several headers are joined, and such a text is never a valid token.
    """
    scheme, _, token = ", ".join(request.headers.getall(hdrs.AUTHORIZATION, [])).partition(" ")
    return token.lstrip(" ") if scheme.lower() == "bearer" else ""


def correlation_id(request: web.Request) -> str:
    """The id this request's events and log lines carry."""
    return request[_CORRELATION]


VERSION = metadata.version("beaconfire-kit")
"""The version of this service's code. All distributions of a release have the same."""
_SHOWN_VERSION: web.AppKey[str] = web.AppKey("version", str)
"""Only the operations port shows it, and the name: the public ports do not say what runs there."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods without effects (RFC 9110 §9.2.1). Every request with another method is logged."""
_ALLOWED_ORIGINS: web.AppKey[frozenset[str]] = web.AppKey("allowed_origins", frozenset)
_LOGS_ACCESS: web.AppKey[bool] = web.AppKey("logs_access", bool)
_DEFAULT_RULE = CrossOrigin()
_BODY: web.RequestKey[bytes] = web.RequestKey("body", bytes)
_CORRELATION: web.RequestKey[str] = web.RequestKey("correlation_id", str)


def _add_health(app: web.Application) -> None:
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)


async def _harden(_request: web.Request, response: web.StreamResponse) -> None:
    harden(response)


def cross_origin_headers(request: web.Request) -> dict[str, str]:
    """The headers of an answer that let the page read it. None for a page of an origin that is not allowed.

    Every answer of aiohttp's has them. Call this for an answer that is written without aiohttp.
    """
    app = request.config_dict
    origin = request.headers.get(hdrs.ORIGIN, "")
    if origin not in app[_ALLOWED_ORIGINS]:
        return {}
    rules = app.get(CROSS_ORIGIN, {})
    parts = (prefix for prefix in rules if f"{request.path}/".startswith(f"{prefix}/"))
    rule = rules.get(next(parts, ""), _DEFAULT_RULE)
    headers: dict[str, str] = {
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: origin,
        hdrs.VARY: hdrs.ORIGIN,
        hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: rule.readable,
    }
    if rule.with_cookies:
        headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
    if _is_preflight(request):
        headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = rule.methods
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = rule.sendable
        headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(_PREFLIGHT_AGE_S)
    return headers


async def _share(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(cross_origin_headers(request))


def harden(response: web.StreamResponse) -> None:
    """Set the headers that every answer has for browsers and caches, and remove the name of our software (T18).

    Caches store no answer unless the handler allows it. Most answers contain tokens or data that only members may read.
    """
    response.headers.pop(hdrs.SERVER, None)
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"


async def _healthz(_request: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})


async def _readyz(request: web.Request) -> web.Response:
    why_not = request.config_dict[READY]()
    warnings = request.config_dict.get(WARNINGS, list)()
    shown = request.config_dict.get(_SHOWN_VERSION)
    what = {"service": request.config_dict.get(SERVICE, ""), "version": shown} if shown else {}
    body = {"status": why_not or "ready", **what, **({"warnings": warnings} if warnings else {})}
    return web.json_response(body, status=503 if why_not else 200)


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})


@web.middleware
async def _watch(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Note for `serving.Deadlines` which connections wait for our answer, so that they are not closed as idle."""
    connection = request.protocol
    busy.add(connection)
    try:
        return await handler(request)
    finally:
        busy.discard(connection)
        began.pop(connection, None)
        served.add(connection)


@web.middleware
async def _measure(request: web.Request, handler: Handler) -> web.StreamResponse:
    started, status = time.perf_counter(), 500
    try:
        response = await handler(request)
        status = response.status
        return response
    except asyncio.CancelledError:
        status = 101 if request.get(HANDED_OVER) else 499  # 499: nginx's word for "the client left"
        raise
    finally:
        # Other methods and paths are a caller's to choose, and each would be a time series of its own.
        method, route = request.method if request.method in METHODS else "other", route_of(request) or "other"
        took_s = time.perf_counter() - started
        REQUESTS.labels(method, route, status).observe(took_s)
        if request.config_dict[_LOGS_ACCESS]:
            _log_access(request, method, route, status, took_s)


def _log_access(request: web.Request, method: str, route: str, status: int, took_s: float) -> None:
    """Log a request without anything that its sender chose: the path and the query may contain ids and tokens."""
    log.info(
        "served a request",
        method=method,
        route=route,
        status=status,
        duration_ms=round(took_s * 1000, 1),
        correlation_id=request.get(_CORRELATION),
    )


def route_of(request: web.Request) -> str | None:
    """Return the path as its route declares it: `/v1/campaigns/{campaign_id}`. None for an unknown path."""
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical


@web.middleware
async def _end_refused_upgrades(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Close the connection of a client that asked for a WebSocket and did not get one.

    A proxy that took our answer for an acceptance would pass on what follows, and we would serve it as a request. Any
    other offer to upgrade is ignored (RFC 9110 §7.8).
    """
    response = await handler(request)
    offers = ",".join(request.headers.getall(hdrs.UPGRADE, []))
    if "websocket" in offers.lower() and not response.prepared:
        response.force_close()
    return response


@web.middleware
async def _refuse_ambiguous(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a target that names another host than `Host`, and close the connection after it.

    A proxy in front of us may read such a request differently. That is how requests are smuggled past a proxy.
    """
    if request.raw_path.startswith("/"):
        return await handler(request)
    why = "the request's target is not a path"
    answer = web.json_response({"error": {"code": errors.BAD_REQUEST.code, "message": why}}, status=400)
    answer.force_close()
    return answer


@web.middleware
async def _refuse_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what would change something if a page sends it. An operator's browser may reach what its page may not."""
    if request.method not in _SAFE and hdrs.ORIGIN in request.headers:
        raise BeaconfireError(errors.FORBIDDEN, "a page may change nothing here: ask without an Origin header")
    return await handler(request)


@web.middleware
async def _answer_preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a browser that asks what a page may do. `_share` adds the answer for pages of allowed origins."""
    return web.Response(status=204) if _is_preflight(request) else await handler(request)


def _is_preflight(request: web.Request) -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


@web.middleware
async def _correlate(request: web.Request, handler: Handler) -> web.StreamResponse:
    given = request.headers.get(CORRELATION_HEADER, "")
    visible = 0 < len(given) <= 128 and all("!" <= character <= "~" for character in given)
    chosen = given if visible else uuid.uuid4().hex
    request[_CORRELATION] = chosen
    with structlog.contextvars.bound_contextvars(correlation_id=chosen):
        response = await handler(request)
        if request.method not in _SAFE and not (request.get(ROUTINE) and response.status < 400):
            log.info("answered a request", method=request.method[:20], path=request.path[:200], status=response.status)
    if not response.prepared:
        response.headers[CORRELATION_HEADER] = chosen
    return response


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except BeaconfireError as error:
        return error_answer(error)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.method[:20]} is not possible here, only {allowed}"
        body = {"error": {"code": _slug(error.reason), "message": message}}
        return web.json_response(body, status=error.status, headers={hdrs.ALLOW: allowed})
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return web.json_response({"error": {"code": _slug(error.reason), "message": error.reason}}, status=error.status)
    except Exception:
        log.exception("request failed", method=request.method, path=request.path)
        return web.json_response({"error": errors.internal(request[_CORRELATION]).body()}, status=500)


def _slug(reason: str) -> str:
    return reason.lower().replace(" ", "_").replace("-", "_")
