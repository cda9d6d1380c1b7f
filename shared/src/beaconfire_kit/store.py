"""Read and write things: rows with an id and a revision, whose changes are committed together with their events.

    TABLES = MetaData()
    OUTBOX = outbox_table.table(TABLES)
    KEYS = idempotency.table(TABLES)
    CAMPAIGNS = things(TABLES, "campaigns")
    QUESTS = things(TABLES, "quests", inside("campaign_id", CAMPAIGNS), Column("text", String(500), nullable=False))

    store = Store(database, outbox, KEYS, Writing)
    async with store.writing(member.metadata) as tx:
        row, fields = await tx.add(QUESTS, {"campaign_id": "c1"}, {"text": "Find the lost bell"})
        tx.publish(QuestUpdated(...))
    headers = await store.cursor_headers(tx)

Use it if things are changed by several users: it finds conflicts field by field, and makes repeats harmless. A service
that needs less writes its rows and the outbox in a transaction of `database`.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Executable,
    ForeignKey,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_kit import errors, idempotency, logs
from beaconfire_kit.changes import changed_since, conflicts, merge, stamp
from beaconfire_kit.database import Database, DatabaseAway, UtcDateTime
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.event import Event
from beaconfire_kit.idempotency import Earlier, Key, another_request
from beaconfire_kit.invalid_event import MAX_EVENT_BYTES, InvalidEvent
from beaconfire_kit.outbox import Added, Outbox
from beaconfire_kit.web import CURSOR_HEADER, OFFSET_HEADER, PENDING_HEADER

log = logs.get(__name__)

Row = Mapping[str, Any]

INSERT: dict[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}
"""The insert of each dialect, which knows `ON CONFLICT`."""

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


def things(tables: MetaData, name: str, *columns: Column[Any], word: str | None = None) -> Table:
    """Return a table of things. Each has an id and a count of its changes.

    `word` names one of them in errors. Without it, that is `name` without its last letter.
    """
    return Table(
        name,
        tables,
        Column("id", String(64), primary_key=True),
        *columns,
        Column("revision", Integer, nullable=False),
        Column("field_revisions", JSON, nullable=False, server_default="{}"),
        Column("created_at", UtcDateTime, nullable=False),
        Column("updated_at", UtcDateTime, nullable=False),
        info={"word": word} if word else {},
    )


def inside(column: str, parent: Table) -> Column[Any]:
    """Return the column of the thing that a row belongs to, and is deleted with."""
    return Column(column, ForeignKey(parent.c.id, ondelete="CASCADE"), nullable=False, index=True)


class Reading:
    """Read a consistent view of the rows."""

    _locks = False

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.headers: dict[str, str] = {}

    async def find(self, table: Table, key: Row) -> Row:
        """Return the row with these values. Raises BeaconfireError `not_found`."""
        query = _select_by(table, tuple(key), locks=self._locks)
        row = (await self._connection.execute(query, key)).first()
        if row is None:
            raise BeaconfireError(errors.NOT_FOUND, f"no such {_word(table)}")
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

    async def count_by(self, table: Table, key: Row, column: str) -> dict[Any, int]:
        """Count the rows with these values, by the value of a column."""
        query = select(table.c[column], func.count()).filter_by(**key).group_by(table.c[column])
        return {row[0]: row[1] for row in await self._connection.execute(query)}

    async def find_last(self, table: Table, key: Row, by: str, *, most: int, below: int | None = None) -> list[Row]:
        """Return at most `most` rows with these values, those with the highest `by` first. All are below `below`."""
        query = select(table).filter_by(**key).order_by(table.c[by].desc()).limit(most)
        if below is not None:  # it may be larger than the column takes
            query = query.where(table.c[by] < literal(below, BigInteger))
        rows = await self._connection.execute(query)
        return [_as_row(table, row) for row in rows]


class Writing(Reading):
    """A transaction. No other transaction can change a row that it has found."""

    _locks = True

    def __init__(self, connection: AsyncConnection, metadata: Metadata, keys: Table) -> None:
        super().__init__(connection)
        self._metadata = metadata
        self._keys = keys
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
        await self._connection.execute(_insert_into(table), row)
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
        await self._connection.execute(_update_by_id(table), {_ID: row["id"], **values})
        return {**row, **values}, fields

    async def note(self, table: Table, row: Row, values: Row) -> Row:
        """Set columns that follow from other rows, such as a count. It is no change: the revision stays."""
        await self._connection.execute(_update_by_id(table), {_ID: row["id"], **values})
        return {**row, **values}

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
        add = _claim_keys(self._connection.dialect.name, self._keys)
        taken = set((await self._connection.execute(add, rows)).scalars()) if rows else set()
        return await self.used(keys.keys() - taken)

    async def used(self, names: Iterable[str]) -> dict[str, Earlier]:
        """Return the outcomes of requests under these keys, by name. Unused keys are left out."""
        if not (wanted := list(names)):
            return {}
        found = await self._connection.execute(select(self._keys).where(self._keys.c.key.in_(wanted)))
        return {row.key: Earlier(row.outcome, row.is_done, row.fingerprint) for row in found}

    async def settle(self, keys: Mapping[str, Row]) -> None:
        """Record the outcomes of requests that claimed their keys in this transaction, by the key's name."""
        if keys:
            one = update(self._keys).where(self._keys.c.key == bindparam("name")).values(outcome=bindparam("is"))
            await self._connection.execute(one, [{"name": name, "is": outcome} for name, outcome in keys.items()])

    async def complete(self, key: Key) -> bool:
        """Record that this transaction completes a request that was claimed as not done.

        Return False if another transaction completed it: then the caller must not change anything. Waits for one that
        is completing it now.
        """
        is_open = (self._keys.c.key == key.name) & self._keys.c.is_done.is_(False)
        return (await self._connection.execute(update(self._keys).where(is_open).values(is_done=True))).rowcount == 1

    async def put(self, table: Table, key: Row, values: Row) -> None:
        """Set the values under a key, in a table that is not a table of things."""
        await self.remove(table, key)
        await self._connection.execute(insert(table).values({**key, **values}))

    async def remove(self, table: Table, key: Row) -> None:
        """Delete the row under a key, if there is one."""
        await self._connection.execute(delete(table).filter_by(**key))


