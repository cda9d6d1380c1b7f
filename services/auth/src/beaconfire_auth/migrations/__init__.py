"""The revisions of auth's tables; `make migration SERVICE=auth TITLE="…"` writes the next one."""

from pathlib import Path

from beaconfire_auth.store import TABLES
from beaconfire_kit.migrations import Migrations

MIGRATIONS = Migrations(
    "auth",
    TABLES,
    Path(__file__).parent,
    before_revisions=frozenset({"counters", "members", "outbox", "parents", "refresh_tokens", "users"}),
)
