"""Hold the lease of the relay: of several processes on one database, only one relays the outbox.

It is one row. It is renewed whenever rows are marked, so it costs no query while no event is sent. Another process
takes it over when rows wait and it was not renewed for `LEASE_S` seconds (ADR 0014).
"""

import os
import socket
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Column, Integer, MetaData, Row, String, Table, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_kit.database import Database, UtcDateTime

LEASE_S = 2.0
LEASE_DEAD = timedelta(minutes=1)
"""A lease this old is taken over at once, however much the clocks of two hosts differ."""
LEASE = "outbox_lease"


def table(metadata: MetaData) -> Table:
    """The table of the lease, in a service's own schema."""
    return Table(
        LEASE,
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("holder", String(64), nullable=False),
        Column("renewed_at", UtcDateTime, nullable=False),
    )


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds the lease, as its host and process id. Empty if a process gave the lease back."""

    name: str
    renewed_s: float
    """Seconds since it last sent events. While none waits, it renews nothing."""


async def holder(connection: AsyncConnection, metadata: MetaData) -> Holder | None:
    """Return who holds the lease in a service's database, for operators. None if no process ever did."""
    row = (await connection.execute(select(metadata.tables[LEASE]))).first()
    if row is None:
        return None
    name = row.holder.rpartition(":")[0] or row.holder  # its last part is random
    return Holder(name, (datetime.now(UTC) - row.renewed_at).total_seconds())


class LeaseLost(Exception):
    """Another process relays this database now."""


class Lease:
    """This process's view of the lease."""

    def __init__(self, database: Database, rows: Table) -> None:
        self._database = database
        self._rows = rows
        self._me = f"{socket.gethostname()[:32]}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._seen: tuple[str, datetime] | None = None
        self._seen_at = 0.0
        self._sure_until = (0.0, 0.0)
        self.is_held = False

    async def take(self) -> bool:
        """Take the lease if it is free, ours, or was not renewed for `LEASE_S` seconds by our clock."""
        if self.is_held and self.is_sure():
            return True
        async with self._database.reading() as connection:
            row = (await connection.execute(select(self._rows))).first()
        if row is not None and row.holder == self._me:
            self.is_held = True
        elif row is None or self._is_stale(row.holder, row.renewed_at):
            self.is_held = await self._seize(row)
        else:
            self.is_held = False
        if self.is_held:
            self._note_sure()
        return self.is_held

    def is_sure(self) -> bool:
        """Whether no other process can have taken it since we last took or renewed it, because we did not pause."""
        monotonic, wall = self._sure_until
        return time.monotonic() < monotonic and time.time() < wall

    async def renew(self, tx: AsyncConnection) -> None:
        """Renew it in the caller's transaction. Raises LeaseLost, which must roll the transaction back."""
        mine = update(self._rows).where(self._rows.c.holder == self._me)
        if (await tx.execute(mine.values(renewed_at=datetime.now(UTC)))).rowcount == 0:
            self.is_held = False
            raise LeaseLost
        self._note_sure()

    async def release(self) -> None:
        """Give it back if it is ours."""
        if self.is_held:
            self.is_held = False
            async with self._database.writing() as tx:
                mine = update(self._rows).where(self._rows.c.holder == self._me)
                await tx.execute(mine.values(holder="", renewed_at=datetime.now(UTC)))

    def _note_sure(self) -> None:
        # Two clocks: one stands still while a machine sleeps, the other may be set.
        self._sure_until = time.monotonic() + LEASE_S / 2, time.time() + LEASE_S / 2

    def _is_stale(self, holder: str, renewed_at: datetime) -> bool:
        now = time.monotonic()
        if self._seen != (holder, renewed_at):
            self._seen, self._seen_at = (holder, renewed_at), now
        return not holder or now - self._seen_at > LEASE_S or datetime.now(UTC) - renewed_at > LEASE_DEAD

    async def _seize(self, row: Row[Any] | None) -> bool:
        mine = {"holder": self._me, "renewed_at": datetime.now(UTC)}
        try:
            async with self._database.writing() as tx:
                if row is None:
                    await tx.execute(insert(self._rows).values(id=1, **mine))
                    return True
                unchanged = (self._rows.c.holder == row.holder) & (self._rows.c.renewed_at == row.renewed_at)
                return (await tx.execute(update(self._rows).where(unchanged).values(**mine))).rowcount == 1
        except IntegrityError:  # two processes inserted the first row at once
            return False
