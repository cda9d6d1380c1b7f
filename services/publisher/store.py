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
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeDecorator

from services.publisher.changes import changed_since, conflicts, merge, stamp
from services.publisher.fields import Clock
from shared import errors, inbox, outbox
from shared.catalogue import Event
from shared.database import Database, UtcDateTime
from shared.envelope import Envelope, Metadata
from shared.errors import BeaconfireError
from shared.outbox import Outbox
from shared.web import CURSOR_HEADER, OFFSET_HEADER, PENDING_HEADER

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
        Column("field_revisions", JSON, nullable=False, server_default="{}"),
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


WAIT_S = 0.25
"""How long an answer waits to be able to say where in the stream its event is."""


class Changed(Exception):
    """A change is based on a revision, and somebody has changed the same since. `row` is how it is now."""

    def __init__(self, row: Row, fields: tuple[str, ...]) -> None:
        super().__init__(f"changed since: {', '.join(fields)}")
        self.row = row
        self.fields = fields


async def look(connection: AsyncConnection) -> None:
    """Read anything: that it can be done is what a service wants to know."""
    await connection.execute(select(OUTBOX.c.id).limit(1))


def new_id() -> str:
    """An id nobody can guess, for the subject, the URL and the row."""
    return secrets.token_hex(8)


class Reading:
    """A consistent view of the rows."""

    _locks = False

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.headers: dict[str, str] = {}

    async def find(self, table: Table, key: Row) -> Row:
        """The row with these values. Raises BeaconfireError `not_found`."""
        query = select(table).filter_by(**key)
        row = (await self._connection.execute(query.with_for_update() if self._locks else query)).mappings().first()
        if row is None:
            raise BeaconfireError(errors.NOT_FOUND, f"no such {_singular(table)}")
        return dict(row)

    async def is_there(self, table: Table, key: Row) -> bool:
        """Whether there is a row with these values."""
        query = select(func.count()).select_from(table).filter_by(**key)
        return bool(await self._connection.scalar(query))

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

    def tell(self, event: Event, *, id_: str | None = None) -> None:
        """Publish an event if, and once, the transaction is committed. `id_` is its own; one is made without."""
        self.envelopes.append(Envelope(event, self._metadata, *([id_] if id_ else [])))

    async def add(self, table: Table, place: Row, wanted: Row) -> tuple[Row, tuple[str, ...]]:
        """Insert a thing. `place` says where it belongs. Returns the row and its `changedFields`."""
        now = datetime.now(UTC)
        values, fields = merge({}, wanted)
        counts = {"revision": 1, "field_revisions": {}, "created_at": now, "updated_at": now}
        row = {"id": new_id(), **place, **values, **counts}
        await self._connection.execute(insert(table).values(row))
        return row, fields

    async def change(
        self, table: Table, row: Row, wanted: Row, *, based_on: int | None = None
    ) -> tuple[Row, tuple[str, ...]]:
        """Change a row that was found. Returns it as it is now, and its `changedFields`: none, nothing is written.

        Raises Changed where one of these fields got another value after the revision `based_on`.
        """
        values, fields = merge(row, wanted)
        if based_on is not None:
            _check(row, fields if based_on > row["revision"] else conflicts(row["field_revisions"], fields, based_on))
        if not fields:
            return row, ()
        revision = row["revision"] + 1
        stamps = stamp(row["field_revisions"], fields, revision)
        values |= {"revision": revision, "field_revisions": stamps, "updated_at": datetime.now(UTC)}
        await self._connection.execute(update(table).where(table.c.id == row["id"]).values(values))
        return {**row, **values}, fields

    async def delete(self, table: Table, row: Row, *, based_on: int | None = None) -> None:
        """Delete a row that was found, and the rows that belong to it.

        Raises Changed where it was changed at all after the revision `based_on`.
        """
        if based_on not in (None, row["revision"]):
            raise Changed(row, changed_since(row["field_revisions"], based_on or 0))
        await self._connection.execute(delete(table).where(table.c.id == row["id"]))

    async def told(self, event_id: str) -> Row | None:
        """The outbox row of an event that was told of in the last days."""
        found = await self._connection.execute(select(OUTBOX).filter_by(event_id=event_id))
        row = found.mappings().first()
        return None if row is None else dict(row)

    async def was_told(self, event_id: str) -> bool:
        """Whether an event with this id was told of in the last days."""
        return await self.is_there(OUTBOX, {"event_id": event_id})

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
        """A view that changes nothing. Its `headers` carry the cursor of what is seen."""
        # Before anything is read: every change told of at or below it was committed by then.
        cursor = await self._outbox.position.wait(WAIT_S)
        async with self._database.reading() as connection:
            tx = Reading(connection)
            tx.headers = {CURSOR_HEADER: cursor} if cursor else {}
            yield tx

    @asynccontextmanager
    async def writing(self, metadata: Metadata) -> AsyncIterator[Writing]:
        """A transaction: rows and events are committed at the end of the block, or none of them.

        `metadata` is that of its events. Transactions that find the same row come one after the other. What is raised
        by IntegrityError, two of them made the same thing at once: `unavailable`, and nothing was done.
        """
        try:
            async with self._database.writing() as connection:
                tx = Writing(connection, metadata)
                yield tx
                await self._outbox.add(connection, tx.envelopes)
        except IntegrityError:
            raise BeaconfireError(
                errors.UNAVAILABLE, "somebody else did the same at the same moment: try again", retry_after_ms=100
            ) from None
        if tx.envelopes:
            self._outbox.wake()

    def cursor_of(self, event_id: str) -> str | None:
        """Where an event is in the stream, as far as this process has heard by now."""
        return self._outbox.known_cursor(event_id)

    async def place(self, tx: Writing) -> dict[str, str]:
        """Headers that say where in the stream all events of a committed transaction have been seen; after `WAIT_S`
        seconds, that they will come. None where it had no event."""
        if not tx.envelopes:
            return {}
        event_ids = [envelope.id for envelope in tx.envelopes]
        cursor = await self._outbox.cursor_after(event_ids, WAIT_S)
        return {OFFSET_HEADER: cursor} if cursor else {PENDING_HEADER: event_ids[-1]}


def _check(row: Row, fields: tuple[str, ...]) -> None:
    if fields:
        raise Changed(row, fields)


def _singular(table: Table) -> str:
    return "entity" if table is ENTITIES else table.name.removesuffix("s")
