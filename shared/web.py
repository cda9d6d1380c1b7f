"""HTTP as every service does it: errors of the one table, CORS, correlation ids, deadlines, health, serving.

aiohttp has no deadline for request headers and none for a silent connection: `Deadlines` closes
both. No stack trace reaches a client: what we did wrong is logged, the client gets an id to quote.
"""

import asyncio
import json
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_protocol import RequestHandler
from pydantic import BaseModel, ValidationError

from shared import errors, logs, metrics
from shared.errors import BeaconfireError
from shared.metrics import Histogram
from shared.settings import Settings

log = logs.get(__name__)

REQUESTS = Histogram("http_request_seconds", "HTTP requests by method and status", ["method", "status"])

MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0
BACKLOG = 4_096
"""Connections that may wait to be accepted. The kernel drops what comes beyond, and tries again after 1, 3 and 7 s: the
last ones of a storm would wait for no reason."""
IDLE_S = 10.0
"""A connection that has sent no complete request head for this long is closed (seconds)."""
FINISH_DEFAULT_S = 5.0
MIN_FINISH_S = 0.5  # to aiohttp, 0 means for ever
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
"""Seconds that requests under way have when the service stops; `FINISH_DEFAULT_S` where it is not set."""


FOR_OPERATORS: web.AppKey[Iterable[web.AbstractRouteDef]] = web.AppKey("for_operators", Iterable)
"""Routes that a service offers on its operations port only."""


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


async def serve(app: web.Application, settings: Settings, *, name: str, reuse_port: bool = False) -> None:
    """Run a service until SIGTERM or SIGINT: public port and operations port. Logs where it listens."""
    async with listening(app, settings, name=name, reuse_port=reuse_port):
        await _stop_signal()
        log.info("stopping")


async def serve_worker(app: web.Application, settings: Settings, *, name: str) -> None:
    """Run a service that has an operations port only until SIGTERM or SIGINT. Logs where it listens."""
    async with worker_listening(app, settings, name=name):
        await _stop_signal()
        log.info("stopping")


async def serve_together(app: web.Application, *, host: str, port: int, ops: str, listens: Callable[[], None]) -> None:
    """Run one of several processes that share a port, until SIGTERM. Logs where it listens.

    It listens once it is ready for the first time, and calls `listens`: until then the kernel sends clients to the
    others. Operators reach it at `ops`, a UNIX socket, from the start.
    """
    stop = _stop_event(signal.SIGTERM)  # and stays so: a group of processes may be told as a whole, and by the parent
    ops_runner, runner = _ops_runner(operations(app)), _public_runner(app)
    try:
        await runner.setup()
        await ops_runner.setup()
        await web.UnixSite(ops_runner, ops).start()
        async with Deadlines(runner), asyncio.TaskGroup() as tasks:
            site = web.TCPSite(runner, host, port, reuse_port=True, backlog=BACKLOG)
            listening = tasks.create_task(_listen_once_ready(site, app[READY], listens), name="listen")
            await stop.wait()
            log.info("stopping")
            listening.cancel()
    finally:
        await runner.cleanup()
        await ops_runner.cleanup()


async def _listen_once_ready(site: web.TCPSite, ready: Callable[[], str | None], listens: Callable[[], None]) -> None:
    while ready() is not None:  # noqa: ASYNC110  (once, at the start)
        await asyncio.sleep(0.02)
    await site.start()
    log.info("listening", at=site.name)
    listens()


