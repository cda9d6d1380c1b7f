"""The relay killed -9 again and again: the stream ends up equal to the table, in the order of its rows."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import func, select

from beaconfire.local_services import ServiceProcess
from beaconfire_kit import relay
from beaconfire_kit.database import Database
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.migrations import open_database
from beaconfire_kit.outbox import Outbox
from beaconfire_publisher.migrations import MIGRATIONS
from beaconfire_publisher.store import OUTBOX
from tests.faults.world import World

KILLED_WITHIN_S = 0.3
MANY = 2 * relay.ATOMIC_FROM
"""So many are published in an atomic batch."""


async def relay_killed(world: World, rounds: int) -> None:
    """A publisher killed -9 at random moments while transactions are committed beside it.

    Fails where an event of the table is not in the stream once, or not in the order of its row.
    """
    url = f"sqlite+aiosqlite:///{world.folder / 'publisher.db'}"
    database = Database(url)
    await open_database(database, MIGRATIONS, migrate=True)
    try:
        async with _publisher(world, url) as publisher:
            async with _committing(database) as written:
                for _ in range(rounds):
                    await written.more(30)
                    await asyncio.sleep(random.uniform(0, KILLED_WITHIN_S))  # any moment is as good as another
                    publisher.kill()
                    await written.more(30)
                    await asyncio.to_thread(publisher.start)
            await _all_sent(database)
        async with database.reading() as connection:
            rows = list(await connection.scalars(select(OUTBOX.c.event_id).order_by(OUTBOX.c.id)))
    finally:
        await database.close()
    await world.publish()  # events acknowledged up to here are in the stream
    known = set(rows)
    stream = [event.id for _, event in sorted((await world.read_stream()).items()) if event.id in known]
    assert stream == rows, "the stream is not what the table says"


class Written:
    """Counts what is committed."""

    def __init__(self) -> None:
        self.count = 0
        self.one_more = asyncio.Event()

    async def more(self, count: int) -> None:
        """Wait for as many more."""
        wanted = self.count + count
        while self.count < wanted:
            self.one_more.clear()
            await self.one_more.wait()


@asynccontextmanager
async def _publisher(world: World, url: str) -> AsyncIterator[ServiceProcess]:
    environment = {
        **world.nats.environment("publisher"),
        "BEACONFIRE_DATABASE_URL": url,
        "BEACONFIRE_JWKS_URL": world.auth.jwks_url,
    }
    process = ServiceProcess("publisher", "beaconfire_publisher", environment, folder=world.folder / "logs")
    try:
        await asyncio.to_thread(process.start)
        yield process
    finally:
        process.kill()


@asynccontextmanager
async def _committing(database: Database) -> AsyncIterator[Written]:
    """Transactions of one to three events are committed while the block runs, and now and then one of many."""
    written = Written()
    task = asyncio.create_task(_commit(database, written))
    try:
        yield written
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _commit(database: Database, written: Written) -> None:
    outbox = Outbox(database, OUTBOX)
    while True:
        count = random.choice((1, 1, 2, 2, 3, 3, MANY))
        async with database.transaction() as tx:
            await outbox.add(tx, [_event(written.count + number) for number in range(count)])
        written.count += count
        written.one_more.set()
        await asyncio.sleep(0.01)


def _event(number: int) -> Envelope:
    payload = SettlementUpdated(
        campaign_id="c1", settlement_id=f"s{number % 5}", operation="update", changed_fields=("level",)
    )
    return Envelope(payload, Metadata(source="relayed"))


async def _all_sent(database: Database) -> None:
    waiting = select(func.count()).select_from(OUTBOX).where(OUTBOX.c.published_at.is_(None))
    while True:
        async with database.reading() as connection:
            if not await connection.scalar(waiting):
                return
        await asyncio.sleep(0.1)
