"""Run a gateway: `python -m services.gateway`, settings from `BEACONFIRE_…` (docs/reference/settings.md)."""

import os

import uvloop

from services.gateway.app import build
from services.gateway.settings import Settings
from shared import logs
from shared.settings import read_settings
from shared.web import serve


def main() -> None:
    """Start, and stay until SIGTERM or SIGINT."""
    settings = read_settings(Settings)
    logs.configure("gateway", level=settings.log_level, format=settings.log_format)
    app = build(settings, on_fatal=lambda: os._exit(1))
    uvloop.run(serve(app, settings, name="gateway", reuse_port=settings.reuse_port))


if __name__ == "__main__":
    main()
