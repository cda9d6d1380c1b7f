"""aiosqlite and SQLAlchemy still work together as `beaconfire_kit/seams/sqlite_connection.py` expects."""

import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import aiosqlite
import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from beaconfire_kit.database import Database
from beaconfire_kit.seams.sqlite_connection import Connection, connect

TABLES = MetaData()
THINGS = Table("things", TABLES, Column("id", Integer, primary_key=True), Column("name", String(9), unique=True))


class Counted(Connection):
    """A connection that counts the calls of its thread."""

    calls = 0

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]


@pytest.fixture(name="engine")
async def _engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    def creator() -> Connection:
        connection = connect(str(tmp_path / "things.db"))
        connection.__class__ = Counted
        return connection

    engine = create_async_engine("sqlite+aiosqlite://", async_creator=creator)
    async with engine.begin() as tx:
        await tx.run_sync(TABLES.create_all)
    yield engine
    await engine.dispose()


async def counted(connection: AsyncConnection) -> Counted:
    """The connection behind one of SQLAlchemy's."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, Counted)
    return driver


async def test_each_statement_is_one_call_of_the_thread(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        driver, calls = await counted(tx), []
        for statement in (
            insert(THINGS).values(name="a"),
            insert(THINGS).values(name="b").returning(THINGS.c.id),
            update(THINGS).values(name=THINGS.c.name + "!"),
            select(THINGS),
        ):
            before = driver.calls
            await tx.execute(statement)
            calls.append(driver.calls - before)

    assert calls == [1, 1, 1, 1]


async def test_query_without_a_transaction_is_one_call_of_the_thread_from_start_to_end(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/things.db")
    async with database.writing() as tx:
        await tx.run_sync(TABLES.create_all)
        driver = (await tx.get_raw_connection()).driver_connection
        assert isinstance(driver, Connection)
        driver.__class__ = Counted
    driver = cast(Counted, driver)
    before = driver.calls
    async with database.looking_up() as connection:
        rows = (await connection.execute(select(THINGS))).all()
        is_open = driver.in_transaction
    calls = driver.calls - before
    async with database.reading() as connection:
        await connection.execute(select(THINGS))
        is_open_when_reading = driver.in_transaction
    await database.close()

    assert (list(rows), calls) == ([], 1)
    assert (is_open, is_open_when_reading) == (False, True)


async def test_rows_counts_and_ids_of_statements_are_those_of_sqlite(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        first = (await tx.execute(insert(THINGS).values(name="a"))).inserted_primary_key
        ids = (await tx.execute(insert(THINGS).returning(THINGS.c.id), [{"name": "b"}, {"name": "c"}])).scalars().all()
        many = await tx.execute(insert(THINGS), [{"name": "d"}, {"name": "e"}])
        changed = (await tx.execute(update(THINGS).where(THINGS.c.id > 3).values(name=THINGS.c.name + "!"))).rowcount
        rows = (await tx.execute(select(THINGS.c.name).order_by(THINGS.c.id))).scalars().all()
        none = (await tx.execute(select(THINGS).where(THINGS.c.id == 9))).first()

    assert tuple(first or ()) == (1,)
    assert list(ids) == [2, 3]
    assert (many.rowcount, changed) == (2, 2)
    assert list(rows) == ["a", "b", "c", "d!", "e!"]
    assert none is None


async def test_failed_statement_raises_and_its_transaction_goes_on(engine: AsyncEngine) -> None:
    async with engine.begin() as tx:
        await tx.execute(insert(THINGS).values(name="a"))
        with pytest.raises(IntegrityError):
            await tx.execute(insert(THINGS).values(name="a"))
        with pytest.raises(OperationalError):
            await tx.execute(text("SELECT * FROM nothing"))
        names = (await tx.execute(select(THINGS.c.name))).scalars().all()

    assert list(names) == ["a"]


async def test_database_rolls_back_a_transaction_that_was_left_open(tmp_path: Path) -> None:
    """SQLAlchemy does not know of this one. Left open, it would keep every other writer waiting."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/things.db")
    async with database.connected() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert isinstance(driver, Connection)
        await driver.execute("BEGIN IMMEDIATE")
        assert driver.in_transaction
    left_open = driver.in_transaction
    async with database.writing() as tx:
        await tx.run_sync(TABLES.create_all)
    await database.close()

    assert not left_open


async def test_aiosqlite_still_calls_a_function_in_the_thread_of_its_connection(tmp_path: Path) -> None:
    connection = connect(str(tmp_path / "things.db"))
    await connection
    try:
        assert isinstance(connection, aiosqlite.Connection)
        assert isinstance(connection.driver, sqlite3.Connection)
        assert connection._thread.daemon
        assert await connection.call(partial(connection.driver.execute, "SELECT 1")) is not None
    finally:
        await connection.close()
