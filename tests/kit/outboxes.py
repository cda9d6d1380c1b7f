"""An outbox in a real database, and its relay to a real broker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from sqlalchemy import MetaData, select, text

from beaconfire_kit import outbox_table
from beaconfire_kit.database import Database
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.relay import Relay
from tests.databases import database_url

TABLES = MetaData()
ROWS = outbox_table.table(TABLES)
PATIENCE_S = 20.0


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Database]:
    """Open a database that has an outbox table."""
    database = Database(database_url(folder, "outbox"))
    async with database.writing() as tx:
        await tx.run_sync(TABLES.create_all)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def relaying(box: Outbox, nc: Client, **options: Any) -> AsyncIterator[Relay]:
    """Run the relay of an outbox within the block, with these options of `Relay`."""
    relay = Relay(box, service="publisher", **options)
    running = asyncio.create_task(relay.run(nc))
    try:
        yield relay
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def relay_of(box: Outbox) -> Relay:
    """A relay as the publisher has it."""
    return Relay(box, service="publisher")


def envelope(id_: str, campaign_id: str = "c1") -> Envelope:
    """An event with this id."""
    told = SettlementUpdated(campaign_id=campaign_id, settlement_id="s1", operation="update", changed_fields=("level",))
    return Envelope(told, Metadata(source="api"), id=id_)


async def commit_all(database: Database, box: Outbox, envelopes: Sequence[Envelope]) -> None:
    """Commit events in one transaction and wake the relay."""
    async with database.writing() as tx:
        added = await box.add(tx, envelopes)
    box.wake(added)


async def heard(ids: "asyncio.Queue[str]", count: int) -> list[str]:
    """Wait for the ids of the next `count` events in the stream."""
    async with asyncio.timeout(PATIENCE_S):
        return [await ids.get() for _ in range(count)]


async def column(database: Database, name: str) -> list[Any]:
    """The values of a column, in the order of the rows."""
    async with database.reading() as connection:
        return list((await connection.execute(select(ROWS.c[name]).order_by(ROWS.c.id))).scalars())


async def execute(database: Database, *statements: str) -> None:
    """Run statements in one transaction."""
    async with database.writing() as tx:
        for statement in statements:
            await tx.execute(text(statement))
