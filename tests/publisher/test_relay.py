"""A change and its event, across SIGKILL of the whole publisher."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import text

from beaconfire.local_services import ServiceProcess
from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.database import Database
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.lease import LEASE
from beaconfire_kit.stream_setup import declare_stream
from tests.auth.conftest import Auth
from tests.conftest import connected
from tests.databases import database_url, on_both_databases
from tests.forked import forked
from tests.publisher.conftest import Api, Heard, Publisher

pytestmark = on_both_databases

KILLS = 5


@pytest.fixture(name="process")
async def _process(stream: NatsServer, auth: Auth, tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    """The publisher as it runs in production."""
    environment = {
        **stream.environment("publisher"),
        "BEACONFIRE_DATABASE_URL": database_url(tmp_path, "publisher"),
        "BEACONFIRE_JWKS_URL": f"{auth.url}/.well-known/jwks.json",
    }
    service = forked(ServiceProcess("publisher", "beaconfire_publisher", environment, folder=tmp_path))
    await asyncio.to_thread(service.start)
    yield service
    await asyncio.to_thread(service.stop)


@pytest.fixture(name="database")
async def _database(process: ServiceProcess) -> AsyncIterator[Database]:
    """The publisher's database, to look into."""
    database = Database(process.process.environment["BEACONFIRE_DATABASE_URL"])
    yield database
    await database.close()


@pytest.fixture(name="running")
async def _running(process: ServiceProcess, auth: Auth, heard: Heard) -> AsyncIterator[Publisher]:
    """A running publisher: its address, and the owner of a campaign."""
    person = await auth.sign_up("owner")
    # A new connection for each call: the other end of a kept one may have been killed.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        owner = Api(http, process.url, person.token, person.id)
        created = await owner.post("/v1/campaigns", {"name": "The Vale"})
        await heard.event()
        yield Publisher(http, process.url, heard, {"owner": owner}, created.body["campaign"]["id"])


async def until_marked(database: Database) -> None:
    """Wait until no row of the outbox waits."""
    async with asyncio.timeout(20):
        while True:
            async with database.reading() as connection:
                if not await connection.scalar(text("SELECT count(*) FROM outbox WHERE published_at IS NULL")):
                    return
            await asyncio.sleep(0.01)


async def test_change_committed_before_a_kill_is_published_once_by_the_next_publisher(
    running: Publisher, process: ServiceProcess, stream: NatsServer, database: Database
) -> None:
    await until_marked(database)  # what is not marked belongs into the new stream, too
    async with connected(stream, "setup") as setup:
        await setup.request(f"$JS.API.STREAM.DELETE.{broker.STREAM}", b"")
        created = await running.owner.post(f"{running.campaign}/settlements", {"name": "Emberford"})
        process.kill()
        await declare_stream(setup)

    await asyncio.to_thread(process.start)
    first = await running.heard.event()
    await running.owner.post(f"{running.campaign}/world-time", {"advanceSeconds": 1})
    second = await running.heard.event()

    assert created.status == 201
    assert isinstance(first.payload, SettlementUpdated)
    assert first.payload.settlement_id == created.body["settlement"]["id"]
    assert second.type == "world_time_changed"


async def test_stopping_publisher_sends_the_events_of_answered_changes_first(
    running: Publisher, process: ServiceProcess
) -> None:
    path = f"{running.campaign}/settlements"
    answers = await asyncio.gather(*(running.owner.post(path, {"name": "Emberford"}) for _ in range(10)))

    await asyncio.to_thread(process.stop)
    told = {(await running.heard.told())["settlementId"] for _ in answers}

    assert process.process.exit_code == 0
    assert told == {answer.body["settlement"]["id"] for answer in answers}


async def test_every_stored_settlement_is_published_once_however_often_the_publisher_is_killed(
    running: Publisher, process: ServiceProcess, database: Database
) -> None:
    """F14: a settlement that is not stored is not published."""
    path = f"{running.campaign}/settlements"

    answered = asyncio.Semaphore(0)

    async def create() -> None:
        with suppress(aiohttp.ClientError):  # killed meanwhile: it may be there or not
            await running.owner.post(path, {"name": "Emberford"})
        answered.release()

    for _ in range(KILLS):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(20):
                tasks.create_task(create())
            for _ in range(random.randint(1, 10)):
                await answered.acquire()
            await asyncio.sleep(random.uniform(0, 0.02))  # any moment is as good as another
            process.kill()
        async with database.writing() as tx:  # so that the next life relays from its start, and is killed relaying
            await tx.execute(text(f"UPDATE {LEASE} SET holder = ''"))
        await asyncio.to_thread(process.start)
    there = {one["id"] for one in (await running.owner.get(path)).body["settlements"]}
    await running.owner.post(f"{running.campaign}/world-time", {"advanceSeconds": 1})
    told: Counter[str] = Counter()
    while isinstance(payload := (await running.heard.event()).payload, SettlementUpdated):
        told[payload.settlement_id] += 1

    assert there
    assert told == Counter(there)
