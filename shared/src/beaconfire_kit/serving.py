"""Run applications: their listeners, the deadlines of their connections, and an orderly stop.

aiohttp has no deadline for request headers and none for a silent connection: `Deadlines` closes both.
"""

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from beaconfire_kit import errors, logs, stopping
from beaconfire_kit.seams.aiohttp_server import PipeliningConnection, Runner, UnpreparedResponse
from beaconfire_kit.settings import Settings
from beaconfire_kit.web import DRAIN, FINISH_S, READY, began, busy, harden, leaving, operations, served, times_of

log = logs.get(__name__)

BACKLOG = 4_096
"""Connections that may wait to be accepted. The kernel drops the others, and their clients try again after 1, 3 and
7 s. With a small backlog the last clients of a storm would wait for no reason."""
FINISH_DEFAULT_S = 5.0
MIN_FINISH_S = 0.5  # for aiohttp, 0 means forever


async def serve(app: web.Application, settings: Settings, *, name: str, reuse_port: bool = False) -> None:
    """Run a service until SIGTERM or SIGINT: public port and operations port. Logs where it listens."""
    await _until_signalled(listening(app, settings, name=name, reuse_port=reuse_port), *stopping.SIGNALS)


async def serve_worker(app: web.Application, settings: Settings, *, name: str) -> None:
    """Run a service that has an operations port only until SIGTERM or SIGINT. Logs where it listens."""
    await _until_signalled(worker_listening(app, settings, name=name), *stopping.SIGNALS)


async def serve_together(
    app: web.Application, *, host: str, port: int, ops: str, listens: Callable[[], None], end_one: signal.Signals
) -> None:
    """Run one of several processes that share a port, until SIGTERM or `end_one`. Logs where it listens.

    It listens once it is ready for the first time, and calls `listens`. Until then the kernel sends clients to the
    others. SIGTERM means that all processes end, so it still listens while it drains. `end_one` means that the others
    go on, so it stops listening at once. Operators reach it at `ops`, a UNIX socket, from the start.
    """
    others = asyncio.Event()

    def end() -> None:
        others.set()
        signal.raise_signal(signal.SIGTERM)

    asyncio.get_running_loop().add_signal_handler(end_one, end)
    # A second signal is ignored here: a group of processes may be signalled as a whole, and by the parent.
    together = _listening_together(app, host=host, port=port, ops=ops, listens=listens, others_go_on=others.is_set)
    await _until_signalled(together, signal.SIGTERM, ends_at_second=False)


@asynccontextmanager
async def _listening_together(
    app: web.Application,
    *,
    host: str,
    port: int,
    ops: str,
    listens: Callable[[], None],
    others_go_on: Callable[[], bool],
) -> AsyncIterator[None]:
    ops_runner, runner = _ops_runner(operations(app)), _public_runner(app)
    try:
        await runner.setup()
        await ops_runner.setup()
        await web.UnixSite(ops_runner, ops).start()
        async with Deadlines(runner, ops_runner), asyncio.TaskGroup() as tasks:
            site = web.TCPSite(runner, host, port, reuse_port=True, backlog=BACKLOG)
            listening = tasks.create_task(_listen_once_ready(site, app[READY], listens), name="listen")
            yield
            listening.cancel()
            if others_go_on() and site in runner.sites:
                await site.stop()
            await _drain(app)
    finally:
        await runner.cleanup()
        await ops_runner.cleanup()


async def _drain(app: web.Application) -> None:
    if DRAIN in app:
        await app[DRAIN]()


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
        async with Deadlines(runner):
            await stop.wait()
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Listening:
    """The addresses at which a started application listens."""

    url: str
    ops_url: str


