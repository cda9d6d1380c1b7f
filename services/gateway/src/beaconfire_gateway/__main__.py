"""Run a gateway: `python -m beaconfire_gateway`, settings from `BEACONFIRE_…` (docs/reference/settings.md)."""

if __name__ == "__main__":
    from beaconfire_kit import stopping

    stopping.exit_on_signal()  # before the other imports, which take a second

import argparse
import asyncio
import os
import secrets
import signal
import sys
from functools import partial

import structlog
import uvloop

from beaconfire_gateway.process import gc_tuning
from beaconfire_gateway.process.app import build
from beaconfire_gateway.process.settings import Settings
from beaconfire_gateway.process.supervisor import (
    END_ONE_WORKER,
    END_OPERATIONS,
    OPERATIONS,
    Board,
    CannotStart,
    Supervisor,
    listen_at,
    reserve,
)
from beaconfire_gateway.process.worker_operations import Combined, socket_of
from beaconfire_gateway.process.worker_sessions import WorkerPipes
from beaconfire_kit import logs, tracing
from beaconfire_kit.serving import serve, serve_operations, serve_together
from beaconfire_kit.settings import read_settings
from beaconfire_kit.trace_settings import TraceSettings

log = logs.get(__name__)


def main() -> None:
    """Start, and stay until SIGTERM or SIGINT."""
    settings, traces = read_settings(Settings, **_chosen()), tracing.read_settings()
    logs.configure("gateway", level=settings.log_level, format=settings.log_format)
    settings.warn_of_readable_files()
    if settings.workers > 1:
        raise SystemExit(_run_workers(settings, traces))
    with tracing.running("gateway", traces):
        app = build(settings, on_fatal=lambda: os._exit(1))
        gc_tuning.start()
        uvloop.run(serve(app, settings, name="gateway", reuse_port=settings.reuse_port))


def _chosen() -> dict[str, str]:
    """Return the settings that the command line gives, by name."""
    parser = argparse.ArgumentParser(prog="python -m beaconfire_gateway", description="Run a gateway.")
    parser.add_argument("--workers", metavar="N", help="processes that share the port; before BEACONFIRE_WORKERS")
    return {name: value for name, value in vars(parser.parse_args()).items() if value is not None}


def _run_workers(settings: Settings, traces: TraceSettings | None) -> int:
    """Be the parent of several. Returns the exit code."""
    if sys.platform != "linux":
        log.error("several workers need Linux: start several gateways with BEACONFIRE_REUSE_PORT=true instead")
        return 1
    try:
        at = reserve(settings.host, settings.port, shared=settings.reuse_port)
        ops = listen_at(settings.ops_host, settings.ops_port)
    except CannotStart as error:
        log.error("cannot start", reason=str(error))
        return 1
    port, ops_port = at[0].getsockname()[1], ops[0].getsockname()[1]
    board, group = Board(settings.workers), secrets.token_hex(8)
    pipes = WorkerPipes(settings.workers)

    def work(number: int) -> None:
        structlog.contextvars.bind_contextvars(worker=number)
        with tracing.running("gateway", traces):
            app = build(settings, on_fatal=lambda: os._exit(1), worker=pipes.worker(number))
            gc_tuning.start()
            ask_at, listens = socket_of(group, number), partial(board.listens, number)
            uvloop.run(
                serve_together(app, host=settings.host, port=port, ops=ask_at, listens=listens, end_one=END_ONE_WORKER)
            )

    def operate() -> None:
        # Not uvloop, because it only knows UNIX sockets that are files.
        app = Combined(board, group).application()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # see END_OPERATIONS
        asyncio.run(serve_operations(app, ops, until=END_OPERATIONS, listens=partial(board.listens, OPERATIONS)))

    log.info("starting workers", count=settings.workers, host=settings.host, port=port, ops_port=ops_port)
    return Supervisor(board, work, operate, settings.stop_timeout_s).run()


if __name__ == "__main__":
    main()
