"""The database on a real PostgreSQL: refusals, outages, and simultaneous transactions."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text

from beaconfire.local_services import DidNotStart, ServiceProcess
from beaconfire.migrate import SERVICES, CannotMigrate, migrate
from beaconfire.nats_server import NatsServer
from beaconfire_auth.store import USERS
from beaconfire_kit import database as module
from beaconfire_kit.database import Database, DatabaseAway, DatabaseUnusable
from beaconfire_kit.migrations import open_database
from tests.databases import Databases, Postgres, chosen, database_url

SECRET = "wrong-and-secret-7f3a"
AUTH = SERVICES["auth"]


@pytest.fixture(name="url")
def _url(postgres_databases: Databases, tmp_path: Path) -> Iterator[str]:
    """That of a PostgreSQL database with auth's tables."""
    with chosen(postgres_databases):
        yield database_url(tmp_path, "auth")


@pytest.fixture(name="database")
async def _database(url: str) -> AsyncIterator[Database]:
    database = Database(url, pool_size=2)
    await open_database(database, AUTH, migrate=False)
    yield database
    await database.close()


def refused_urls(server: Postgres) -> dict[str, str]:
    """URLs that a person gets wrong, by what the sentence says."""
    at = f"127.0.0.1:{server.port}"
    return {
        "wrong user or password": f"postgresql://somebody:{SECRET}@{at}/postgres",
        "there is no such database": f"postgresql://beaconfire:{SECRET}@/nowhere?host={server.folder}&port={server.port}",
    }


async def test_wrong_password_and_wrong_database_name_are_refused_without_revealing_the_password(
    postgres: Postgres,
) -> None:
    for sentence, url in refused_urls(postgres).items():
        database = Database(url)
        with pytest.raises(DatabaseUnusable, match=sentence) as refused:
            await open_database(database, AUTH, migrate=False)
        await database.close()

        assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (f"mysql://u:{SECRET}@h/d", "'mysql' is not a supported database, expected sqlite"),
        (f"no url {SECRET}@", "is not a database URL, expected sqlite"),
        (f"postgresql://u:{SECRET}@h:port/d", "is not a database URL, expected sqlite"),
    ],
)
def test_unusable_database_url_is_refused_without_repeating_a_password(url: str, sentence: str) -> None:
    with pytest.raises(DatabaseUnusable, match=sentence) as refused:
        Database(url)

    assert SECRET not in str(refused.value)


def test_migrate_reports_what_is_wrong_and_waits_only_for_a_missing_database(
    postgres: Postgres, tmp_path: Path
) -> None:
    for sentence, url in refused_urls(postgres).items():
        with pytest.raises(DatabaseUnusable, match=sentence):
            list(migrate("auth", url, tmp_path, timeout_s=60))
    with pytest.raises(
        CannotMigrate, match=r"127.0.0.1:1/d: the database does not answer.*ConnectionRefusedError"
    ) as away:
        list(migrate("auth", f"postgresql://u:{SECRET}@127.0.0.1:1/d", tmp_path, timeout_s=0))

    assert SECRET not in str(away.value)


async def test_service_with_a_wrong_database_password_exits_with_2_and_one_sentence(
    nats_server: NatsServer, postgres: Postgres, tmp_path: Path
) -> None:
    url = refused_urls(postgres)["wrong user or password"]
    environment = {**nats_server.environment("auth"), "BEACONFIRE_DATABASE_URL": url}
    service = ServiceProcess(
        "auth", "beaconfire_auth", {**environment, "BEACONFIRE_ENVIRONMENT": "development"}, folder=tmp_path
    )
    with pytest.raises(DidNotStart):
        await asyncio.to_thread(service.start)

    said = "\n".join(service.process.last_lines)
    assert service.process.exit_code == 2
    assert "wrong user or password" in said
    assert SECRET not in said
    assert "Traceback" not in said


