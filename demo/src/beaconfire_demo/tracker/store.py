"""The tables of the tracker.

Each transaction finds its workspace first, and so locks it (`locked`). Changes of one workspace come one after the
other, so numbers of issues have no gap, and the progress of a project is always that of its issues.
"""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Integer, MetaData, String, Table, Text

from beaconfire_kit import idempotency, outbox_table
from beaconfire_kit.database import UtcDateTime
from beaconfire_kit.store import Reading, Row, inside, things

TABLES = MetaData()
OUTBOX = outbox_table.table(TABLES)
KEYS = idempotency.table(TABLES)

WORKSPACES = things(
    TABLES,
    "workspaces",
    Column("name", String(200), nullable=False),
    Column("description", Text, nullable=False),
)
TEAMS = things(
    TABLES,
    "teams",
    inside("workspace_id", WORKSPACES),
    Column("name", String(200), nullable=False),
    Column("key", String(8), nullable=False),
    Column("last_number", Integer, nullable=False),
)
"""`last_number` is that of the team's newest issue. Numbers of deleted issues are not used again."""


def _plans(name: str, *columns: Column[str]) -> Table:
    """Return the table of projects, or of cycles: what issues are planned for."""
    return things(
        TABLES,
        name,
        inside("workspace_id", WORKSPACES),
        Column("name", String(200), nullable=False),
        Column("description", Text, nullable=False),
        *columns,
        Column("progress", JSON, nullable=False),
    )


PROJECTS = _plans("projects", Column("status", String(16), nullable=False), Column("target_on", String(10)))
CYCLES = _plans(
    "cycles",
    Column("starts_on", String(10), nullable=False),
    Column("ends_on", String(10), nullable=False),
)
ISSUES = things(
    TABLES,
    "issues",
    inside("workspace_id", WORKSPACES),
    inside("team_id", TEAMS),
    Column("identifier", String(24), nullable=False),
    Column("title", String(200), nullable=False),
    Column("description", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("priority", String(16), nullable=False),
    Column("assignee_id", String(64)),
    Column("project_id", String(64), index=True),
    Column("cycle_id", String(64), index=True),
    Column("archived", Boolean, nullable=False),
    Column("creator_id", String(64), nullable=False),
    Column("comment_count", Integer, nullable=False),
)
"""`project_id` and `cycle_id` are no foreign keys: taking an issue out of a project is a change, with an event."""
COMMENTS = things(
    TABLES,
    "comments",
    inside("workspace_id", WORKSPACES),
    inside("team_id", TEAMS),
    inside("issue_id", ISSUES),
    Column("author_id", String(64), nullable=False),
    Column("body", Text, nullable=False),
)
ACTIVITY = Table(
    "activity",
    TABLES,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    inside("workspace_id", WORKSPACES),
    Column("team_id", String(64)),
    Column("issue_id", String(64), index=True),
    Column("actor_id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("action", String(16), nullable=False),
    Column("about", JSON, nullable=False),
    Column("changes", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""The activity feed. Its entries outlive the issues that they are about."""


async def locked(tx: Reading, path: Row) -> Row:
    """Return the workspace of a path, locked if `tx` writes. Raises `not_found`."""
    return await tx.find(WORKSPACES, {"id": path["workspace_id"]})
