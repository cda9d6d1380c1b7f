"""Write what is derived from the catalogue and the tables; `--check` fails if a file is not what would be written.

python -m scripts.generate [--check]
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from beaconfire.broker_config import container_config
from beaconfire.derived.markdown import markdown
from beaconfire.derived.reference import all_types
from beaconfire.derived.typescript import typescript
from beaconfire_auth import openapi as auth_openapi
from beaconfire_kit.catalogue import builtin
from beaconfire_kit.catalogue.asyncapi import asyncapi
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_publisher import openapi as publisher_openapi
from scripts.derived import conformance, error_table, resync_table
from scripts.derived.dashboard import dashboard
from scripts.derived.marked import fill
from scripts.derived.message_typings import message_typings
from scripts.derived.metrics_page import metrics_page
from scripts.derived.schema import schemas
from scripts.derived.settings_page import settings_page

ROOT = Path(__file__).parent.parent
OURS = Catalogue.of(0, builtin.fragments())
TYPES = all_types(OURS)
EVENTS_HEAD = """\
# Events

The [glossary](../../PROTOCOL.md#1-words) explains words such as room, event, session, gateway, broker, stream, offset,
cursor, outbox, catalogue and operations port.

Written by `make generate` from `shared/src/beaconfire_kit/events/`. Do not edit.

The catalogue declares all events of a deployment. These are the events that come with Beaconfire: those of the demo's
applications, and those of auth. `beaconfire catalogue docs` writes such a page for any catalogue.

Every event is one JSON message, `{"id", "type", "version", "payload", "metadata"}`
([PROTOCOL.md](../../PROTOCOL.md#8-publishing)). It is published on its subject, and goes to exactly the rooms that the
subject names.

A field marked *optional* may be missing. An *id* matches `[A-Za-z0-9_-]{1,64}`. A *time* is ISO 8601 with a UTC offset.

The same information is available as JSON Schema (`schemas/events.json`), as AsyncAPI 3.0 (`asyncapi.json`) and as
TypeScript types (`clients/js/src/events.d.ts`).

"""
TYPINGS_HEAD = """\
// Written by `make generate` from shared/src/beaconfire_kit/events. Do not edit.

"""


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
    "docs/reference/events.md": lambda: markdown(OURS, head=EVENTS_HEAD),
    "docs/reference/schemas/events.json": lambda: schemas(TYPES),
    "docs/reference/asyncapi.json": lambda: _json(asyncapi(TYPES, version="1")),
    "docs/reference/openapi.json": lambda: _json(publisher_openapi.document()),
    "docs/reference/openapi-auth.json": lambda: _json(auth_openapi.document()),
    "docs/reference/settings.md": settings_page,
    "docs/reference/metrics.md": metrics_page,
    "deploy/grafana/beaconfire.json": dashboard,
    "clients/js/src/errors.js": error_table.script,
    "clients/python/src/beaconfire_client/core/error_table.py": error_table.module,
    "clients/js/src/verdicts.js": error_table.verdicts,
    "clients/js/src/events.d.ts": lambda: typescript(TYPES, head=TYPINGS_HEAD),
    "clients/js/src/messages.d.ts": lambda: message_typings(_page("PROTOCOL.md")),
    "tests/conformance/fixtures/closes.json": conformance.closes,
    "tests/conformance/fixtures/errors.json": conformance.errors,
    "tests/conformance/fixtures/backoff.json": conformance.backoff,
    "tests/conformance/fixtures/messages.json": lambda: conformance.messages(_page("PROTOCOL.md")),
    "deploy/nats/single.conf": container_config,
    "deploy/nats/cluster.conf": partial(container_config, cluster=True),
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