W_co = TypeVar("W_co", bound=Writing, covariant=True)


class Transaction(Protocol[W_co]):
    """Makes what writes in one transaction."""

    def __call__(self, connection: AsyncConnection, metadata: Metadata, keys: Table) -> W_co: ...


class Store(Generic[W_co]):
    """Open transactions on a service's database."""

    def __init__(
        self,
        database: Database,
        events: Outbox,
        keys: Table,
        transaction: Transaction[W_co],
        *,
        cursor_wait_s: float = CURSOR_WAIT_S,
    ) -> None:
        """`keys` is the table of idempotency keys, and `transaction` is `Writing`, or a subclass with more calls."""
        self._database = database
        self._outbox = events
        self._keys = keys
        self._transaction = transaction
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
    async def writing(self, metadata: Metadata) -> AsyncIterator[W_co]:
        """Open a transaction: at the end of the block, all rows and events are committed, or none.

        `metadata` is that of its events; they count for its user and for their roots. Transactions that find the same
        row come one after the other. Raises BeaconfireError `too_many` over a limit, `too_large` if an event has too
        many bytes, and `unavailable` if two of them made the same thing at once. Then all changes are undone.
        """
        try:
            async with self._database.writing() as connection:
                tx = self._transaction(connection, metadata, self._keys)
                yield tx
                added = await self._add(connection, tx.envelopes)
                await self.count(connection, metadata, tx.envelopes, [len(row.body) for row in added])
        except IntegrityError:
            raise BeaconfireError(
                errors.UNAVAILABLE, "another request did the same at the same time: try again", retry_after_ms=100
            ) from None
        if added:
            self._outbox.wake(added)

    async def _add(self, tx: AsyncConnection, envelopes: Sequence[Envelope]) -> Added:
        """Write events. Their texts come from the caller, so a large one is its mistake."""
        try:
            return await self._outbox.add(tx, envelopes)
        except InvalidEvent:
            text = f"too long: the event of this change would have more than {MAX_EVENT_BYTES} bytes. Shorten the texts"
            raise BeaconfireError(errors.TOO_LARGE, text) from None

    async def count(
        self, tx: AsyncConnection, metadata: Metadata, envelopes: Sequence[Envelope], sizes: Sequence[int]
    ) -> None:
        """Called in each transaction, with its events and their bytes. A store with limits raises `too_many`."""

    async def keep_forgetting(self) -> None:
        """Call `forget` every `FORGET_EVERY_S` seconds, forever."""
        while True:
            try:
                await self.forget()
            except (DatabaseAway, SQLAlchemyError) as error:
                log.warning("could not forget old idempotency keys", error=type(error).__name__)
            await asyncio.sleep(FORGET_EVERY_S)

    async def forget(self) -> None:
        """Delete old idempotency keys."""
        await self.forget_rows(self._keys, self._keys.c.created_at < datetime.now(UTC) - idempotency.KEEP)

    async def forget_rows(self, table: Table, old: ColumnElement[bool]) -> None:
        """Delete rows, without a lock on the database if there are none."""
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


def _word(table: Table) -> str:
    return str(table.info.get("word", table.name.removesuffix("s")))


# Statements are built once, because building one takes as long as its execution.

_ID = "row_id"


@cache
def _select_by(table: Table, columns: tuple[str, ...], *, locks: bool) -> Select[Any]:
    """Return a statement that finds the rows with these values, given by the columns' names. None equals nothing."""
    query = select(table).where(*(table.c[column] == bindparam(column) for column in columns))
    return query.with_for_update() if locks else query


@cache
def _insert_into(table: Table) -> Executable:
    return insert(table)


@cache
def _update_by_id(table: Table) -> Executable:
    """Return a statement that sets the given columns of the row whose id is given as `_ID`."""
    return update(table).where(table.c.id == bindparam(_ID))


@cache
def _claim_keys(dialect: str, keys: Table) -> Executable:
    """Return a statement that inserts missing keys and returns them."""
    return INSERT[dialect](keys).on_conflict_do_nothing().returning(keys.c.key)
