"""The publisher while its PostgreSQL is restarted under load (F18)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.events.campaign import SettlementUpdated
from tests.auth.conftest import Auth
from tests.databases import Databases, Postgres, chosen
from tests.publisher.conftest import Api, Heard, Publisher, publisher_settings, publishing

WRITERS = 5


@pytest.fixture(name="publisher")
async def _publisher(
    stream: NatsServer, auth: Auth, heard: Heard, postgres_databases: Databases, tmp_path: Path
) -> AsyncIterator[Publisher]:
    """A publisher on PostgreSQL, with the owner of a campaign; auth, which decides, is on SQLite and stays."""
    with chosen(postgres_databases):
        settings = publisher_settings(stream, tmp_path, f"{auth.url}/.well-known/jwks.json", database_connections=4)
        async with publishing(settings, heard) as bare:
            await bare.says("ready")
            person = await auth.sign_up("owner")
            owner = Api(bare.http, bare.url, person.token, person.id)
            created = await owner.post("/v1/campaigns", {"name": "The Vale"})
            await heard.event()
            yield Publisher(bare.http, bare.url, heard, {"owner": owner}, created.body["campaign"]["id"])


async def test_writes_fail_while_postgresql_restarts_and_every_stored_settlement_is_published_once(
    publisher: Publisher, postgres: Postgres
) -> None:
    path = f"{publisher.campaign}/settlements"
    seen: Counter[int] = Counter()
    acknowledged: set[str] = set()
    ending = asyncio.Event()

    async def write() -> None:
        while not ending.is_set():
            answer = await publisher.owner.post(path, {"name": "Emberford"})
            seen[answer.status] += 1
            if answer.status == 201:
                acknowledged.add(answer.body["settlement"]["id"])
            else:
                assert answer.error == (503, "unavailable")

    async def has_seen(status: int, more: int) -> None:
        least = seen[status] + more
        async with asyncio.timeout(30):
            while seen[status] < least:
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WRITERS):
            tasks.create_task(write())
        await has_seen(201, 10)
        await asyncio.to_thread(postgres.stop_at_once)
        await has_seen(503, 10)
        postgres.start()
        await has_seen(201, 10)
        ending.set()
    there = {one["id"] for one in (await publisher.owner.get(path)).body["settlements"]}
    await publisher.owner.post(f"{publisher.campaign}/world-time", {"advanceSeconds": 1})
    told: Counter[str] = Counter()
    while isinstance(payload := (await publisher.heard.event()).payload, SettlementUpdated):
        told[payload.settlement_id] += 1

    assert set(seen) == {201, 503}
    assert acknowledged <= there
    assert told == Counter(there)
