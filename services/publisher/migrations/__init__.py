"""The revisions of the publisher's tables; `make migration SERVICE=publisher TITLE="…"` writes the next one."""

from pathlib import Path

from services.publisher.store import TABLES
from shared.migrations import Migrations

MIGRATIONS = Migrations(
    "publisher",
    TABLES,
    Path(__file__).parent,
    before_revisions=frozenset({"campaigns", "entities", "outbox", "settlements", "structures"}),
)