async def test_service_waits_for_its_database_and_reports_it_meanwhile(postgres: Postgres, url: str) -> None:
    await asyncio.to_thread(postgres.stop_at_once)
    database = Database(url)
    try:
        await open_database(database, AUTH, migrate=False)
        with pytest.raises(DatabaseAway) as away:
            async with database.writing():
                pass
    finally:
        postgres.start()
    async with asyncio.timeout(20):
        while not await usable(database):
            await asyncio.sleep(0.01)
    await database.close()

    assert (away.value.code.status, away.value.retry_after_ms) == (503, module.RETRY_AFTER_MS)


async def test_connections_cut_by_a_database_restart_are_replaced_before_their_next_use(
    postgres: Postgres, database: Database
) -> None:
    assert await usable(database)
    await asyncio.to_thread(postgres.stop_at_once)
    assert not await usable(database)
    postgres.start()

    assert await usable(database)


async def test_transaction_that_loses_its_database_is_reported_and_leaves_nothing(
    postgres: Postgres, database: Database
) -> None:
    async def write() -> None:
        async with database.writing() as tx:
            await tx.execute(text("INSERT INTO counters VALUES ('lost', 1)"))
            await asyncio.to_thread(postgres.stop_at_once)
            await tx.execute(text("INSERT INTO counters VALUES ('lost_too', 1)"))

    try:
        with pytest.raises(DatabaseAway):
            await write()
    finally:
        postgres.start()

    async with database.reading() as connection:
        assert (await connection.execute(text("SELECT name FROM counters"))).all() == []


async def test_one_transaction_of_a_deadlock_goes_on_and_the_other_may_be_retried(database: Database) -> None:
    async with database.writing() as tx:
        await tx.execute(text("INSERT INTO counters VALUES ('a', 0), ('b', 0)"))
    first_locks = asyncio.Barrier(2)

    async def count(*names: str) -> str:
        try:
            async with database.writing() as tx:
                for name in names:
                    await tx.execute(text("UPDATE counters SET value = value + 1 WHERE name = :name"), {"name": name})
                    if name == names[0]:
                        await first_locks.wait()
        except DatabaseAway:
            return "come again"
        return "done"

    assert sorted(await asyncio.gather(count("a", "b"), count("b", "a"))) == ["come again", "done"]


async def test_exhausted_connection_pool_refuses_with_a_retry_and_recovers(database: Database) -> None:
    database.engine.pool._timeout = 0.05  # type: ignore[attr-defined]
    async with database.reading(), database.reading():
        with pytest.raises(DatabaseAway, match="every connection to the database is in use"):
            async with database.reading():
                pass

    assert await usable(database)


async def test_servers_session_time_zone_changes_no_moment(database: Database) -> None:
    at = datetime(2026, 3, 29, 3, 30, tzinfo=timezone(timedelta(hours=2)))
    row = {"id": "u1", "email": "a@b.example", "name": "A", "password_hash": "", "issued_before": 0, "created_at": at}
    async with database.writing() as tx:
        await tx.execute(text("SET LOCAL TIME ZONE 'Asia/Kolkata'"))
        await tx.execute(insert(USERS).values(**row))
        read = await tx.scalar(select(USERS.c.created_at))

    assert read == at
    assert read is not None
    assert read.tzinfo is UTC


async def test_what_a_single_writer_read_still_holds_when_it_commits(url: str) -> None:
    """In whichever process the others are."""
    one, two = Database(url, one_writer=True), Database(url, one_writer=True)

    async def take_if_free(database: Database, name: str) -> bool:
        async with database.writing() as tx:
            if await tx.scalar(text("SELECT count(*) FROM counters")):
                return False
            await tx.execute(text("INSERT INTO counters VALUES (:name, 1)"), {"name": name})
            return True

    taken = await asyncio.gather(*(take_if_free((one, two)[number % 2], f"n{number}") for number in range(10)))
    await asyncio.gather(one.close(), two.close())

    assert sum(taken) == 1


async def usable(database: Database) -> bool:
    try:
        async with database.reading() as connection:
            await connection.execute(text("SELECT 1"))
    except DatabaseAway:
        return False
    return True
