"""Open a service's database, run its transactions, and translate its errors.

The URL decides which database it is. SQLite is the default. It survives a crash or power loss (WAL and
`synchronous=FULL`). PostgreSQL is used through asyncpg. Migrations make the tables (`beaconfire_kit.migrations`).
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

from sqlalchemy import DateTime, Dialect, Executable, event, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import PoolResetState
from sqlalchemy.types import TypeDecorator

from beaconfire_kit import commit_condition, errors, logs, tracing
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.postgresql import RepeatingConnection, is_lost, is_stale, sqlstate, watch
from beaconfire_kit.seams import sqlite_connection

log = logs.get(__name__)

CONNECT_TIMEOUT_S = 5.0
LOCK_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 20.0
LOOK_AGAIN_S = 0.5
CHECK_TIMEOUT_S = 2.0
PROBE_EVERY_S = 5.0
"""How often a write is tried: a full database can still be read."""
_PROBE = {
    True: (
        "CREATE TABLE beaconfire_probe (filler BLOB)",
        "INSERT INTO beaconfire_probe VALUES (randomblob(16384))",
    ),
    False: (
        "CREATE TEMP TABLE beaconfire_probe (filler TEXT)",
        "INSERT INTO beaconfire_probe SELECT md5(random()::text) FROM generate_series(1, 512)",
    ),
}
"""Statements that need new pages, by whether the database is SQLite."""
_WITHOUT_TRANSACTION: dict[bool, dict[str, Any]] = {
    True: {"beaconfire_alone": True},
    False: {"isolation_level": "AUTOCOMMIT"},
}
"""Options of a connection whose statements are each a transaction, by whether the database is SQLite."""
DISK_FULL = "53100"
READ_ONLY = "25006"
"""PostgreSQL's codes. A read-only server has become a replica, or was configured so."""
RETRY_AFTER_MS = 1_000

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
# SQLSTATEs (PostgreSQL, appendix A) after which another attempt may succeed, in this order: out of resources;
# serialization and deadlock; object in use; lock not available; cancelled by a timeout; shutting down or starting;
# failing disk. Errors that only need a fresh connection are in `beaconfire_kit.postgresql`.
_PASSING = ("53", "40", "55006", "55P03", "57014", "57P", "58")


class DatabaseUnusable(Exception):
    """The database cannot be used as it is. The text names the database, the reason and what to do.

    It contains no password.
    """


class DatabaseAway(BeaconfireError):
    """The database does not answer, is busy or is not ready. Try again."""

    def __init__(self, why: str) -> None:
        super().__init__(errors.UNAVAILABLE, why, retry_after_ms=RETRY_AFTER_MS)


class DatabaseUnwritable(DatabaseAway):
    """The database cannot be written, although it may still be read. The text contains the reason."""


class DatabaseFull(DatabaseUnwritable):
    """The database has no room left, or its disk fails."""

    def __init__(self) -> None:
        super().__init__("the database has no room, or its disk fails")


class FileUnusable(DatabaseUnwritable):
    """SQLite's file is damaged, read-only, or cannot be opened.

    A service does not start with such a file, because only an operator can repair it.
    """


