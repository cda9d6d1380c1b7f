"""HTTP as every service answers it: errors of the one table, CORS, correlation ids, bodies in time, health.

No stack trace reaches a client: what we did wrong is logged, the client gets an id to quote. `shared.serving` runs the
applications that are made here.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from pydantic import BaseModel, ValidationError

from shared import errors, logs, metrics
from shared.errors import BeaconfireError
from shared.metrics import Histogram
from shared.settings import Settings

log = logs.get(__name__)

REQUESTS = Histogram("http_request_seconds", "HTTP requests by method and status", ["method", "status"])

MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0
CORRELATION_HEADER = "X-Correlation-Id"
CURSOR_HEADER = "X-Beaconfire-Cursor"
OFFSET_HEADER = "X-Beaconfire-Offset"
PENDING_HEADER = "X-Beaconfire-Pending"
_READABLE = f"{CORRELATION_HEADER}, ETag, Retry-After, {CURSOR_HEADER}, {OFFSET_HEADER}, {PENDING_HEADER}"
_SENDABLE = f"Authorization, Content-Type, If-Match, Idempotency-Key, {CORRELATION_HEADER}"
HANDED_OVER: web.RequestKey[bool] = web.RequestKey("handed_over", bool)
"""Request key set by a handler that took the connection over (an upgrade)."""

M = TypeVar("M", bound=BaseModel)

READY: web.AppKey[Callable[[], str | None]] = web.AppKey("ready", Callable[[], str | None])  # type: ignore[arg-type]
"""Why the service is not ready, or None where it is."""

FINISH_S: web.AppKey[float] = web.AppKey("finish_s", float)
"""Seconds that requests under way have when the service stops; `serving.FINISH_DEFAULT_S` where it is not set."""

FOR_OPERATORS: web.AppKey[Iterable[web.AbstractRouteDef]] = web.AppKey("for_operators", Iterable)
"""Routes that a service offers on its operations port only."""

busy: set[Any] = set()
"""Connections that have a request being answered."""

served: set[Any] = set()
"""Those that had one answered since `serving.Deadlines` looked last: between two of them they are not idle for long."""


def application(settings: Settings, *, ready: Callable[[], str | None]) -> web.Application:
    """An application with our middlewares and health endpoints."""
    app = web.Application(
        middlewares=[_measure, _refuse_ambiguous, _cors(settings.allowed_origins), _correlate, _answer_errors],
        client_max_size=MAX_BODY_BYTES,
    )
    app.on_response_prepare.append(_take_off_banner)
    app[READY] = ready
    _add_health(app)
    return app


def operations(app: web.Application) -> web.Application:
    """The application of the operations port: health, metrics, and what `app` offers operators."""
    ops = worker_application(ready=app[READY])
    ops.add_routes(app.get(FOR_OPERATORS, ()))
    return ops


def worker_application(*, ready: Callable[[], str | None]) -> web.Application:
    """The application of a service that has an operations port only: health and metrics."""
    app = operators_application()
    app[READY] = ready
    _add_health(app)
    app.router.add_get("/metrics", _metrics)
    return app


def operators_application(routes: Iterable[web.AbstractRouteDef] = ()) -> web.Application:
    """An application that answers operators with these routes."""
    app = web.Application(middlewares=[_correlate, _answer_errors])
    app.on_response_prepare.append(_take_off_banner)
    app.add_routes(routes)
    return app


async def read_body(request: web.Request, model: type[M]) -> M:
    """The request's JSON body as `model`. Raises BeaconfireError: too large, too slow, no JSON, wrong field."""
    body = await read_bytes(request)
    try:
        return model.model_validate_json(body, by_name=False, by_alias=True)
    except ValidationError as error:
        raise BeaconfireError(errors.BAD_REQUEST, describe(error)) from None


async def read_bytes(request: web.Request, *, limit: int = MAX_BODY_BYTES) -> bytes:
    """The request's body, of at most `limit` bytes. Raises BeaconfireError: too large, too slow, cut off."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.clone(client_max_size=limit).read()
    except TimeoutError:
        raise BeaconfireError(errors.TIMEOUT, f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise BeaconfireError(errors.TOO_LARGE, f"a body has at most {limit} bytes") from None
    except (web.RequestPayloadError, ConnectionError):  # broken chunks, not what Content-Encoding says, or cut off
        raise BeaconfireError(errors.BAD_REQUEST, "the body cannot be read: it is cut off or wrongly encoded") from None


def describe(error: ValidationError) -> str:
    """What is wrong with the first wrong field, in a sentence a caller can act on."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(step)[:80] for step in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def json_answer(body: BaseModel | dict[str, Any], *, status: int = 200) -> web.Response:
    """An answer in camelCase JSON."""
    if isinstance(body, BaseModel):
        return web.Response(text=body.model_dump_json(by_alias=True), status=status, content_type="application/json")
    return web.json_response(body, status=status)


