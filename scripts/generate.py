"""Write what is derived from the catalogue and the tables; `--check` fails if a file is not what would be written.

python -m scripts.generate [--check]
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import beaconfire_kit.events  # noqa: F401  (fills the catalogue)
from beaconfire.broker_users import shipped_cluster_config, shipped_config
from beaconfire_auth import openapi as auth_openapi
from beaconfire_publisher import openapi as publisher_openapi
from scripts.derived import error_table, resync_table
from scripts.derived.asyncapi import asyncapi
from scripts.derived.marked import fill
from scripts.derived.message_typings import message_typings
from scripts.derived.reference import reference
from scripts.derived.schema import schemas
from scripts.derived.settings_page import settings_page
from scripts.derived.typings import typings

ROOT = Path(__file__).parent.parent


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _page(name: str) -> str:
    return (ROOT / name).read_text()


def _protocol(page: str) -> str:
    """PROTOCOL.md with its generated tables."""
    page = fill(page, resync_table.MARK, resync_table.for_clients())
    return fill(page, error_table.MARK, error_table.markdown())


def _troubleshooting(page: str) -> str:
    """docs/howto/troubleshoot.md with its generated tables."""
    page = fill(page, resync_table.MARK, resync_table.for_operators())
    return fill(page, resync_table.CAUSES_MARK, resync_table.causes())


FILES: dict[str, Callable[[], str]] = {
    "docs/reference/events.md": reference,
    "docs/reference/schemas/events.json": schemas,
    "docs/reference/asyncapi.json": asyncapi,
    "docs/reference/openapi.json": lambda: _json(publisher_openapi.document()),
    "docs/reference/openapi-auth.json": lambda: _json(auth_openapi.document()),
    "docs/reference/settings.md": settings_page,
    "clients/js/src/errors.js": error_table.script,
    "clients/js/src/events.d.ts": typings,
    "clients/js/src/messages.d.ts": lambda: message_typings(_page("PROTOCOL.md")),
    "deploy/nats/single.conf": shipped_config,
    "deploy/nats/cluster.conf": shipped_cluster_config,
    "PROTOCOL.md": lambda: _protocol(_page("PROTOCOL.md")),
    "docs/howto/troubleshoot.md": lambda: _troubleshooting(_page("docs/howto/troubleshoot.md")),
}


def main() -> int:
    """Write the files, or check them. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only check, and fail if a file is stale")
    old = stale_files(ROOT)
    if not parser.parse_args().check:
        write(ROOT, old)
        return 0
    for name in old:
        print(f"{name} is not what would be generated now. Run: make generate", file=sys.stderr)
    return 1 if old else 0


def stale_files(root: Path) -> dict[str, str]:
    """The files below `root` that are missing or differ, with the text they should have."""
    wanted = {name: text() for name, text in FILES.items()}
    return {
        name: text for name, text in wanted.items() if not (root / name).is_file() or (root / name).read_text() != text
    }


def write(root: Path, files: dict[str, str]) -> None:
    """Write texts to their files below `root`, and print their names."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"wrote {name}")


if __name__ == "__main__":
    sys.exit(main())
