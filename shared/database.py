"""The database of a service: engine, transactions, tables made at start.

SQLite by default, with what a crash or power loss asks for (WAL and `synchronous=FULL`); the URL decides.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import DateTime, Dialect, MetaData, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.types import TypeDecorator


class DatabaseUnusable(Exception):
    """The database cannot be opened. The text says which, why and what to do."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, aware on both sides. SQLite itself forgets the time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Database:
    """One engine and its transactions. Writers of SQLite wait for one another here, not by polling its lock."""

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
        except ArgumentError as error:
            raise DatabaseUnusable(
                f"{url!r} is not a database URL, expected sqlite+aiosqlite:///path/to/file.db"
            ) from error
        self.engine: AsyncEngine = create_async_engine(self.url)
        self._is_sqlite = self.url.get_backend_name() == "sqlite"
        self._writing = asyncio.Lock()
        if self._is_sqlite:
            _prepare_sqlite(self.engine)

    async def open(self, metadata: MetaData) -> None:
        """Make the tables that are missing, and the folder of SQLite's file. Raises DatabaseUnusable."""
        try:
            if self._is_sqlite and self.url.database:
                folder = Path(self.url.database).parent
                await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            async with self.writing() as tx:
                await tx.run_sync(metadata.create_all)
        except (DBAPIError, OSError) as error:
            where = self.url.render_as_string(hide_password=True)
            cause = getattr(error, "orig", None) or error
            raise DatabaseUnusable(
                f"cannot open the database {where}: {cause}. Move it away, or point elsewhere"
            ) from error

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection that sees one consistent state and changes nothing."""
        async with self.engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end of the block, rolled back by any exception."""
        if not self._is_sqlite:
            async with self.engine.begin() as connection:
                yield connection
            return
        async with self._writing, self.engine.connect() as connection:
            await connection.execution_options(beaconfire_writes=True)
            async with connection.begin():
                yield connection

    async def close(self) -> None:
        await self.engine.dispose()


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        # A write begins IMMEDIATE: a read that later upgrades would fail with "locked" under a concurrent writer.
        writes = connection.get_execution_options().get("beaconfire_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
