"""Rows and events are committed together, or neither is."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select

from beaconfire_kit.database import Database, DatabaseAway
from beaconfire_kit.envelope import Metadata
from beaconfire_kit.events.campaign import EntityUpdated
from beaconfire_kit.migrations import open_database
from beaconfire_kit.outbox import Outbox
from beaconfire_publisher.campaigns import WORLD_BEGINS
from beaconfire_publisher.migrations import MIGRATIONS
from beaconfire_publisher.store import CAMPAIGNS, OUTBOX, Store, Writing
from tests.databases import database_url, on_both_databases

METADATA = Metadata(source="api")


@pytest.fixture(name="database")
async def _database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(database_url(tmp_path, "publisher"))
    await open_database(database, MIGRATIONS, migrate=True)
    yield database
    await database.close()


async def add_campaign(tx: Writing, *, description: str = "") -> None:
    """A campaign and its event."""
    wanted = {"name": "The Vale", "description": description, "world_time": WORLD_BEGINS}
    row, fields = await tx.add(CAMPAIGNS, {}, wanted)
    tx.publish(EntityUpdated(entity_type="campaign", entity_id=row["id"], campaign_id=row["id"], changed_fields=fields))


async def counts(database: Database) -> tuple[Any, ...]:
    """Return the numbers of campaigns and of events."""
    async with database.reading() as connection:
        return tuple(
            [await connection.scalar(select(func.count()).select_from(table)) for table in (CAMPAIGNS, OUTBOX)]
        )


@on_both_databases
async def test_rows_and_events_are_committed_together(database: Database) -> None:
    store = Store(database, Outbox(database, OUTBOX))

    async with store.writing(METADATA) as tx:
        await add_campaign(tx)

    assert await counts(database) == (1, 1)


@on_both_databases
async def test_exception_rolls_back_rows_and_events(database: Database) -> None:
    store = Store(database, Outbox(database, OUTBOX))

    async def fail() -> None:
        async with store.writing(METADATA) as tx:
            await add_campaign(tx)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert await counts(database) == (0, 0)


async def test_full_disk_fails_the_transaction_at_the_row_or_the_event(database: Database) -> None:
    """On SQLite."""
    store = Store(database, Outbox(database, OUTBOX))

    @event.listens_for(database.engine.sync_engine, "begin")
    def _no_more_pages(connection: Any) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # SQLite takes the present size where that is larger

    written = 0

    async def fill() -> None:
        nonlocal written
        while True:
            async with store.writing(METADATA) as tx:
                await add_campaign(tx, description="x" * 1_000)
            written += 1

    with pytest.raises(DatabaseAway, match="no room"):
        await fill()

    assert await counts(database) == (written, written)
