"""F18: a file-system quota, and a lock of PostgreSQL. test_database_faults.py has SQLite's lock and limit."""

import asyncio
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from beaconfire.nats_server import NatsServer
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_publisher.app import Tuning
from tests.auth.conftest import Auth
from tests.databases import Databases, chosen, execute
from tests.publisher.conftest import Api, Heard, Publisher, publisher_settings, publishing


async def refused(publisher: Publisher) -> None:
    """A write is answered with a clear 503 that says when to come again."""
    answer = await publisher.owner.post(f"{publisher.campaign}/settlements", {"name": "Lost"})
    assert answer.error == (503, "unavailable"), answer
    assert "the database" in answer.message
    assert "Retry-After" in answer.headers


async def agree(publisher: Publisher, folder: Path) -> None:
    """Write once more, and check that the table, the outbox and the stream have the same events."""
    made = await publisher.owner.post(f"{publisher.campaign}/settlements", {"name": "Emberford"})
    assert made.status == 201, made
    event = (await publisher.heard.event()).payload
    assert isinstance(event, SettlementUpdated)
    assert event.settlement_id == made.body["settlement"]["id"]
    assert await asyncio.to_thread(execute, folder, "publisher", "SELECT name FROM settlements") == [("Emberford",)]
    rows = await asyncio.to_thread(execute, folder, "publisher", "SELECT subject FROM outbox")
    assert sum("settlement" in subject for (subject,) in rows) == 1


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Act like a full disk: within the block, this process cannot make a file larger than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_exhausted_quota_answers_503_without_a_change_while_reads_go_on(
    publisher: Publisher, tmp_path: Path
) -> None:
    """Fault F18 of docs/topics/delivery.md."""
    with files_no_larger_than(os.path.getsize(tmp_path / "publisher.db-wal")):
        await refused(publisher)
        assert (await publisher.owner.get(publisher.campaign)).status == 200
    await agree(publisher, tmp_path)


async def test_locked_postgresql_table_answers_503_without_a_change(
    stream: NatsServer,
    auth: Auth,
    heard: Heard,
    postgres_databases: Databases,
    tmp_path: Path,
) -> None:
    """Fault F18 of docs/topics/delivery.md."""
    with chosen(postgres_databases):
        settings = publisher_settings(stream, tmp_path, f"{auth.url}/.well-known/jwks.json")
        async with publishing(settings, heard, tuning=Tuning(lock_timeout_s=0.5)) as bare:
            await bare.says("ready")
            person = await auth.sign_up("owner")
            owner = Api(bare.http, bare.url, person.token, person.id)
            created = await owner.post("/v1/campaigns", {"name": "The Vale"})
            await heard.event()
            publisher = Publisher(bare.http, bare.url, heard, {"owner": owner}, created.body["campaign"]["id"])
            other = await asyncpg.connect(settings.database_url.replace("+asyncpg", ""))
            try:
                async with other.transaction():
                    await other.execute("LOCK TABLE settlements IN ACCESS EXCLUSIVE MODE")
                    await refused(publisher)
            finally:
                await other.close()
            await agree(publisher, tmp_path)
