"""A statement is repeated on a fresh connection, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_auth.store import COUNTERS, USERS
from beaconfire_kit.database import Database, DatabaseAway
from tests.databases import database_url

pytestmark = pytest.mark.usefixtures("on_postgresql")


@pytest.fixture(name="database", params=[False, True], ids=["many writers", "one writer"])
async def _database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Of one connection, so that everything uses the same one; its statements are prepared."""
    database = Database(database_url(tmp_path, "auth"), pool_size=1, one_writer=request.param)
    yield database
    await database.close()


@pytest.fixture(name="operator")
async def _operator(tmp_path: Path) -> AsyncIterator[Database]:
    """Another program's connection to the same database."""
    database = Database(database_url(tmp_path, "auth"))
    yield database
    await database.close()


async def execute(database: Database, *statements: str) -> None:
    async with database.transaction() as tx:
        for statement in statements:
            await tx.execute(text(statement))


async def read(connection: AsyncConnection) -> Any:
    return (await connection.execute(select(USERS))).all()


async def write(connection: AsyncConnection) -> Any:
    """A write whose answer depends on a column's type."""
    return await connection.scalar(COUNTERS.insert().values(name="n", value=1).returning(COUNTERS.c.name))


async def column_changed(_database: Database, operator: Database) -> None:
    """0A000: the answer of a prepared statement has another type now."""
    await execute(
        operator,
        "ALTER TABLE users ALTER COLUMN name TYPE varchar(333)",
        "ALTER TABLE counters ALTER COLUMN name TYPE varchar(333)",
    )


async def deallocated(database: Database, _operator: Database) -> None:
    """26000: the prepared statement is not there any more, as behind a pooler."""
    await execute(database, "DEALLOCATE ALL")


async def ended_by_an_administrator(_database: Database, operator: Database) -> None:
    """57P01: the connection was ended."""
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
    await execute(operator, others + "current_database()")


async def read_only(database: Database, operator: Database) -> None:
    """Cause 25006: a failover has made the connection's server read-only. The next connection is not."""
    name = f'"{database.url.database}"'
    await execute(operator, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await database.engine.dispose()
    async with database.reading() as connection:
        await read(connection)
    async with operator.transaction() as tx:
        await tx.execute(text("SET TRANSACTION READ WRITE"))
        await tx.execute(text(f"ALTER DATABASE {name} RESET default_transaction_read_only"))


HAPPENINGS = [column_changed, deallocated, ended_by_an_administrator, read_only]
Happening = Callable[[Database, Database], Awaitable[None]]


@pytest.mark.parametrize("happens", HAPPENINGS)
async def test_first_read_is_repeated_if_its_connection_became_unusable(
    database: Database, operator: Database, happens: Happening
) -> None:
    async with database.reading() as connection:
        await read(connection)
    await happens(database, operator)

    async with database.reading() as connection:
        assert await read(connection) == []


@pytest.mark.parametrize("happens", [column_changed, ended_by_an_administrator])
async def test_later_read_is_repeated_if_its_connection_became_unusable(
    database: Database, operator: Database, happens: Happening
) -> None:
    async with database.reading() as connection:
        await read(connection)
        await connection.rollback()  # or the change would wait for this transaction
        await happens(database, operator)

        assert await read(connection) == []


@pytest.mark.parametrize("happens", HAPPENINGS)
async def test_transaction_is_restarted_with_its_lock_if_its_first_statement_finds_the_connection_unusable(
    database: Database, operator: Database, happens: Happening
) -> None:
    async with database.writing() as tx:
        await write(tx)
        await tx.execute(COUNTERS.delete())
    await happens(database, operator)

    async with database.writing() as tx:
        assert await write(tx) == "n"

    async with operator.reading() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM counters")) == 1


@pytest.mark.parametrize("happens", [column_changed, deallocated, ended_by_an_administrator])
async def test_transaction_that_has_written_is_refused_as_a_whole_with_a_retry_time(
    database: Database, operator: Database, happens: Happening
) -> None:
    async def work() -> None:
        async with database.writing() as tx:
            await tx.execute(text("UPDATE outbox SET event_id = '' WHERE id = 0"))
            if happens is deallocated:
                await tx.execute(text("DEALLOCATE ALL"))
            else:
                await happens(database, operator)
            await write(tx)

    async with database.writing() as tx:
        await write(tx)
        await tx.execute(COUNTERS.delete())
    with pytest.raises(DatabaseAway) as refused:
        await work()
    async with operator.reading() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM counters")) == 0
    async with database.writing() as tx:
        await write(tx)

    assert (refused.value.code.status, refused.value.retry_after_ms) == (503, 1_000)


async def test_unsupported_statement_fails_as_an_error(database: Database) -> None:
    with pytest.raises(DBAPIError, match="not allowed with aggregate"):
        async with database.reading() as connection:
            await connection.execute(text("SELECT count(*) FROM users FOR UPDATE"))
