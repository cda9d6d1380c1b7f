"""Auth's tables."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, MetaData, String, Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared import outbox
from shared.database import UtcDateTime

TABLES = MetaData()

USERS = Table(
    "users",
    TABLES,
    Column("id", String(64), primary_key=True),
    Column("email", String(254), nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    Column("password_hash", String(500), nullable=False),
    Column("issued_before", BigInteger, nullable=False, default=0),  # Unix seconds: older tokens are refused
    Column("created_at", UtcDateTime, nullable=False),
)

REFRESH_TOKENS = Table(
    "refresh_tokens",
    TABLES,
    Column("hash", String(64), primary_key=True),  # never the token itself
    Column("family", String(64), nullable=False, index=True),
    Column("user_id", ForeignKey("users.id"), nullable=False, index=True),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime),
)

MEMBERS = Table(
    "members",
    TABLES,
    Column("root_kind", String(64), primary_key=True),
    Column("root_id", String(64), primary_key=True),
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("role", String(16), nullable=False),
    Index("members_of_user", "user_id", "root_kind"),
)

PARENTS = Table(
    "parents",
    TABLES,
    Column("kind", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("root_kind", String(64), primary_key=True),
    Column("root_id", String(64), primary_key=True),
)

COUNTERS = Table(
    "counters",
    TABLES,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

OUTBOX = outbox.table(TABLES)

MEMBERSHIP_VERSION = "membership_version"
PROJECTED_OFFSET = "projected_offset"


async def counter(connection: AsyncConnection, name: str) -> int:
    """A counter's value; 0 before its first change."""
    return await connection.scalar(select(COUNTERS.c.value).where(COUNTERS.c.name == name)) or 0


async def set_counter(tx: AsyncConnection, name: str, value: int) -> None:
    """Set a counter, in the caller's transaction."""
    done = await tx.execute(update(COUNTERS).where(COUNTERS.c.name == name).values(value=value))
    if done.rowcount == 0:
        await tx.execute(insert(COUNTERS).values(name=name, value=value))


async def next_membership_version(tx: AsyncConnection) -> int:
    """Count one more change of membership, in the caller's transaction: the order of versions is that of commits.

    The row stays locked until then, on databases whose writers do not wait for one another anyway.
    """
    counted = update(COUNTERS).where(COUNTERS.c.name == MEMBERSHIP_VERSION).values(value=COUNTERS.c.value + 1)
    version = await tx.scalar(counted.returning(COUNTERS.c.value))
    if version is None:
        version = 1
        await tx.execute(insert(COUNTERS).values(name=MEMBERSHIP_VERSION, value=version))
    return int(version)
