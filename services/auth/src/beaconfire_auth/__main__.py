"""Run auth: `python -m beaconfire_auth`, settings from `BEACONFIRE_…` (docs/reference/settings.md)."""

if __name__ == "__main__":
    from beaconfire_kit import stopping

    stopping.end_when_told()  # before the other imports, which take a second

import os
import sys

import uvloop

from beaconfire_auth.app import build
from beaconfire_auth.seal import KeysUnusable
from beaconfire_auth.settings import Settings
from beaconfire_kit import logs
from beaconfire_kit.database import DatabaseUnusable
from beaconfire_kit.serving import serve
from beaconfire_kit.settings import read_settings


def main() -> None:
    """Start, and stay until SIGTERM or SIGINT. Exit code 2: the settings, or what they name, are unusable."""
    settings = read_settings(Settings)
    logs.configure("auth", level=settings.log_level, format=settings.log_format)
    try:
        app = build(settings, on_fatal=lambda: os._exit(1))
        uvloop.run(serve(app, settings, name="auth"))
    except (DatabaseUnusable, KeysUnusable) as error:
        print(f"auth cannot start: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