def correlation_id(request: web.Request) -> str:
    """The id this request's events and log lines carry."""
    return request[_CORRELATION]


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CORRELATION: web.RequestKey[str] = web.RequestKey("correlation_id", str)


def _add_health(app: web.Application) -> None:
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)


async def _take_off_banner(_request: web.Request, response: web.StreamResponse) -> None:
    """Which software of which version answers is nobody's business (T18)."""
    response.headers.pop(hdrs.SERVER, None)


async def _healthz(_request: web.Request) -> web.Response:
    return web.json_response({"status": "alive"})


async def _readyz(request: web.Request) -> web.Response:
    why_not = request.config_dict[READY]()
    return web.json_response({"status": why_not or "ready"}, status=503 if why_not else 200)


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})


@web.middleware
async def _measure(request: web.Request, handler: Handler) -> web.StreamResponse:
    connection = request.protocol
    busy.add(connection)
    started, status = time.perf_counter(), 500
    try:
        response = await handler(request)
        status = response.status
        return response
    except asyncio.CancelledError:
        status = 101 if request.get(HANDED_OVER) else 499  # 499: nginx's word for "the client left"
        raise
    finally:
        busy.discard(connection)
        served.add(connection)
        # The other words that HTTP knows are a caller's to choose, and each would be a time series of its own.
        method = request.method if request.method in _METHODS else "other"
        REQUESTS.labels(method, status).observe(time.perf_counter() - started)


@web.middleware
async def _refuse_ambiguous(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a proxy in front of us may read otherwise than we do, and let nothing behind it count as a request.

    That is how requests are smuggled past a proxy: an upgrade with a body, in HTTP/1.0 or to two protocols, and a
    target that names another host than `Host`.
    """
    upgrades = request.headers.getall("Upgrade", [])
    has_body = "Content-Length" in request.headers or "Transfer-Encoding" in request.headers
    why = None
    if not request.raw_path.startswith("/"):
        why = "the request's target is not a path"
    elif upgrades and (len(upgrades) > 1 or has_body or request.version < (1, 1)):
        why = "an upgrade is a request in HTTP/1.1, without a body, to one protocol"
    if why is None:
        return await handler(request)
    answer = web.json_response({"error": {"code": errors.BAD_REQUEST.code, "message": why}}, status=400)
    answer.force_close()
    return answer


def _cors(allowed: tuple[str, ...]) -> Middleware:
    @web.middleware
    async def cors(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        response = web.Response(status=204) if preflight else await handler(request)
        if origin in allowed and not response.prepared:
            response.headers["Access-Control-Allow-Origin"] = origin or ""
            response.headers["Vary"] = "Origin"
            response.headers["Access-Control-Expose-Headers"] = _READABLE
            if preflight:
                response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE"
                response.headers["Access-Control-Allow-Headers"] = _SENDABLE
                response.headers["Access-Control-Max-Age"] = "600"
        return response

    return cors


@web.middleware
async def _correlate(request: web.Request, handler: Handler) -> web.StreamResponse:
    given = request.headers.get(CORRELATION_HEADER, "")
    visible = 0 < len(given) <= 128 and all("!" <= character <= "~" for character in given)
    chosen = given if visible else uuid.uuid4().hex
    request[_CORRELATION] = chosen
    with structlog.contextvars.bound_contextvars(correlation_id=chosen):
        response = await handler(request)
    if not response.prepared:
        response.headers[CORRELATION_HEADER] = chosen
    return response


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except BeaconfireError as error:
        headers = {}
        if error.retry_after_ms is not None:
            headers["Retry-After"] = str(max(1, round(error.retry_after_ms / 1000)))
        return web.json_response({"error": error.body()}, status=error.code.status, headers=headers)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return web.json_response({"error": {"code": _slug(error.reason), "message": error.reason}}, status=error.status)
    except Exception:
        log.exception("request failed", method=request.method, path=request.path)
        message = f"something went wrong on our side; quote {request[_CORRELATION]}"
        body = {"error": {"code": errors.INTERNAL.code, "message": message}}
        return web.json_response(body, status=500)


def _slug(reason: str) -> str:
    return reason.lower().replace(" ", "_").replace("-", "_")
