"""Migrations with the revisions of the services, on a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, inspect, text
from sqlalchemy.exc import IntegrityError

from beaconfire.migrate import SERVICES
from beaconfire_kit.database import Database, DatabaseAway, DatabaseUnusable
from beaconfire_kit.migrations import Migrated, Migrations, open_database
from tests.databases import database_url, on_both_databases

pytestmark = on_both_databases

AUTH = SERVICES["auth"]
PUBLISHER = SERVICES["publisher"]
all_services = pytest.mark.parametrize("migrations", SERVICES.values(), ids=lambda one: str(one.service))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture(name="url")
def _url(tmp_path: Path) -> str:
    """That of an empty database."""
    return database_url(tmp_path, "new")


@pytest.fixture(name="database")
async def _database(url: str) -> AsyncIterator[Database]:
    async with opened(url) as database:
        yield database


async def differences(database: Database, migrations: Migrations) -> list[Any]:
    async with database.connected() as connection:
        return await connection.run_sync(migrations.differences)


async def tables(database: Database) -> set[str]:
    def names(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names())

    async with database.connected() as connection:
        return await connection.run_sync(names)


async def execute(database: Database, *statements: str) -> None:
    async with database.transaction() as tx:
        for statement in statements:
            await tx.execute(text(statement))


async def scalar(database: Database, query: str) -> Any:
    async with database.connected() as connection:
        return await connection.scalar(text(query))


async def make_as_before_revisions(database: Database, migrations: Migrations) -> None:
    """The first revision without the record of it is what the release without revisions made."""
    await migrations.upgrade(database, "0001")
    await execute(database, f"DROP TABLE {migrations.version_table}")


@all_services
async def test_migrated_database_has_exactly_the_models_tables(database: Database, migrations: Migrations) -> None:
    assert await migrations.upgrade(database) == Migrated(None, migrations.head)
    assert await differences(database, migrations) == []


@all_services
async def test_every_revision_can_be_reverted_and_applied_again(database: Database, migrations: Migrations) -> None:
    await migrations.upgrade(database)

    down = await migrations.downgrade(database, "base")
    left = await tables(database)
    await migrations.upgrade(database)

    assert down == Migrated(migrations.head, None)
    assert left == {migrations.version_table}
    assert await differences(database, migrations) == []


@pytest.mark.parametrize("migrations", [AUTH, PUBLISHER], ids=lambda one: str(one.service))
async def test_database_of_the_release_without_revisions_is_taken_over_with_its_rows(
    database: Database, migrations: Migrations
) -> None:
    await make_as_before_revisions(database, migrations)
    row = "(1, 'e1', 'campaign.c1.state', 'x', '2026-01-01 00:00:00')"
    await execute(database, f"INSERT INTO outbox (id, event_id, subject, body, created_at) VALUES {row}")

    done = await migrations.upgrade(database)

    assert done == Migrated(None, migrations.head)
    assert await differences(database, migrations) == []
    assert await scalar(database, "SELECT event_id FROM outbox") == "e1"


async def test_copying_a_table_in_sqlite_deletes_no_row_that_refers_to_it(database: Database) -> None:
    now = "'2026-01-01 00:00:00'"
    await PUBLISHER.upgrade(database)
    await execute(
        database,
        "INSERT INTO campaigns (id, name, description, revision, world_time, created_at, updated_at)"
        f" VALUES ('c1', 'The Vale', '', 1, {now}, {now}, {now})",
        "INSERT INTO entities (id, campaign_id, type, data, name, revision, created_at, updated_at)"
        f" VALUES ('n1', 'c1', 'npc', '{{}}', 'Mira', 1, {now}, {now})",
    )

    await PUBLISHER.downgrade(database, "0002")
    await PUBLISHER.upgrade(database)

    assert await scalar(database, "SELECT name FROM entities") == "Mira"
    with pytest.raises(IntegrityError):  # and references are enforced again
        await execute(database, "UPDATE entities SET campaign_id = 'nowhere'")


async def test_failed_migration_leaves_tables_and_revision_unchanged(database: Database) -> None:
    await PUBLISHER.upgrade(database, "0002")
    await execute(database, "CREATE TABLE clocks (id INTEGER)")

    with pytest.raises(DatabaseUnusable, match=r"clocks.* already exists"):
        await PUBLISHER.upgrade(database)

    await execute(database, "DROP TABLE clocks")
    assert await PUBLISHER.upgrade(database) == Migrated("0002", PUBLISHER.head)


async def test_database_of_a_newer_version_is_refused_by_migration_and_start(database: Database) -> None:
    await AUTH.upgrade(database)
    await execute(database, f"UPDATE {AUTH.version_table} SET version_num = '9999'")

    for refused in (AUTH.upgrade(database), open_database(database, AUTH, migrate=False)):
        with pytest.raises(DatabaseUnusable, match="at revision 9999, which this version does not know"):
            await refused


async def test_database_with_foreign_tables_is_left_alone(database: Database) -> None:
    await execute(database, "CREATE TABLE users (id INTEGER)")

    with pytest.raises(DatabaseUnusable, match="has a table users and none called counters"):
        await AUTH.upgrade(database)

    assert await tables(database) == {"users"}


async def test_database_of_another_service_is_refused(database: Database) -> None:
    """The services would relay each other's events."""
    await AUTH.upgrade(database)

    with pytest.raises(DatabaseUnusable, match="this database is another service's"):
        await PUBLISHER.upgrade(database)


async def test_service_with_an_unmigrated_database_says_what_to_do_and_goes_on_once_it_is_done(
    database: Database,
) -> None:
    await open_database(database, AUTH, migrate=False)

    with pytest.raises(
        DatabaseAway, match=f"at no revision, this version needs {AUTH.head}: run `beaconfire migrate auth`"
    ):
        async with database.reading():
            pass
    assert await tables(database) == set()
    await AUTH.upgrade(database)
    async with asyncio.timeout(20):
        while database.why_not is not None:
            try:
                async with database.writing() as tx:
                    await tx.execute(text("DELETE FROM counters"))
            except DatabaseAway:
                await asyncio.sleep(0.01)


async def test_simultaneous_migrations_are_done_once(url: str) -> None:
    async with opened(url) as one, opened(url) as two, opened(url) as three:
        done = await asyncio.gather(*(PUBLISHER.upgrade(each) for each in (one, two, three)))
        same = await differences(one, PUBLISHER)

    assert sorted(each.before or "" for each in done) == ["", PUBLISHER.head, PUBLISHER.head]
    assert same == []


async def test_missing_migration_is_found(database: Database) -> None:
    """`make check` then fails."""
    changed = MetaData()
    for table in AUTH.tables.tables.values():
        table.to_metadata(changed)
    changed.remove(changed.tables["parents"])
    await AUTH.upgrade(database)

    found = await differences(database, Migrations(AUTH.service, changed, AUTH.folder, AUTH.before_revisions))

    assert [(kind, table.name) for kind, table in found] == [("remove_table", "parents")]
