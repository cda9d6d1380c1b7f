"""Run the publisher: `python -m services.publisher`, settings from `BEACONFIRE_…` (docs/reference/settings.md)."""

import os
import sys

import uvloop

from services.publisher.app import build
from services.publisher.settings import Settings
from shared import logs
from shared.database import DatabaseUnusable
from shared.settings import read_settings
from shared.web import serve


def main() -> None:
    """Start, and stay until SIGTERM or SIGINT. Exit code 2: the settings, or the database they name, are unusable."""
    settings = read_settings(Settings)
    logs.configure("publisher", level=settings.log_level, format=settings.log_format)
    try:
        app = build(settings, on_fatal=lambda: os._exit(1))
        uvloop.run(serve(app, settings, name="publisher"))
    except DatabaseUnusable as error:
        print(f"BEACONFIRE_DATABASE_URL: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
