"""The revisions of the workspace's tables; `make migration SERVICE=workspace TITLE="…"` writes the next one."""

from pathlib import Path

from beaconfire_demo.workspace.store import TABLES
from beaconfire_kit.migrations import Migrations

MIGRATIONS = Migrations("workspace", TABLES, Path(__file__).parent, before_revisions=frozenset())
