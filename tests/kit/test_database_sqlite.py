"""The database on a SQLite file that others use at the same time."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from beaconfire_kit.database import Database
from tests.databases import database_url


async def test_new_file_that_another_process_writes_is_opened_when_that_is_done(tmp_path: Path) -> None:
    """SQLite refuses the first switch to a write-ahead log at once, and does not wait, while another process writes."""
    url = database_url(tmp_path, "new")
    with closing(sqlite3.connect(url.partition("///")[2], isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        database = Database(url)
        opening = asyncio.create_task(journal_mode(database))
        await asyncio.wait({opening}, timeout=0.2)
        waited = not opening.done()
        other.execute("COMMIT")

        assert (waited, await opening) == (True, "wal")
    await database.close()


async def journal_mode(database: Database) -> str:
    async with database.connected() as connection:
        return str((await connection.execute(text("PRAGMA journal_mode"))).scalar_one())
