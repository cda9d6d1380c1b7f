"""A cause is taken once, with its effects or not at all."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import MetaData, insert, select

from beaconfire_kit import inbox
from beaconfire_kit.database import Database
from beaconfire_kit.inbox import KEEP, Inbox, digest
from tests.databases import database_url, on_both_databases

pytestmark = on_both_databases

TABLES = MetaData()
ROWS = inbox.table(TABLES)


@pytest.fixture(name="database")
async def _database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(database_url(tmp_path, "inbox"))
    async with database.writing() as tx:
        await tx.run_sync(TABLES.create_all)
    yield database
    await database.close()


async def taken(database: Database, cause: str, consumer: str = "one") -> bool:
    async with database.writing() as tx:
        return await Inbox(ROWS, consumer).take(tx, cause)


async def test_inbox_takes_a_cause_once_for_each_consumer(database: Database) -> None:
    assert await taken(database, "a")
    assert not await taken(database, "a")
    assert await taken(database, "b")
    assert await taken(database, "a", consumer="other")


async def test_cause_whose_effects_were_rolled_back_is_not_taken(database: Database) -> None:
    with suppress(ZeroDivisionError):
        async with database.writing() as tx:
            assert await Inbox(ROWS, "one").take(tx, "a")
            raise ZeroDivisionError

    assert await taken(database, "a")


async def test_inbox_forgets_only_its_own_causes_that_are_older_than_the_stream(database: Database) -> None:
    old, young = datetime.now(UTC) - KEEP - timedelta(minutes=1), datetime.now(UTC) - KEEP + timedelta(minutes=1)
    rows = [("one", "old", old), ("one", "young", young), ("other", "old", old)]
    async with database.writing() as tx:
        for consumer, cause, handled_at in rows:
            await tx.execute(insert(ROWS).values(consumer=consumer, cause=cause, handled_at=handled_at))
        await Inbox(ROWS, "one").forget(tx)
    async with database.reading() as connection:
        left = {(row.consumer, row.cause) for row in await connection.execute(select(ROWS))}

    assert left == {("one", "young"), ("other", "old")}


def test_inbox_digest_is_stable_and_its_parts_cannot_be_shifted() -> None:
    assert digest("a", "bc") != digest("ab", "c")
    assert digest("a") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