class DatabaseRefused(DatabaseAway):
    """The server refuses the connection or operation. `reason` is for the log: it contains what an operator must do."""

    def __init__(self, reason: str) -> None:
        super().__init__("the database cannot be used; the log says why")
        self.reason = reason


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC, with its time zone. SQLite itself does not store the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Database:
    """One engine and its transactions.

    Writers of SQLite wait for one another here instead of polling its lock. With `one_writer` the writers of PostgreSQL
    do too, across all processes. A service needs that if its transactions decide by rows that they do not lock.
    """

    def __init__(
        self, url: str, *, pool_size: int = 10, one_writer: bool = False, lock_timeout_s: float = LOCK_TIMEOUT_S
    ) -> None:
        self.url = _parsed(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        # Parameters contain what users wrote, and an error is logged.
        options = _sqlite(self.url) if self.is_sqlite else _postgresql(pool_size, lock_timeout_s)
        self.engine: AsyncEngine = create_async_engine(self.url, hide_parameters=True, **options)
        one_at_a_time = one_writer and not self.is_sqlite
        self._opening = (_locking(f"writer of {self.url.database}"),) if one_at_a_time else ()
        self._writing = asyncio.Lock()
        self._settling = asyncio.Lock()
        self._settle: Callable[[], Awaitable[None]] | None = None
        self._looked_at = 0.0
        self._probed_at = float("-inf")
        self.why_not: str | None = None
        """Why it cannot be used yet, or None."""
        if self.is_sqlite:
            _prepare_sqlite(self.engine)
        else:
            watch(self.engine)

    @property
    def where(self) -> str:
        """Its URL without the password."""
        return self.url.render_as_string(hide_password=True)

    async def open(self, settle: Callable[[], Awaitable[None]]) -> None:
        """Make ready with `settle`.

        If that raises DatabaseAway, each use of the database calls it again until it succeeds. Raises DatabaseUnusable.
        """
        self._settle = settle
        try:
            await settle()
        except DatabaseAway as error:
            self.why_not = error.message
            log.warning("the database cannot be used yet", where=self.where, reason=error.message, cause=cause(error))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Open a read-only connection that sees one consistent state. Raises DatabaseAway."""
        await self._settled()
        async with self.connected() as connection:
            yield connection

    @asynccontextmanager
    async def looking_up(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection without a transaction, for a single query, which sees one consistent state.

        `reading` calls the database three times for it, and this only once. Raises DatabaseAway.
        """
        await self._settled()
        async with self.connected() as connection:
            await connection.execution_options(**_WITHOUT_TRANSACTION[self.is_sqlite])
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction. It is committed at the end of the block, or rolled back on an error. Raises DatabaseAway.

        If the connection is lost during the commit, it is unknown whether the commit happened. The message contains
        that.
        """
        with tracing.step("transaction", {"db.system.name": "sqlite" if self.is_sqlite else "postgresql"}):
            await self._settled()
            async with self._alone(), self._transaction(*self._opening) as connection:
                yield connection

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection as `reading` does, even if the database is not ready."""
        with self._translated():
            async with self._connect() as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction as `writing` does, even if the database is not ready."""
        async with self._alone(), self._transaction() as connection:
            yield connection

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that changes the tables themselves. SQLite enforces no foreign keys meanwhile.

        SQLite makes most changes to a table by copying and dropping it. With foreign keys, dropping a table would
        delete the rows that refer to it.
        """
        if not self.is_sqlite:
            async with self.transaction() as connection:
                yield connection
            return
        async with self._writing, self.connected() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.execute("PRAGMA foreign_keys=OFF")  # before the transaction; within it has no effect
            await driver.execute("PRAGMA busy_timeout=60000")  # for another migration; longer than a write may take
            try:
                async with self._begun(connection):
                    yield connection
            finally:
                await driver.execute("PRAGMA foreign_keys=ON")
                await driver.execute("PRAGMA busy_timeout=5000")

    def _alone(self) -> AbstractAsyncContextManager[None]:
        return self._writing if self.is_sqlite else nullcontext()

    def _connect(self) -> AsyncConnection:
        return self.engine.connect() if self.is_sqlite else RepeatingConnection(self.engine)

    @asynccontextmanager
    async def _transaction(self, *opening: Executable) -> AsyncIterator[AsyncConnection]:
        async with self.connected() as connection, self._begun(connection, *opening):
            yield connection

    @asynccontextmanager
    async def _begun(self, connection: AsyncConnection, *opening: Executable) -> AsyncIterator[None]:
        try:
            if isinstance(connection, RepeatingConnection):
                await connection.open_transaction(*opening)
            else:
                await connection.execution_options(beaconfire_writes=True)
                await connection.begin()
            yield
            await commit_condition.check()
        except BaseException:
            await _roll_back(connection)
            raise
        with self._translated("the database went away during the commit: it may have happened"):
            await connection.commit()

    async def check(self, look: Callable[[AsyncConnection], Awaitable[object]]) -> str | None:
        """Return why the database cannot be used now, or None, and log it. `look` has `CHECK_TIMEOUT_S` seconds.

        A database that has no room left can still be read, so every `PROBE_EVERY_S` seconds something is written.
        """
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S), self.reading() as connection:
                await look(connection)
            if time.monotonic() - self._probed_at > PROBE_EVERY_S:
                await self._probe_if_free()
                self._probed_at = time.monotonic()
        except DatabaseUnwritable as error:
            log.warning("the database cannot be used", reason=error.message, cause=cause(error))
            return error.message
        except (DatabaseAway, SQLAlchemyError, TimeoutError) as error:
            log.warning("the database cannot be used", reason=str(error), error=type(error).__name__)
            return self.why_not or "the database does not answer"
        return None

    async def _probe_if_free(self) -> None:
        """Check that the database can be written. A busy one is fine. Raises DatabaseUnwritable."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self._probe()
        except DatabaseUnwritable:
            raise
        except (DatabaseAway, SQLAlchemyError, TimeoutError) as error:
            log.debug("could not try to write to the database", error=type(error).__name__)

    async def _probe(self) -> None:
        """Write something and roll it back. Raises DatabaseUnwritable, DatabaseAway."""
        async with self.transaction() as tx:
            attempt = await tx.begin_nested()
            for statement in _PROBE[self.is_sqlite]:
                await tx.execute(text(statement))
            await attempt.rollback()
            if self.is_sqlite:  # written for real, and synced: the disk may be full although the file may grow
                version = int(await tx.scalar(text("PRAGMA user_version")) or 0)
                await tx.execute(text(f"PRAGMA user_version = {version}"))

    async def close(self) -> None:
        await self.engine.dispose()

    async def _settled(self) -> None:
        """Raise DatabaseAway until the database is ready. Check again every `LOOK_AGAIN_S` seconds."""
        if self.why_not is None:
            return
        async with self._settling:
            if self.why_not is not None and self._settle is not None and self._is_due():
                try:
                    await self._settle()
                    self.why_not = None
                    log.info("the database can be used")
                except DatabaseAway as error:
                    self.why_not = error.message
                except DatabaseUnusable as error:
                    self.why_not = "the database cannot be used; the log says why"
                    log.error("the database cannot be used", reason=str(error))
            if self.why_not is not None:
                raise DatabaseAway(self.why_not)

    def _is_due(self) -> bool:
        now = time.monotonic()
        due = now - self._looked_at >= LOOK_AGAIN_S
        if due:
            self._looked_at = now
        return due

    @contextmanager
    def _translated(self, away: str = "the database does not answer, or is busy") -> Iterator[None]:
        """Turn errors after which another attempt may succeed into DatabaseAway.

        A statement's own errors (IntegrityError, …) stay as they are.
        """
        try:
            yield
        except PoolTimeout as error:
            raise DatabaseAway("every connection to the database is in use") from error
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            self._raise_translated(error, away)
            raise
        except Exception as error:
            if sqlstate(error) is not None:  # asyncpg's own, from before there is a connection
                self._raise_translated(error, away)
            raise

    def _raise_translated(self, error: Exception, away: str) -> None:
        state = sqlstate(error)
        if self.is_sqlite:
            if "database is locked" in str(error):
                raise DatabaseAway(away) from error
            if "disk is full" in str(error) or "disk I/O error" in str(error):
                self._probed_at = float("-inf")
                raise DatabaseFull from error
            if (why := next((why for said, why in _UNWRITABLE_FILE.items() if said in str(error)), None)) is not None:
                self._probed_at = float("-inf")
                raise FileUnusable(why) from error
        elif is_stale(error):
            raise DatabaseAway("the tables of the database have just been changed, try again") from error
        elif state == READ_ONLY:
            self._probed_at = float("-inf")
            raise DatabaseUnwritable(_ONLY_READ) from error
        elif is_lost(error) or (state is None and isinstance(error, OSError | TimeoutError)):
            raise DatabaseAway(away) from error
        elif state is None:
            return
        elif state == DISK_FULL:
            self._probed_at = float("-inf")
            raise DatabaseFull from error
        elif state.startswith(_PASSING):
            raise DatabaseAway(away) from error
        elif (refusal := _REFUSALS.get(state)) is not None:
            raise DatabaseRefused(f"cannot use the database {self.where}: {refusal}") from error


_ONLY_READ = "the database can only be read"
_UNWRITABLE_FILE = {
    "readonly database": _ONLY_READ,
    "unable to open database file": "the database's file cannot be opened",
    "database disk image is malformed": "the database's file is damaged",
    "file is not a database": "the database's file is damaged",
}
"""Problems that only an operator can fix, by a part of SQLite's message."""
_REFUSALS = {
    "28P01": "wrong user or password",
    "28000": "the server does not let this user in (pg_hba.conf)",
    "3D000": "there is no such database: create it, or correct the URL",
    "42501": "this user may not do this there: make it the owner of the database",
    "3F000": "this user may not create tables in any schema",
}