async def serve_operations(
    app: web.Application, at: Iterable[socket.socket], *, until: signal.Signals, listens: Callable[[], None]
) -> None:
    """Answer operators with `app` on listening sockets, `until` this signal. Calls `listens` once it does."""
    stop = _stop_event(until)
    runner = _ops_runner(app)
    try:
        await runner.setup()
        for one in at:
            await web.SockSite(runner, one).start()
        listens()
        await stop.wait()
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a started application listens."""

    url: str
    ops_url: str


@asynccontextmanager
async def listening(
    app: web.Application, settings: Settings, *, name: str, reuse_port: bool = False
) -> AsyncIterator["Listening"]:
    """Start the application and its two listeners; stop them at the end of the block.

    The operations port opens last: who is told there that the service is ready finds the public port open.
    """
    ops_runner, runner = _ops_runner(operations(app)), _public_runner(app)
    try:
        await runner.setup()
        await web.TCPSite(runner, settings.host, settings.port, reuse_port=reuse_port or None, backlog=BACKLOG).start()
        await ops_runner.setup()
        await web.TCPSite(ops_runner, settings.ops_host, settings.ops_port).start()
        port, ops_port = runner.addresses[0][1], ops_runner.addresses[0][1]
        log.info("listening", name=name, host=settings.host, port=port, ops_port=ops_port)
        async with Deadlines(runner):
            yield Listening(f"http://{settings.host}:{port}", f"http://{settings.ops_host}:{ops_port}")
    finally:
        await runner.cleanup()
        await ops_runner.cleanup()


@asynccontextmanager
async def worker_listening(app: web.Application, settings: Settings, *, name: str) -> AsyncIterator[str]:
    """Start a `worker_application` and its listener, stop both at the end of the block. Yields its URL."""
    runner = _ops_runner(app)
    try:
        await runner.setup()
        await web.TCPSite(runner, settings.ops_host, settings.ops_port).start()
        port = runner.addresses[0][1]
        log.info("listening", name=name, host=settings.ops_host, ops_port=port)
        yield f"http://{settings.ops_host}:{port}"
    finally:
        await runner.cleanup()


class _Connection(RequestHandler):
    """aiohttp's, but for what it answers by itself, to what is no HTTP: in our words, and without a banner."""

    __slots__ = ()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Let the request under way finish, for `timeout` seconds: who does not take the answer by then is cut off."""
        loop, transport = asyncio.get_running_loop(), self.transport
        cut = None if transport is None or timeout is None else loop.call_later(timeout, transport.abort)
        await super().shutdown(timeout)
        if cut is not None:
            cut.cancel()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status < 500:
            log.info("malformed request", status=status, error=type(exc).__name__)
            code, text = errors.BAD_REQUEST, "this is no HTTP request that can be served"
        else:
            log.error("request failed outside of its handler", exc_info=exc)
            code, text = errors.INTERNAL, "something went wrong on our side"
        answer = _Bare(
            text=json.dumps({"error": {"code": code.code, "message": text}}),
            status=status,
            content_type="application/json",
        )
        answer.force_close()
        return answer


class _Bare(web.Response):
    """An answer that no application prepares."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.pop(hdrs.SERVER, None)


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server  # aiohttp has no place for a connection of one's own
        return server


def _public_runner(app: web.Application) -> web.AppRunner:
    finish_s = max(MIN_FINISH_S, app.get(FINISH_S, FINISH_DEFAULT_S))
    return _Runner(app, access_log=None, handle_signals=False, keepalive_timeout=60, shutdown_timeout=finish_s)


def _ops_runner(app: web.Application) -> web.AppRunner:
    return _Runner(app, access_log=None, handle_signals=False, shutdown_timeout=MIN_FINISH_S)


class Deadlines:
    """Closes connections that have sent no complete request head for `IDLE_S` seconds (slowloris, silent sockets)."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner
        self._idle_since: dict[Any, float] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Deadlines":
        self._task = asyncio.create_task(self._sweep(), name="deadlines")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            server = self._runner.server
            idle = [one for one in server.connections if one not in _busy] if server else []
            self._idle_since = {one: now if one in _served else self._idle_since.get(one, now) for one in idle}
            _served.difference_update(idle, [one for one in _served if one.transport is None])
            for connection, since in self._idle_since.items():
                if now - since > IDLE_S and connection.transport:
                    connection.transport.abort()


_busy: set[Any] = set()
_served: set[Any] = set()
"""Connections that had a request answered since the last sweep: between two of them they are not idle for long."""
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
    _busy.add(connection)
    started, status = time.perf_counter(), 500
    try:
        response = await handler(request)
        status = response.status
        return response
    except asyncio.CancelledError:
        status = 101 if request.get(HANDED_OVER) else 499  # 499: nginx's word for "the client left"
        raise
    finally:
        _busy.discard(connection)
        _served.add(connection)
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


async def _stop_signal() -> None:
    """Wait for the first. A second one ends the process at once: who asks twice does not want to wait."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    await _stop_event(*numbers).wait()
    for number in numbers:
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)


def _stop_event(*signals: signal.Signals) -> asyncio.Event:
    """Set when one of the signals comes."""
    stop = asyncio.Event()
    for number in signals:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
