"""The inbox: it records which causes a consumer has handled, in the transaction of their effects.

The broker delivers at least once, and again after every crash, lost acknowledgement or lost consumer. A cause that is
recorded together with its effects has them exactly once, whenever it comes again.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Column, MetaData, String, Table, delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_kit.database import UtcDateTime

KEEP = timedelta(days=8)  # longer than the stream keeps events: a deleted event cannot be delivered again

_INSERT: dict[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


def table(metadata: MetaData) -> Table:
    """Return the inbox table for a service's schema."""
    return Table(
        "inbox",
        metadata,
        Column("consumer", String(64), primary_key=True),
        Column("cause", String(64), primary_key=True),
        Column("handled_at", UtcDateTime, nullable=False, index=True),
    )


def digest(*parts: str) -> str:
    """Return a name of 64 characters for these parts. It is the same on every machine and at any time."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Inbox:
    """The causes that one consumer has handled."""

    def __init__(self, rows: Table, consumer: str) -> None:
        self._rows = rows
        self._consumer = consumer

    async def take(self, tx: AsyncConnection, cause: str) -> bool:
        """Record a cause (see `digest`) as handled, in the caller's transaction. False where it was before: then it
        has had its effects.

        Of two transactions that take the same cause at once, one takes it and the other waits for its end.
        """
        row = {"consumer": self._consumer, "cause": cause, "handled_at": datetime.now(UTC)}
        taken = await tx.execute(_INSERT[tx.dialect.name](self._rows).values(row).on_conflict_do_nothing())
        return taken.rowcount == 1

    async def forget(self, tx: AsyncConnection) -> None:
        """Delete causes that the stream can no longer deliver, in the caller's transaction."""
        old = self._rows.c.handled_at < datetime.now(UTC) - KEEP
        await tx.execute(delete(self._rows).where(self._rows.c.consumer == self._consumer, old))
