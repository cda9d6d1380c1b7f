"""The tables, and transactions that commit rows together with the events of their changes."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Dialect,
    Executable,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeDecorator

from beaconfire_kit import errors, inbox, logs, outbox_table
from beaconfire_kit.database import Database, DatabaseAway, UtcDateTime
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.event import Event
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.web import CURSOR_HEADER, OFFSET_HEADER, PENDING_HEADER
from beaconfire_publisher import idempotency, limits
from beaconfire_publisher.changes import changed_since, conflicts, merge, stamp
from beaconfire_publisher.fields import Clock
from beaconfire_publisher.idempotency import Earlier, Key, another_request
from beaconfire_publisher.limits import PublishingLimits

log = logs.get(__name__)

Row = Mapping[str, Any]

TABLES = MetaData()


class ClockColumn(TypeDecorator[Clock]):
    """A clock as JSON, or NULL."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Clock | None, dialect: Dialect) -> dict[str, int] | None:
        return None if value is None else value.model_dump()

    def process_result_value(self, value: dict[str, int] | None, dialect: Dialect) -> Clock | None:
        return None if value is None else Clock.model_validate(value)


OUTBOX = outbox_table.table(TABLES)
INBOX = inbox.table(TABLES)
KEYS = idempotency.table(TABLES)
USAGE = limits.table(TABLES)


def _table(name: str, *columns: Column[Any]) -> Table:
    """Return a table of things. Each has an id, a name, and a count of its changes."""
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
    """Return the column of the thing that a row belongs to, and is deleted with."""
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
"""When each running clock is due next, and the user that set it. The clock itself is a field of its campaign."""
KINGDOMS = _table("kingdoms", _inside("campaign_id", CAMPAIGNS), Column("description", Text, nullable=False))
SETTLEMENTS = _table(
    "settlements",
    _inside("campaign_id", CAMPAIGNS),
    Column("kingdom_id", String(64), index=True),
    Column("kind", String(64), nullable=False),
    Column("level", Integer, nullable=False),
    Column("population", Integer, nullable=False),
    Column("description", Text, nullable=False),
    Column("variables", JSON, nullable=False),
    Column("variable_schemas", JSON, nullable=False, server_default="{}"),
)
"""`kingdom_id` is no foreign key: taking a settlement out of its kingdom is a change, with a revision and an event."""
STRUCTURES = _table(
    "structures",
    _inside("campaign_id", CAMPAIGNS),
    _inside("settlement_id", SETTLEMENTS),
    Column("kind", String(64), key="type", nullable=False),
    Column("level", Integer, nullable=False),
    Column("variables", JSON, nullable=False),
    Column("variable_schemas", JSON, nullable=False, server_default="{}"),
)
"""A structure's type is in a column with its name of before, which processes of that release use during an upgrade."""
ENTITIES = _table(
    "entities",
    _inside("campaign_id", CAMPAIGNS),
    Column("type", String(64), nullable=False),
    Column("data", JSON, nullable=False),
)


_INSERT: dict[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}

CURSOR_WAIT_S = 0.25
"""How long an answer waits for the cursor of its event."""
FORGET_EVERY_S = 600.0


class Changed(Exception):
    """The same field was changed after the revision on which a change is based. `row` is the current row."""

    def __init__(self, row: Row, fields: tuple[str, ...]) -> None:
        super().__init__(f"changed since: {', '.join(fields)}")
        self.row = row
        self.fields = fields


def new_id() -> str:
    """Return an id that cannot be guessed, for subject, URL and row."""
    return secrets.token_hex(8)


