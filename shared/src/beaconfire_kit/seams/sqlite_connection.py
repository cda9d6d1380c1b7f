"""SQLite's connection with one call of its thread for each statement.

aiosqlite runs every call in the connection's thread, and a cursor needs four for a query: to make it, to execute, to
fetch and to close. Each makes two threads wait for each other, which takes longer than most statements. Here, one call
does all four, and keeps the rows.

    create_async_engine(url, async_creator=partial(connect, path, **options))

SQLAlchemy fetches all rows of a cursor at once in any case, except for server-side cursors, which we do not use.

This leans on private names of aiosqlite's `Connection`: `_execute`, `_conn` and `_thread`.
tests/kit/seams/test_sqlite_connection.py fails when a release changes them.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import aiosqlite

_CHUNK = 64
"""Rows that aiosqlite's own cursors fetch at a time. Not used by ours."""


class Cursor:
    """A cursor as SQLAlchemy uses it. Its rows were fetched when the statement was executed."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> "Cursor":
        return self

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> "Cursor":
        await self._connection.call(partial(self._run, sqlite3.Cursor.execute, statement, parameters))
        return self

    async def executemany(self, statement: str, parameters: Iterable[Sequence[Any]]) -> "Cursor":
        await self._connection.call(partial(self._run, sqlite3.Cursor.executemany, statement, parameters))
        return self

    async def fetchall(self) -> list[Any]:
        return self._rows

    async def close(self) -> None:
        """Forget the rows. SQLite's own cursor is closed already."""
        self._rows = []

    def _run(self, execute: Any, statement: str, parameters: Any) -> None:
        """Execute a statement and fetch its rows. Runs in the connection's thread."""
        cursor = self._connection.driver.cursor()
        try:
            execute(cursor, statement, parameters)
            self.description = cursor.description
            self._rows = cursor.fetchall() if cursor.description else []
            self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid
        finally:
            cursor.close()


class Connection(aiosqlite.Connection):
    """aiosqlite's connection with our cursors."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._called = 0
        """Functions that the thread has not finished. Their callers may be gone."""

    @property
    def driver(self) -> sqlite3.Connection:
        """Python's own connection. To be used in its thread."""
        return self._conn

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in the connection's thread."""

        def counted() -> Any:
            try:
                return function()
            finally:
                self._called -= 1

        self._called += 1
        return await self._execute(counted)  # type: ignore[no-untyped-call]

    async def rollback(self) -> None:
        """Roll back. Without a transaction, the thread is not called."""
        if self._called or self.in_transaction:
            await super().rollback()

    def cursor(self) -> Any:
        """Return a cursor. Unlike aiosqlite's, making it needs no call of the thread."""
        return Cursor(self)


def connect(path: str, **options: Any) -> Connection:
    """Return a connection to await. Its thread does not keep the process from exiting."""
    connection = Connection(partial(sqlite3.connect, path, **options), _CHUNK)
    connection._thread.daemon = True
    return connection