def cause(error: BaseException) -> str:
    """Return the cause of an error in one line, with its class and its text, but without our addresses."""
    behind = error.__cause__ or error
    said = str(getattr(behind, "orig", None) or behind).splitlines()
    return f"{type(behind).__name__}: {said[0]}" if said else type(behind).__name__


async def lock(tx: AsyncConnection, name: str) -> None:
    """Hold PostgreSQL's lock of this name until the end of the transaction.

    SQLite needs none: a writing transaction is always alone.
    """
    if tx.dialect.name == "postgresql":
        await tx.execute(_locking(name))


def _locking(name: str) -> Executable:
    return text("SELECT pg_advisory_xact_lock(:space, :name)").bindparams(space=0xBEAC, name=_number(name))


async def current_time(connection: AsyncConnection) -> datetime:
    """Return the time of PostgreSQL's clock, which is the same for all processes. With SQLite, that of this machine."""
    if connection.dialect.name == "postgresql":
        now: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
        return now
    return datetime.now(UTC)


def _number(name: str) -> int:
    return crc32(name.encode()) - 2**31


async def _roll_back(connection: AsyncConnection) -> None:
    try:
        await connection.rollback()
    except (SQLAlchemyError, OSError) as error:  # gone, and the transaction with it
        log.warning("could not roll back", error=type(error).__name__)
        await connection.invalidate()