class Reading:
    """Read a consistent view of the rows."""

    _locks = False

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.headers: dict[str, str] = {}

    async def find(self, table: Table, key: Row) -> Row:
        """Return the row with these values. Raises BeaconfireError `not_found`."""
        query = select(table).filter_by(**key)
        row = (await self._connection.execute(query.with_for_update() if self._locks else query)).first()
        if row is None:
            raise BeaconfireError(errors.NOT_FOUND, f"no such {_singular(table)}")
        return _as_row(table, row)

    async def find_all(self, table: Table, key: Row) -> list[Row]:
        """Return the rows with these values, oldest first."""
        query = select(table).filter_by(**key).order_by(table.c.created_at, table.c.id)
        rows = await self._connection.execute(query.with_for_update() if self._locks else query)
        return [_as_row(table, row) for row in rows]

    async def find_ids(self, table: Table, ids: list[str]) -> list[Row]:
        """Return the rows with these ids, if they exist, oldest first."""
        query = select(table).where(table.c.id.in_(ids)).order_by(table.c.created_at, table.c.id)
        return [_as_row(table, row) for row in await self._connection.execute(query)]

    async def count(self, table: Table, key: Row) -> int:
        """Count the rows with these values."""
        return await self._connection.scalar(select(func.count()).select_from(table).filter_by(**key)) or 0


class Writing(Reading):
    """A transaction. No other transaction can change a row that it has found."""

    _locks = True

    def __init__(self, connection: AsyncConnection, metadata: Metadata) -> None:
        super().__init__(connection)
        self._metadata = metadata
        self.envelopes: list[Envelope] = []

    def publish(self, event: Event) -> None:
        """Publish an event when the transaction is committed."""
        self.envelopes.append(Envelope(event, self._metadata))

    async def add(self, table: Table, parents: Row, wanted: Row) -> tuple[Row, tuple[str, ...]]:
        """Insert a thing below `parents`. Return the row and its `changedFields`."""
        now = datetime.now(UTC)
        values, fields = merge({}, wanted)
        counts = {"revision": 1, "field_revisions": {}, "created_at": now, "updated_at": now}
        row = {"id": new_id(), **parents, **values, **counts}
        await self._connection.execute(insert(table).values(row))
        return row, fields

    async def change(
        self, table: Table, row: Row, wanted: Row, *, based_on: int | None = None
    ) -> tuple[Row, tuple[str, ...]]:
        """Change a row that was found. Return the new row and its `changedFields`.

        Without a changed field no row is written.

        Raises Changed if one of these fields was changed after the revision `based_on`.
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

        Raises Changed if it was changed after the revision `based_on`.
        """
        if based_on not in (None, row["revision"]):
            raise Changed(row, changed_since(row["field_revisions"], based_on or 0))
        await self._connection.execute(delete(table).where(table.c.id == row["id"]))

    async def claim(self, key: Key, outcome: Row, *, is_done: bool = True) -> Earlier | None:
        """Record the outcome of this request under its key.

        If it is a repeat, return the first outcome, and the caller must not change anything.

        Of two requests at once, the second waits for the end of the first. Raises BeaconfireError `conflict` if
        the key was used for another request.
        """
        if (before := await self._created_before(key)) is not None:
            return before
        earlier = (await self.claim_all({key.name: key}, outcome, is_done=is_done)).get(key.name)
        if earlier is not None and earlier.fingerprint != key.fingerprint:
            raise another_request()
        return earlier

    async def claim_all(self, keys: Mapping[str, Key], outcome: Row, *, is_done: bool = True) -> dict[str, Earlier]:
        """Claim several keys at once. Return those that were used before, for any request."""
        now = datetime.now(UTC)
        common = {"outcome": outcome, "is_done": is_done, "created_at": now}
        # In order, so that two requests with some of the same keys wait for one another, and do not deadlock.
        rows = [{"key": name, "fingerprint": keys[name].fingerprint, **common} for name in sorted(keys)]
        add = _claim_keys(self._connection.dialect.name)
        taken = set((await self._connection.execute(add, rows)).scalars()) if rows else set()
        return await self.used(keys.keys() - taken)

    async def used(self, names: Iterable[str]) -> dict[str, Earlier]:
        """Return the outcomes of requests under these keys, by name. Unused keys are left out."""
        if not (wanted := list(names)):
            return {}
        found = await self._connection.execute(select(KEYS).where(KEYS.c.key.in_(wanted)))
        return {row.key: Earlier(row.outcome, row.is_done, row.fingerprint) for row in found}

    async def settle(self, keys: Mapping[str, Row]) -> None:
        """Record the outcomes of requests that claimed their keys in this transaction, by the key's name."""
        if keys:
            one = update(KEYS).where(KEYS.c.key == bindparam("name")).values(outcome=bindparam("is"))
            await self._connection.execute(one, [{"name": name, "is": outcome} for name, outcome in keys.items()])

    async def complete(self, key: Key) -> bool:
        """Record that this transaction completes a request that was claimed as not done.

        Return False if another transaction completed it: then the caller must not change anything. Waits for one that
        is completing it now.
        """
        is_open = (KEYS.c.key == key.name) & KEYS.c.is_done.is_(False)
        return (await self._connection.execute(update(KEYS).where(is_open).values(is_done=True))).rowcount == 1

    async def published_before(self, event_ids: Iterable[str]) -> dict[str, Row]:
        """Return outbox rows by event id. Releases before the table of keys stored an event's own id there.

        Such a row does not contain the caller that chose the id, so compare its body.
        """
        if not (wanted := list(event_ids)):
            return {}
        found = await self._connection.execute(select(OUTBOX).where(OUTBOX.c.event_id.in_(wanted)))
        return {row["event_id"]: dict(row) for row in found.mappings()}

    async def _created_before(self, key: Key) -> Earlier | None:
        """Return what a release before the table of keys made under this key, or None.

        Both the thing and its event had an id derived from the key. Its request is not known, so any request counts as
        a repeat.
        """
        row = (await self.published_before([key.before])).get(key.before)
        if row is None:
            return None
        said = json.loads(row["body"])
        is_callers = (said["metadata"].get("source"), said["metadata"].get("userId")) == ("api", self._metadata.user_id)
        is_creation = said["payload"].get("operation") == "create"
        return Earlier({"id": key.before}, True, key.fingerprint) if is_callers and is_creation else None

    async def put(self, table: Table, key: Row, values: Row) -> None:
        """Set the values under a key, in a table that is not a table of things."""
        await self.remove(table, key)
        await self._connection.execute(insert(table).values({**key, **values}))

    async def remove(self, table: Table, key: Row) -> None:
        """Delete the row under a key, if there is one."""
        await self._connection.execute(delete(table).filter_by(**key))