@asynccontextmanager
async def listening(
    app: web.Application, settings: Settings, *, name: str, reuse_port: bool = False
) -> AsyncIterator["Listening"]:
    """Start the application and its two listeners; stop them at the end of the block.

    The operations port opens last. So when it reports that the service is ready, the public port is open.
    """
    ops_runner, runner = _ops_runner(operations(app)), _public_runner(app)
    try:
        await runner.setup()
        site = web.TCPSite(runner, settings.host, settings.port, reuse_port=reuse_port or None, backlog=BACKLOG)
        await site.start()
        await ops_runner.setup()
        await web.TCPSite(ops_runner, settings.ops_host, settings.ops_port).start()
        port, ops_port = runner.addresses[0][1], ops_runner.addresses[0][1]
        log.info("listening", name=name, host=settings.host, port=port, ops_port=ops_port)
        async with Deadlines(runner, ops_runner):
            yield Listening(f"http://{settings.host}:{port}", f"http://{settings.ops_host}:{ops_port}")
            if reuse_port:  # others share the port, and get new clients
                await site.stop()
            await _drain(app)
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
        async with Deadlines(runner):
            yield f"http://{settings.ops_host}:{port}"
    finally:
        await runner.cleanup()


class Deadlines:
    """Closes connections that have sent no complete request head for `idle_s` (slowloris, silent sockets)."""

    def __init__(self, *runners: web.AppRunner) -> None:
        self._runners = runners
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
            idle = {
                one: times_of(runner.app).idle_s
                for runner in self._runners
                if runner.server is not None
                for one in runner.server.connections
                if one not in busy
            }
            self._idle_since = {one: now if one in served else self._idle_since.get(one, now) for one in idle}
            served.difference_update(idle, [one for one in served if one.transport is None])
            for connection, since in self._idle_since.items():
                if now - since > idle[connection] and connection.transport:
                    connection.transport.abort()


class _Connection(PipeliningConnection):
    """A connection that notes when a request starts to arrive, and answers invalid HTTP with an error of our table."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        began.setdefault(self, time.monotonic())
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        began.pop(self, None)
        super().connection_lost(exc)
        if (left := leaving.get(self)) is not None:
            left()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Let the request under way finish. Cut off a client that has not taken the answer after `timeout` seconds."""
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
            raise ConnectionError("an answer has already started")
        if status < 500:
            log.info("malformed request", status=status, error=type(exc).__name__)
            code, text = errors.BAD_REQUEST, "this is not a valid HTTP request"
        else:
            log.error("request failed outside of its handler", exc_info=exc)
            code, text = errors.INTERNAL, "something went wrong on our side"
        answer = UnpreparedResponse(
            finish=harden,
            text=json.dumps({"error": {"code": code.code, "message": text}}),
            status=status,
            content_type="application/json",
        )
        answer.force_close()
        return answer


def _public_runner(app: web.Application) -> web.AppRunner:
    finish_s = max(MIN_FINISH_S, app.get(FINISH_S, FINISH_DEFAULT_S))
    return _runner(app, keepalive_timeout=60, shutdown_timeout=finish_s)


def _ops_runner(app: web.Application) -> web.AppRunner:
    return _runner(app, shutdown_timeout=MIN_FINISH_S)


def _runner(app: web.Application, **options: Any) -> web.AppRunner:
    return Runner(
        app,
        connection=_Connection,
        access_log=None,
        handle_signals=False,
        lingering_time=times_of(app).linger_s,
        **options,
    )


async def _until_signalled(
    running: AbstractAsyncContextManager[object], *signals: signal.Signals, ends_at_second: bool = True
) -> None:
    """Start, wait for one of the signals, and stop. A start that is not over by then is cancelled and undone.

    A second signal ends the process at once, if `ends_at_second`: an operator who asks twice does not want to wait.
    """
    stop = _stop_event(*signals)
    has_started = False

    async def run() -> None:
        nonlocal has_started
        async with running:
            has_started = True
            await stop.wait()
            log.info("stopping")

    run_task, told = asyncio.ensure_future(run()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((run_task, told), return_when=asyncio.FIRST_COMPLETED)
        for number in signals if ends_at_second and stop.is_set() else ():
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, lambda number, _frame: stopping.exit_as_unhandled(number))
        if not has_started and not run_task.done():
            log.info("stopping, before everything has started")
            run_task.cancel()
            await asyncio.wait((run_task,))
            if run_task.cancelled():
                return
        await run_task
    finally:
        told.cancel()


def _stop_event(*signals: signal.Signals) -> asyncio.Event:
    """Set when one of the signals comes."""
    stop = asyncio.Event()
    for number in signals:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
