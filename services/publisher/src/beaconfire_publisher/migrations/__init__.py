"""The revisions of the publisher's tables; `make migration SERVICE=publisher TITLE="…"` writes the next one."""

from pathlib import Path

from beaconfire_kit.migrations import Migrations
from beaconfire_publisher.store import TABLES

MIGRATIONS = Migrations(
    "publisher",
    TABLES,
    Path(__file__).parent,
    before_revisions=frozenset({"campaigns", "entities", "outbox", "settlements", "structures"}),
)