class Store:
    """Open transactions on the publisher's database."""

    def __init__(
        self,
        database: Database,
        events: Outbox,
        limits: PublishingLimits | None = None,
        *,
        cursor_wait_s: float = CURSOR_WAIT_S,
    ) -> None:
        """`limits` limit what users publish. Without them events are not counted."""
        self._database = database
        self._outbox = events
        self._limits = limits
        self._cursor_wait_s = cursor_wait_s

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reading]:
        """Open a read-only view. Its `headers` contain the cursor of what it shows."""
        # Before anything is read: every change with an event up to this cursor is committed by now.
        cursor = await self._outbox.position.wait(self._cursor_wait_s)
        async with self._database.reading() as connection:
            tx = Reading(connection)
            tx.headers = {CURSOR_HEADER: str(cursor)} if cursor else {}
            yield tx

    @asynccontextmanager
    async def writing(self, metadata: Metadata) -> AsyncIterator[Writing]:
        """Open a transaction: at the end of the block, all rows and events are committed, or none.

        `metadata` is that of its events; they count for its user and for their roots. Transactions that find the same
        row come one after the other. Raises BeaconfireError `too_many` over a limit, and `unavailable` if two of them
        made the same thing at once. Then all changes are undone.
        """
        try:
            async with self._database.writing() as connection:
                tx = Writing(connection, metadata)
                yield tx
                sizes = await self._outbox.add(connection, tx.envelopes)
                await self._count(connection, metadata.user_id, tx.envelopes, sizes)
        except IntegrityError:
            raise BeaconfireError(
                errors.UNAVAILABLE, "another request did the same at the same time: try again", retry_after_ms=100
            ) from None
        if tx.envelopes:
            self._outbox.wake()

    async def check_allowance(self, user_id: str) -> None:
        """Raise BeaconfireError `too_many` if this user may not publish now. Call it before any side effect."""
        if self._limits is None:
            return
        mine = select(USAGE).where(USAGE.c.scope == f"user:{user_id}")
        async with self._database.reading() as connection:
            row = (await connection.execute(mine)).one_or_none()
        if row is not None:
            self._limits.user.check(row, None, time.time())

    async def _count(
        self, tx: AsyncConnection, user_id: str | None, envelopes: Iterable[Envelope], sizes: Iterable[int]
    ) -> None:
        """Count events for their user and their roots. Raises BeaconfireError `too_many`; such events do not count."""
        if self._limits is None or not sizes:
            return
        now = time.time()
        added: dict[str, Row] = {}
        for scope, (count, size) in limits.totals(user_id, envelopes, sizes).items():
            added[scope] = self._limits.of_scope(scope).row(scope, count, size, now)
        # In order, so that two transactions with some of the same rows wait for one another, and do not deadlock.
        rows = await tx.execute(_count_usage(tx.dialect.name), [added[scope] for scope in sorted(added)])
        for row in rows.all():
            self._limits.of_scope(row.scope).check(row, added[row.scope], now)

    async def keep_forgetting(self) -> None:
        """Call `forget` every `FORGET_EVERY_S` seconds, forever."""
        while True:
            try:
                await self.forget()
            except (DatabaseAway, SQLAlchemyError) as error:
                log.warning("could not forget old idempotency keys", error=type(error).__name__)
            await asyncio.sleep(FORGET_EVERY_S)

    async def forget(self) -> None:
        """Delete old idempotency keys and old counts of what was published."""
        await self._forget(KEYS, KEYS.c.created_at < datetime.now(UTC) - idempotency.KEEP)
        now = time.time()
        is_empty = (USAGE.c.events < now) & (USAGE.c.bytes < now) & (USAGE.c.share < now)
        await self._forget(USAGE, is_empty & (USAGE.c.at < now - limits.REMEMBERED_S))

    async def _forget(self, table: Table, old: ColumnElement[bool]) -> None:
        async with self._database.reading() as connection:
            found = await connection.scalar(select(func.count()).select_from(table).where(old))
        if found:
            async with self._database.writing() as tx:
                await tx.execute(delete(table).where(old))

    def cursor_of(self, message_id: str) -> str | None:
        """Return an event's cursor if this process knows it already."""
        cursor = self._outbox.known_cursor(message_id)
        return str(cursor) if cursor else None

    async def cursor_headers(self, tx: Writing) -> dict[str, str]:
        """Return headers with the cursor of a committed transaction's events. Without events there are no headers.

        They say `pending` if the cursor is not known after `cursor_wait_s` seconds.
        """
        if not tx.envelopes:
            return {}
        message_ids = [envelope.message_id for envelope in tx.envelopes]
        cursor = await self._outbox.cursor_after(message_ids, self._cursor_wait_s)
        return {OFFSET_HEADER: str(cursor)} if cursor else {PENDING_HEADER: tx.envelopes[-1].id}


def _check(row: Row, fields: tuple[str, ...]) -> None:
    if fields:
        raise Changed(row, fields)


def _as_row(table: Table, values: Iterable[Any]) -> Row:
    return dict(zip(table.c.keys(), values, strict=True))


def _singular(table: Table) -> str:
    return "entity" if table is ENTITIES else table.name.removesuffix("s")


# Statements that are built once: building one takes as long as the rest of its transaction.


@cache
def _claim_keys(dialect: str) -> Executable:
    """Return a statement that inserts missing keys and returns them."""
    return _INSERT[dialect](KEYS).on_conflict_do_nothing().returning(KEYS.c.key)


@cache
def _count_usage(dialect: str) -> Executable:
    """Return a statement that adds the given rows (`limits.Stored.row`) to `stream_usage`, and returns the sums."""
    add = _INSERT[dialect](USAGE)
    now = add.excluded.at
    sums = {
        name: case((USAGE.c[name] > now, USAGE.c[name]), else_=now) + (add.excluded[name] - now)
        for name in ("events", "bytes", "share")
    }
    return add.on_conflict_do_update(index_elements=["scope"], set_={**sums, "at": now}).returning(USAGE)