def _parsed(url: str) -> URL:
    """Return the URL with our driver. Raises DatabaseUnusable."""
    expected = "expected sqlite+aiosqlite:///path/to/file.db or postgresql+asyncpg://user:password@host/database"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        shown = repr(url) if "@" not in url else "the value"
        raise DatabaseUnusable(f"{shown} is not a database URL, {expected}") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise DatabaseUnusable(f"{parsed.drivername!r} is not a supported database, {expected}")
    parsed = parsed.set(drivername=driver)
    if driver == "postgresql+asyncpg" and "sslmode" in parsed.query:  # libpq's word for what asyncpg calls ssl
        query = dict(parsed.query)
        query.setdefault("ssl", query.pop("sslmode"))
        parsed = parsed.set(query=query)
    return parsed


def _sqlite(url: URL) -> dict[str, Any]:
    """Return options for our own connections. `_prepare_sqlite` rolls back a transaction that was left open."""
    (path,), options = url.get_dialect()().create_connect_args(url)
    return {"async_creator": partial(sqlite_connection.connect, path, **options), "pool_reset_on_return": None}


def _postgresql(pool_size: int, lock_timeout_s: float) -> dict[str, Any]:
    """Every wait ends: for a connection, a lock, a statement, the network."""
    milliseconds = {"lock_timeout": lock_timeout_s, "statement_timeout": STATEMENT_TIMEOUT_S}
    return {
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": lock_timeout_s,
        "pool_pre_ping": True,
        "connect_args": {
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": STATEMENT_TIMEOUT_S + 5,  # the server gives up first, if it is there
            "server_settings": {
                "application_name": "beaconfire",
                **{name: str(int(seconds * 1000)) for name, seconds in milliseconds.items()},
                # A process that vanished in the middle of a transaction keeps no row locked for longer than this.
                "idle_in_transaction_session_timeout": "60000",
            },
        },
    }


async def _write_ahead(driver: Any) -> None:
    """Switch a file to its write-ahead log. Raises `sqlite3.OperationalError` if others use it for 5 seconds.

    SQLite itself waits for nobody here: of two processes that open a new file at once, one would fail.
    """
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    while True:
        try:
            await driver.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.01)


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions start below, not in the driver
        connection.run_async(_write_ahead)
        cursor = connection.cursor()
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "reset")
    def _reset(connection: Any, _record: Any, state: PoolResetState) -> None:
        # A rollback without a transaction would also call the thread, between a commit and the event's publication.
        if not state.terminate_only and connection.driver_connection.in_transaction:
            connection.rollback()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        options = connection.get_execution_options()
        if options.get("beaconfire_alone", False):
            return
        # A write starts with IMMEDIATE: a read that later upgrades would fail with "locked" under a concurrent writer.
        writes = options.get("beaconfire_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def make_file(database: Database) -> None:
    """Create SQLite's file and folder for this user only: it contains accounts and signing keys.

    Existing files stay as they are. SQLite gives the files beside it the same permissions. Raises OSError.
    """
    if not database.is_sqlite or database.url.database in (None, "", ":memory:"):
        return
    path = Path(str(database.url.database))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
