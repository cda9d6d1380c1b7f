"""The revisions of auth's tables; `make migration SERVICE=auth TITLE="…"` writes the next one."""

from pathlib import Path

from services.auth.store import TABLES
from shared.migrations import Migrations

MIGRATIONS = Migrations(
    "auth",
    TABLES,
    Path(__file__).parent,
    before_revisions=frozenset({"counters", "members", "outbox", "parents", "refresh_tokens", "users"}),
)
