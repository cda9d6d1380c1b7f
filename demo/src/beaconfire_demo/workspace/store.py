"""The tables of the workspace service."""

from sqlalchemy import Column, Integer, MetaData, String, Text

from beaconfire_kit import idempotency, outbox_table
from beaconfire_kit.database import Database, UtcDateTime
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.store import Store, Writing, inside, things

TABLES = MetaData()
OUTBOX = outbox_table.table(TABLES)
KEYS = idempotency.table(TABLES)

WORKSPACES = things(
    TABLES,
    "workspaces",
    Column("name", String(200), nullable=False),
    Column("description", Text, nullable=False),
    Column("message_count", Integer, nullable=False, server_default="0"),
)
AGENTS = things(
    TABLES,
    "agents",
    inside("workspace_id", WORKSPACES),
    Column("name", String(200), nullable=False),
    Column("status", String(16), nullable=False),
    Column("detail", String(500), nullable=False),
)
APPROVALS = things(
    TABLES,
    "approvals",
    inside("workspace_id", WORKSPACES),
    Column("title", String(200), nullable=False),
    Column("detail", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("agent_id", String(64)),
    Column("requested_by", String(64), nullable=False),
    Column("decided_by", String(64)),
    Column("decided_at", UtcDateTime),
    Column("reason", String(500), nullable=False),
)
"""`agent_id` is no foreign key: an approval outlives the agent that asked for it."""
MESSAGES = things(
    TABLES,
    "messages",
    inside("workspace_id", WORKSPACES),
    Column("chat_id", String(64), nullable=False),
    Column("sender_id", String(64), nullable=False),
    Column("number", Integer, nullable=False, server_default="0", index=True),
    Column("text", Text, nullable=False),
)
NOTIFICATIONS = things(
    TABLES,
    "notifications",
    inside("workspace_id", WORKSPACES),
    Column("user_id", String(64), nullable=False, index=True),
    Column("title", String(200), nullable=False),
    Column("body", String(500), nullable=False),
    Column("link", String(200), nullable=False),
    Column("read_at", UtcDateTime),
)


def open_store(database: Database, outbox: Outbox, *, cursor_wait_s: float) -> Store[Writing]:
    """Return what opens transactions on these tables."""
    return Store(database, outbox, KEYS, Writing, cursor_wait_s=cursor_wait_s)
