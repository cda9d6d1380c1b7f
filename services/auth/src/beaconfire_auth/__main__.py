"""Run auth: `python -m beaconfire_auth`, with settings from `BEACONFIRE_…` (docs/reference/settings.md)."""

if __name__ == "__main__":
    from beaconfire_kit import stopping

    stopping.exit_on_signal()  # before the other imports, which take a second

import sys

from beaconfire_auth.app import build
from beaconfire_auth.seal import KeysUnusable
from beaconfire_auth.settings import Settings
from beaconfire_kit.service import run


def main() -> None:
    """Run until SIGTERM or SIGINT. Exit code 2 also if the keys in the database cannot be used with these settings."""
    try:
        run("auth", Settings, build)
    except KeysUnusable as error:
        print(f"auth cannot start: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
