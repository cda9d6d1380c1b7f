"""The tables of auth."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    false,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_kit import outbox_table
from beaconfire_kit.database import UtcDateTime

TABLES = MetaData()

USERS = Table(
    "users",
    TABLES,
    Column("id", String(64), primary_key=True),
    Column("email", String(254), nullable=False, unique=True),  # as it is shown
    Column("canonical_email", String(254)),  # as it is compared; None if an earlier version created the row
    Column("email_twin", Integer, nullable=False, default=0, server_default="0"),
    Column("name", String(200), nullable=False),
    Column("password_hash", String(500), nullable=False),
    Column("issued_before", BigInteger, nullable=False, default=0),  # Unix seconds: older tokens are refused
    Column("created_at", UtcDateTime, nullable=False),
    # A backend has made the user a member before their first connection, which brings their name and address.
    Column("is_placeholder", Boolean, nullable=False, default=False, server_default=false()),
    # A new account is twin 0. Others were created for the same address before there was a canonical form.
    UniqueConstraint("canonical_email", "email_twin", name="one_account_for_an_address"),
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

SIGNING_KEYS = Table(
    "signing_keys",
    TABLES,
    Column("number", Integer, primary_key=True, autoincrement=False),  # of two rotations at once, one fails on it
    Column("kid", String(64), nullable=False, unique=True),
    Column("sealed", String(500), nullable=False),  # the private key, under BEACONFIRE_KEYS_SECRET
    Column("created_at", UtcDateTime, nullable=False),
    Column("signs_from", UtcDateTime, nullable=False),
    Column("verifies_until", UtcDateTime),
)

SECRETS = Table(
    "secrets",
    TABLES,
    Column("name", String(32), primary_key=True),
    Column("sealed", String(500), nullable=False),  # under BEACONFIRE_KEYS_SECRET
)

SERVICE_TOKENS = Table(
    "service_tokens",
    TABLES,
    Column("id", String(64), primary_key=True),
    Column("service", String(64), nullable=False),
    Column("publish", JSON, nullable=False),
    Column("kid", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
    Column("used_at", UtcDateTime),
)

REVOCATIONS = Table(
    "revocations",
    TABLES,
    # Not a foreign key: a user may be known to an outside issuer or an authorizer alone.
    Column("user_id", String(64), primary_key=True),
    Column("root_kind", String(64), primary_key=True),
    Column("root_id", String(64), primary_key=True),
    Column("issued_before", BigInteger, nullable=False),  # Unix seconds: grants in older tokens do not count
    Column("authorizer_version", BigInteger, nullable=False),  # answers of an authorizer below it do not count
    Column("membership_version", BigInteger, nullable=False),  # at the commit
    Column("revoked_at", UtcDateTime, nullable=False, index=True),
)

ATTEMPTS = Table(
    "attempts",
    TABLES,
    Column("counted", String(64), primary_key=True),  # a hash, so that the table does not reveal what was tried
    Column("full_until", Float, nullable=False, index=True),  # Unix seconds
)

COUNTERS = Table(
    "counters",
    TABLES,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

OUTBOX = outbox_table.table(TABLES)

MEMBERSHIP_VERSION = "membership_version"
PROJECTED_OFFSET = "projected_offset"


async def counter(connection: AsyncConnection, name: str) -> int:
    """Return a counter's value, 0 before its first change."""
    return await connection.scalar(select(COUNTERS.c.value).where(COUNTERS.c.name == name)) or 0


async def set_counter(tx: AsyncConnection, name: str, value: int) -> None:
    """Set a counter, in the caller's transaction."""
    done = await tx.execute(update(COUNTERS).where(COUNTERS.c.name == name).values(value=value))
    if done.rowcount == 0:
        await tx.execute(insert(COUNTERS).values(name=name, value=value))


async def next_membership_version(tx: AsyncConnection, count: int = 1) -> int:
    """Count more changes of membership in the caller's transaction, and return the last one's version.

    Versions have the order of commits: the row stays locked until the commit. SQLite needs no lock, because its writers
    wait for one another.
    """
    counted = update(COUNTERS).where(COUNTERS.c.name == MEMBERSHIP_VERSION).values(value=COUNTERS.c.value + count)
    version = await tx.scalar(counted.returning(COUNTERS.c.value))
    if version is None:
        version = count
        await tx.execute(insert(COUNTERS).values(name=MEMBERSHIP_VERSION, value=version))
    return int(version)
