"""A database without room: it can be read, and is not usable."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.database import Database, DatabaseFull
from tests.databases import database_url, on_both_databases

FULL = "the database has no room, or its disk fails"


async def look(connection: AsyncConnection) -> None:
    await connection.execute(select(1))


async def test_a_full_database_is_not_usable_until_it_has_room(tmp_path: Path) -> None:
    """Reading is not enough: the check writes, says that there is no room, and is content once there is."""
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
async def test_trying_to_write_leaves_nothing_behind(tmp_path: Path) -> None:
    """Checked again and again, a database has what it had."""
    database = Database(database_url(tmp_path, "probed"))
    for _ in range(3):
        await database._probe()
    checked = await database.check(look)
    await database.close()

    assert checked is None
