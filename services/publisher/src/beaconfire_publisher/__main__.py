"""Run the publisher, or one of its workers, settings from `BEACONFIRE_…` (docs/reference/settings.md):

python -m beaconfire_publisher [rules-engine | scheduler]
"""

if __name__ == "__main__":
    from beaconfire_kit import stopping

    stopping.end_when_told()  # before the other imports, which take a second

import argparse
import os
import sys
from collections.abc import Coroutine
from typing import Any

import uvloop

from beaconfire_kit import logs
from beaconfire_kit.database import DatabaseUnusable
from beaconfire_kit.serving import serve, serve_worker
from beaconfire_kit.settings import read_settings
from beaconfire_publisher import app, worker
from beaconfire_publisher.settings import Settings, WorkerSettings


def main() -> None:
    """Start, and stay until SIGTERM or SIGINT. Exit code 2: the settings, or the database they name, are unusable."""
    parser = argparse.ArgumentParser(
        prog="python -m beaconfire_publisher", description="The publisher or a worker of it."
    )
    parser.add_argument("worker", nargs="?", choices=sorted(worker.JOBS), help="none: the HTTP service and the relay")
    chosen = parser.parse_args().worker
    try:
        uvloop.run(_publisher() if chosen is None else _worker(chosen))
    except DatabaseUnusable as error:
        print(f"BEACONFIRE_DATABASE_URL: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


def _publisher() -> Coroutine[Any, Any, None]:
    settings = read_settings(Settings)
    logs.configure("publisher", level=settings.log_level, format=settings.log_format)
    return serve(app.build(settings, on_fatal=_end), settings, name="publisher")


def _worker(name: str) -> Coroutine[Any, Any, None]:
    settings = read_settings(WorkerSettings)
    logs.configure(name, level=settings.log_level, format=settings.log_format)
    return serve_worker(worker.build(worker.JOBS[name], settings, on_fatal=_end), settings, name=name)


def _end() -> None:
    os._exit(1)


if __name__ == "__main__":
    main()
