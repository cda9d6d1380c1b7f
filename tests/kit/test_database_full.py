"""A database that cannot be written to, because it is full or read-only, is not usable."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_kit.database import Database, DatabaseFull, DatabaseUnwritable
from tests.databases import database_url, on_both_databases

FULL = "the database has no room, or its disk fails"


async def look(connection: AsyncConnection) -> None:
    await connection.execute(select(1))


async def test_full_database_is_not_usable_until_it_has_room(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/full.db")
    pages = 1_000_000

    @event.listens_for(database.engine.sync_engine, "connect")
    def limit(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    async with database.writing() as tx:
        await tx.execute(text("CREATE TABLE things (filler BLOB)"))
        await tx.execute(text("INSERT INTO things VALUES (randomblob(100000))"))
    with_room = await database.check(look)
    pages = 1  # it stays as large as it is
    await database.engine.dispose()
    with pytest.raises(DatabaseFull):
        async with database.writing() as tx:
            await tx.execute(text("INSERT INTO things VALUES (randomblob(100000))"))
    full = [await database.check(look) for _ in range(2)]
    pages = 1_000_000
    await database.engine.dispose()
    again = await database.check(look)
    async with database.reading() as connection:
        tables = list((await connection.execute(text("SELECT name FROM sqlite_master"))).scalars())
    await database.close()

    assert (with_room, again) == (None, None)
    assert full == [FULL, FULL]
    assert tables == ["things"]


@on_both_databases
async def test_checking_a_database_by_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    database = Database(database_url(tmp_path, "probed"))
    for _ in range(3):
        await database._probe()
    checked = await database.check(look)
    await database.close()

    assert checked is None


@on_both_databases
async def test_read_only_database_is_not_usable_until_it_can_be_written(tmp_path: Path) -> None:
    """After a failover to a replica, or on a volume that was mounted read-only."""
    database = Database(database_url(tmp_path, "replica"))
    name = database.url.database

    async def write() -> None:
        async with database.writing() as tx:
            await tx.execute(text("INSERT INTO things VALUES (1)"))

    async def let_write(allowed: bool) -> None:
        if not database.is_sqlite:
            async with database.engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.execute(text("SET default_transaction_read_only = off"))
                setting = "off" if allowed else "on"
                await connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {setting}'))
        await database.engine.dispose()

    @event.listens_for(database.engine.sync_engine, "connect")
    def limit(connection: Any, _record: Any) -> None:
        if database.is_sqlite:
            connection.execute(f"PRAGMA query_only = {not can_write}")

    can_write = True
    async with database.writing() as tx:
        await tx.execute(text("CREATE TABLE things (number INTEGER)"))
    can_write = False
    await let_write(can_write)
    with pytest.raises(DatabaseUnwritable) as refused:
        await write()
    checked = await database.check(look)
    can_write = True
    await let_write(can_write)
    await write()
    again = await database.check(look)
    await database.close()

    assert (refused.value.message, checked) == ("the database can only be read",) * 2
    assert again is None


async def test_damaged_sqlite_file_is_reported_as_unavailable_with_the_reason(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/damaged.db")
    (tmp_path / "damaged.db").write_bytes(b"no database at all" * 1_000)
    with pytest.raises(DatabaseUnwritable) as refused:
        async with database.reading() as connection:
            await look(connection)
    await database.close()

    assert refused.value.message == "the database's file is damaged"
