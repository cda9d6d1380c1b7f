"""The outbox: an event's row shares the transaction of the change it tells, and a relay publishes it in order.

Commit is the only moment an event starts to exist. A crash between commit and publish leaves the row, which the next
relay sends; a crash between publish and marking sends it again under the same `Nats-Msg-Id`, which the broker drops.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from nats.aio.client import Client
from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from shared import broker, logs
from shared.database import Database, UtcDateTime
from shared.envelope import Envelope
from shared.metrics import Counter, Gauge

log = logs.get(__name__)

PENDING = Gauge("outbox_pending", "Events committed and not yet acknowledged by the broker")
OLDEST = Gauge("outbox_oldest_s", "Age of the oldest such event, in seconds")
PUBLISHED = Counter("outbox_published_total", "Events acknowledged by the broker")
REFUSED = Counter("outbox_refused_total", "Events the broker refused for good")

BATCH = 100
POLL_S = 1.0
LAST_EVENTS_S = 2.0
KEEP = timedelta(days=8)  # longer than the stream keeps events, so that a lost stream can be told from a lost row


def table(metadata: MetaData) -> Table:
    """The outbox table, in a service's own schema. A row with no `stream_offset` has not been acknowledged."""
    return Table(
        "outbox",
        metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("event_id", String(128), nullable=False, unique=True),
        Column("subject", String(1200), nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        Column("published_at", UtcDateTime, index=True),
        Column("stream_offset", BigInteger),
    )


class Outbox:
    """Adds events to a transaction and relays what is committed."""

    def __init__(self, database: Database, rows: Table) -> None:
        self._database = database
        self._rows = rows
        self._committed = asyncio.Event()

    async def add(self, tx: AsyncConnection, envelopes: Sequence[Envelope]) -> None:
        """Write events in the caller's transaction. Call `wake` once it is committed."""
        if not envelopes:
            return
        now = datetime.now(UTC)
        await tx.execute(
            insert(self._rows),
            [
                {"event_id": one.id, "subject": one.subject, "body": one.encode(), "created_at": now}
                for one in envelopes
            ],
        )

    def wake(self) -> None:
        """Tell the relay that something was committed. Without it, the relay finds it within a second."""
        self._committed.set()

    async def relay(self, nc: Client) -> None:
        """Publish committed events in the order of their rows, one at a time, for ever. Owned by the service's app.

        Sequential on purpose: with two in flight, the first could be lost and sent again behind the second.
        """
        while True:
            broker.check_cancelled()
            self._committed.clear()
            try:
                await self.drain(nc)
                await self._forget()
            except Exception:
                log.exception("relay failed, going on")
            try:
                async with asyncio.timeout(POLL_S):
                    await self._committed.wait()
            except TimeoutError:
                pass

    async def finish(self, nc: Client) -> None:
        """Publish what still waits, for `LAST_EVENTS_S` seconds at most: for a service that stops, after `relay` ended.

        The rest waits for the next start.
        """
        try:
            async with asyncio.timeout(LAST_EVENTS_S):
                await self.drain(nc)
        except TimeoutError:
            log.warning("stopping with events not yet sent")

    async def drain(self, nc: Client) -> None:
        """Publish until nothing is waiting, as long as it takes. Not while `relay` runs."""
        while await self._publish_batch(nc):
            pass

    async def _publish_batch(self, nc: Client) -> bool:
        """Publish what is first in line. False when nothing was waiting."""
        waiting = select(self._rows).where(self._rows.c.published_at.is_(None))
        async with self._database.reading() as connection:
            batch = (await connection.execute(waiting.order_by(self._rows.c.id).limit(BATCH))).all()
            pending = await connection.scalar(select(func.count()).select_from(waiting.subquery())) or 0
        PENDING.set(pending)
        OLDEST.set((datetime.now(UTC) - batch[0].created_at).total_seconds() if batch else 0)
        for row in batch:
            broker.check_cancelled()
            await self._publish(nc, row.id, row.event_id, row.subject, row.body)
        return bool(batch)

    async def _publish(self, nc: Client, row_id: int, event_id: str, subject: str, body: bytes) -> None:
        offset: int | None = None
        try:
            offset = await broker.publish(nc, subject, body, message_id=event_id)
            PUBLISHED.inc()
        except broker.BrokerRefused as error:
            # Waiting would stop everything behind it; the row stays, marked, for an operator to see.
            REFUSED.inc()
            log.error("broker refused an event", event_id=event_id, subject=subject, reason=str(error))
        done = update(self._rows).where(self._rows.c.id == row_id)
        async with self._database.writing() as tx:
            await tx.execute(done.values(published_at=datetime.now(UTC), stream_offset=offset))

    async def _forget(self) -> None:
        """Delete rows the stream no longer has either."""
        old = self._rows.c.published_at < datetime.now(UTC) - KEEP
        async with self._database.reading() as connection:
            found = await connection.scalar(select(self._rows.c.id).where(old).limit(1))
        if found is not None:
            async with self._database.writing() as tx:
                await tx.execute(delete(self._rows).where(old))
