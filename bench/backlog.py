"""A backlog in a service's outbox: how fast its relay publishes it to the durable stream."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import MetaData, insert

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker, outbox_table, relay
from beaconfire_kit.database import Database
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.relay import Relay
from beaconfire_kit.settings import Settings
from bench import syncs
from bench.load import EVENT

TABLES = MetaData()
ROWS = outbox_table.table(TABLES)
ROOTS = 100
TRACED = 2_000


def drained_per_s(nats: NatsServer, folder: Path, events: int, *, in_batches: bool) -> float:
    """Commit events of `ROOTS` roots to a new SQLite database, have a relay publish them, and return how many a second.

    The time for marking the rows counts, too.
    """
    return asyncio.run(_drain(nats, folder, events, in_batches=in_batches))


def syncs_each(nats: NatsServer, folder: Path, *, in_batches: bool) -> float | None:
    """Return how often the broker syncs its disk for each event of a backlog. None if strace is not installed."""
    assert nats.process.pid is not None
    with syncs.counted(nats.process.pid, folder) as found:
        drained_per_s(nats, folder, TRACED, in_batches=in_batches)
    return None if found.count is None else found.count / TRACED


async def _drain(nats: NatsServer, folder: Path, events: int, *, in_batches: bool) -> float:
    database = Database(f"sqlite+aiosqlite:///{folder / f'backlog-{time.monotonic_ns()}.db'}")
    settings = Settings(nats_url=nats.url, nats_user="publisher", nats_password=SecretStr(nats.passwords["publisher"]))
    nc = await broker.connect(settings, "backlog", on_closed=lambda: None)
    try:
        async with database.writing() as tx:
            await tx.run_sync(TABLES.create_all)
            await tx.execute(insert(ROWS), [_row(number) for number in range(events)])
        rows_at_a_time = relay.BATCH if in_batches else relay.ATOMIC_FROM - 1
        began = time.monotonic()
        await Relay(Outbox(database, ROWS), service="publisher", batch=rows_at_a_time).drain(nc)
        return events / (time.monotonic() - began)
    finally:
        await broker.close(nc)
        await database.close()


def _row(number: int) -> dict[str, object]:
    body = EVENT.replace("{n}", str(number)).replace("{r}", "0").replace("{t}", f"{number:015}")
    return {
        "event_id": f"backlog-{time.monotonic_ns()}-{number}",
        "subject": f"campaign.backlog{number % ROOTS}.settlement.s0",
        "body": body.encode(),
        "created_at": datetime.now(UTC),
    }
