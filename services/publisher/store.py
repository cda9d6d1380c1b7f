"""The tables, and transactions in which rows and the events that tell of them are committed together."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Dialect,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeDecorator

from services.publisher.changes import merge
from services.publisher.fields import Clock
from shared import errors, inbox, outbox
from shared.catalogue import Event
from shared.database import Database, UtcDateTime
from shared.envelope import Envelope, Metadata
from shared.errors import BeaconfireError
from shared.outbox import Outbox

Row = Mapping[str, Any]

TABLES = MetaData()


class ClockColumn(TypeDecorator[Clock]):
    """A clock as JSON, NULL where there is none."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Clock | None, dialect: Dialect) -> dict[str, int] | None:
        return None if value is None else value.model_dump()

    def process_result_value(self, value: dict[str, int] | None, dialect: Dialect) -> Clock | None:
        return None if value is None else Clock.model_validate(value)


OUTBOX = outbox.table(TABLES)
INBOX = inbox.table(TABLES)


def _table(name: str, *columns: Column[Any]) -> Table:
    """A table of things: each has an id and a name, and counts its changes."""
    return Table(
        name,
        TABLES,
        Column("id", String(64), primary_key=True),
        *columns,
        Column("name", String(200), nullable=False),
        Column("revision", Integer, nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        Column("updated_at", UtcDateTime, nullable=False),
    )


def _inside(column: str, parent: Table) -> Column[Any]:
    """The thing that a row belongs to, and is deleted with."""
    return Column(column, ForeignKey(parent.c.id, ondelete="CASCADE"), nullable=False, index=True)


CAMPAIGNS = _table(
    "campaigns",
    Column("description", Text, nullable=False),
    Column("world_time", UtcDateTime, nullable=False),
    Column("clock", ClockColumn),
)
CLOCKS = Table(
    "clocks",
    TABLES,
    Column("campaign_id", ForeignKey(CAMPAIGNS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("due_at", UtcDateTime, nullable=False, index=True),
    Column("set_by", String(64), nullable=False),
)
"""When each running clock is to be advanced next, and whose it is. The clock itself is a field of its campaign."""
SETTLEMENTS = _table(
    "settlements",
    _inside("campaign_id", CAMPAIGNS),
    Column("kind", String(64), nullable=False),
    Column("level", Integer, nullable=False),
    Column("population", Integer, nullable=False),
    Column("description", Text, nullable=False),
    Column("variables", JSON, nullable=False),
)
STRUCTURES = _table(
    "structures",
    _inside("campaign_id", CAMPAIGNS),
    _inside("settlement_id", SETTLEMENTS),
    Column("kind", String(64), nullable=False),
    Column("level", Integer, nullable=False),
    Column("variables", JSON, nullable=False),
)
ENTITIES = _table(
    "entities",
    _inside("campaign_id", CAMPAIGNS),
    Column("type", String(64), nullable=False),
    Column("data", JSON, nullable=False),
)


def new_id() -> str:
    """An id nobody can guess, for the subject, the URL and the row."""
    return secrets.token_hex(8)


class Reading:
    """A consistent view of the rows."""

    _locks = False

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self, table: Table, key: Row) -> Row:
        """The row with these values. Raises BeaconfireError `not_found`."""
        query = select(table).filter_by(**key)
        row = (await self._connection.execute(query.with_for_update() if self._locks else query)).mappings().first()
        if row is None:
            raise BeaconfireError(errors.NOT_FOUND, f"no such {_singular(table)}")
        return dict(row)

    async def find_all(self, table: Table, key: Row) -> list[Row]:
        """The rows with these values, oldest first."""
        query = select(table).filter_by(**key).order_by(table.c.created_at, table.c.id)
        return [dict(row) for row in (await self._connection.execute(query)).mappings()]

    async def find_ids(self, table: Table, ids: list[str]) -> list[Row]:
        """The rows with these ids, as far as they exist, oldest first."""
        query = select(table).where(table.c.id.in_(ids)).order_by(table.c.created_at, table.c.id)
        return [dict(row) for row in (await self._connection.execute(query)).mappings()]

    async def count(self, table: Table, key: Row) -> int:
        """How many rows have these values."""
        return await self._connection.scalar(select(func.count()).select_from(table).filter_by(**key)) or 0


class Writing(Reading):
    """A transaction. A row that was found stays as it is until the end, for everybody else."""

    _locks = True

    def __init__(self, connection: AsyncConnection, metadata: Metadata) -> None:
        super().__init__(connection)
        self._metadata = metadata
        self.envelopes: list[Envelope] = []

    def tell(self, event: Event) -> None:
        """Publish an event if, and once, the transaction is committed."""
        self.envelopes.append(Envelope(event, self._metadata))

    async def add(self, table: Table, place: Row, wanted: Row) -> tuple[Row, tuple[str, ...]]:
        """Insert a thing. `place` says where it belongs. Returns the row and its `changedFields`."""
        now = datetime.now(UTC)
        values, fields = merge({}, wanted)
        row = {"id": new_id(), **place, **values, "revision": 1, "created_at": now, "updated_at": now}
        await self._connection.execute(insert(table).values(row))
        return row, fields

    async def change(self, table: Table, row: Row, wanted: Row) -> tuple[Row, tuple[str, ...]]:
        """Change a row that was found. Returns it as it is now, and its `changedFields`: none, nothing is written."""
        values, fields = merge(row, wanted)
        if not fields:
            return row, ()
        values |= {"revision": row["revision"] + 1, "updated_at": datetime.now(UTC)}
        await self._connection.execute(update(table).where(table.c.id == row["id"]).values(values))
        return {**row, **values}, fields

    async def delete(self, table: Table, row: Row) -> None:
        """Delete a row that was found, and the rows that belong to it."""
        await self._connection.execute(delete(table).where(table.c.id == row["id"]))

    async def put(self, table: Table, key: Row, values: Row) -> None:
        """Set what is under a key of a table that holds no things."""
        await self.remove(table, key)
        await self._connection.execute(insert(table).values({**key, **values}))

    async def remove(self, table: Table, key: Row) -> None:
        """Take away what is under a key, if anything."""
        await self._connection.execute(delete(table).filter_by(**key))


class Store:
    """Opens transactions on the publisher's database."""

    def __init__(self, database: Database, events: Outbox) -> None:
        self._database = database
        self._outbox = events

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reading]:
        """A view that changes nothing."""
        async with self._database.reading() as connection:
            yield Reading(connection)

    @asynccontextmanager
    async def writing(self, metadata: Metadata) -> AsyncIterator[Writing]:
        """A transaction: rows and events are committed at the end of the block, or none of them.

        `metadata` is that of its events. Transactions that find the same row come one after the other.
        """
        async with self._database.writing() as connection:
            tx = Writing(connection, metadata)
            yield tx
            await self._outbox.add(connection, tx.envelopes)
        if tx.envelopes:
            self._outbox.wake()


def _singular(table: Table) -> str:
    return "entity" if table is ENTITIES else table.name.removesuffix("s")
