"""Write a service's next revision, and check whether one is missing. For developers."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from beaconfire_kit.database import Database
from beaconfire_kit.migrations import Migrations

T = TypeVar("T")


def write(migrations: Migrations, title: str) -> Path:
    """Write a revision with whatever the models have and the revisions lack. Returns its path. Read it before use."""
    return asyncio.run(_migrated(migrations, lambda connection: migrations.write(connection, title)))


def missing(migrations: Migrations) -> Sequence[Any]:
    """Return what the revisions lack to match the models, in alembic's words."""
    return asyncio.run(_migrated(migrations, migrations.differences))


async def _migrated(migrations: Migrations, work: Callable[[Connection], T]) -> T:
    """The result of `work` on a new SQLite database at the newest revision."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite+aiosqlite:///{Path(folder)}/new.db")
        try:
            await migrations.upgrade(database)
            async with database.transaction() as tx:
                return await tx.run_sync(work)
        finally:
            await database.close()
