"""The outbox: an event's row shares the transaction of the change it tells, and a relay publishes it in order.

Commit is the only moment an event starts to exist. A crash between commit and publish leaves the row, which the next
relay sends; a crash between publish and marking sends it again under the same `Nats-Msg-Id`, which the broker drops.
What the broker may have forgotten by then is looked up in the stream before it is sent again. So rows can be marked
late, many in one transaction.

Of several processes on one database one relays: it holds the lease, and marks a row only while it does. Another takes
over where rows wait and the lease was not renewed for `LEASE_S` seconds. Two at once, for a moment, do no harm: each
sends those of a root in the order of their rows, and the broker stores each once.
"""

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import nats.errors
from nats.aio.client import Client
from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from shared import broker, logs, lookup
from shared.database import Database, DatabaseAway, UtcDateTime
from shared.envelope import Envelope
from shared.metrics import Counter, Gauge
from shared.position import Position
from shared.reading import ReadFailed

log = logs.get(__name__)

PENDING = Gauge("outbox_pending", "Events committed and not yet acknowledged by the broker")
OLDEST = Gauge("outbox_oldest_s", "Age of the oldest such event, in seconds")
PUBLISHED = Counter("outbox_published_total", "Events acknowledged by the broker")
REFUSED = Counter("outbox_refused_total", "Events the broker refused for good")
FOUND = Counter("outbox_found_total", "Events that were in the stream already when they were looked up")

BATCH = 200
IN_FLIGHT = 32
"""Events on their way to the broker at a time, each of another root. The broker syncs its disk for every one."""
MARK_S = 0.05
"""How long rows are gathered before they are marked as acknowledged: a transaction, and a sync, for all of them."""
POLL_S = 1.0
SEND_S = 30.0
"""How long one event is tried before its row is looked at again: it may be too old by then to be sent unseen."""
LAST_EVENTS_S = 2.0
LEASE_S = 2.0
LEASE_DEAD = timedelta(minutes=1)  # taken over at once, whatever the clocks of two hosts differ by
MAX_UNMARKED = 1_000  # of a database that can be read and not written
LOOK_S = 0.03
FORGET_EVERY_S = 600.0
REMEMBERED = 10_000
KEEP = timedelta(days=8)  # longer than the stream keeps events, so that a lost stream can be told from a lost row
LEASE = "outbox_lease"


def table(metadata: MetaData) -> Table:
    """The outbox table, in a service's own schema, and the table of its lease beside it.

    A row with no `stream_offset` has not been acknowledged. Its `event_id` is what the broker knows the event by, the
    `Nats-Msg-Id`.
    """
    Table(
        LEASE,
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("holder", String(64), nullable=False),
        Column("renewed_at", UtcDateTime, nullable=False),
    )
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

    def __init__(
        self,
        database: Database,
        rows: Table,
        *,
        service: str = "publisher",
        duplicate_window_s: float = broker.DUPLICATE_WINDOW_S,
    ) -> None:
        """`service` is the broker user that relays, `duplicate_window_s` the stream's: how long it knows a repeat."""
        self._service = service
        self._database = database
        self._rows = rows
        self._lease = _Lease(database, rows.metadata.tables[LEASE])
        # Half of it: the clocks of database, publisher and broker are three.
        self._surely_known = timedelta(seconds=duplicate_window_s / 2)
        self._committed = asyncio.Event()
        self._unmarked: dict[int, _Mark] = {}
        self._to_mark = asyncio.Event()
        self._forget_at = 0.0
        self._untold = False
        self._cursors: OrderedDict[str, str | None] = OrderedDict()
        self._waiting: dict[str, asyncio.Future[str | None]] = {}
        self.position = Position()

    async def add(self, tx: AsyncConnection, envelopes: Sequence[Envelope]) -> None:
        """Write events in the caller's transaction. Call `wake` once it is committed.

        Raises InvalidEvent for one that is too large: the broker would refuse it when the change cannot be undone.
        """
        if not envelopes:
            return
        now = datetime.now(UTC)
        await tx.execute(
            insert(self._rows),
            [
                {"event_id": one.message_id, "subject": one.subject, "body": one.encode(), "created_at": now}
                for one in envelopes
            ],
        )

    def wake(self) -> None:
        """Tell the relay that something was committed here. Without it, the relay finds it within a second."""
        self._untold = True
        self._committed.set()

    def woken(self) -> None:
        """As `wake`, where another process committed something and said so."""
        self._committed.set()

    async def cursor_of(self, event_id: str, timeout_s: float) -> str | None:
        """The place in the stream of an event that was committed here, by its message id, as `<epoch>:<offset>`.

        None where it is not known within `timeout_s` seconds: the broker is away. It is published nevertheless.
        """
        life = self.position.life
        try:
            async with asyncio.timeout(timeout_s):
                while event_id not in self._cursors:
                    waiting = self._waiting.setdefault(event_id, asyncio.get_running_loop().create_future())
                    await asyncio.wait([waiting], timeout=LOOK_S)
                    if event_id not in self._cursors and not self._lease.is_held:
                        await self._look(event_id, life)
        except (TimeoutError, DatabaseAway, SQLAlchemyError):
            return None
        finally:
            self._waiting.pop(event_id, None)
        return self._cursors[event_id]

    async def cursor_after(self, event_ids: Sequence[str], timeout_s: float) -> str | None:
        """As `cursor_of`, of whichever of these events is the last in the stream: those of different roots may be in
        another order there. None where one of them is not known, or the stream was lost between them."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        cursors = [await self.cursor_of(event_id, max(0, until - loop.time())) for event_id in event_ids]
        known = [(epoch, int(offset)) for epoch, _, offset in (one.partition(":") for one in cursors if one)]
        if len(known) < len(event_ids) or len({epoch for epoch, _ in known}) != 1:
            return None
        epoch, offset = max(known)
        return f"{epoch}:{offset}"

    def known_cursor(self, event_id: str) -> str | None:
        """As `cursor_of`, of what this process has heard already."""
        return self._cursors.get(event_id)

    async def relay(self, nc: Client, *, nudge: str | None = None) -> None:
        """Publish committed events for ever, those of a root in the order of their rows. Owned by the service's app.

        Where another process holds the lease, it is told of new rows on the subject `nudge`.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._mark_for_ever(), name="marks")
            while True:
                broker.check_cancelled()
                self._committed.clear()
                await self._relay_waiting(nc, nudge)
                try:
                    async with asyncio.timeout(POLL_S):
                        await self._committed.wait()
                except TimeoutError:
                    pass

    async def _relay_waiting(self, nc: Client, nudge: str | None) -> None:
        try:
            while await self._publish_batch(nc):
                pass
            if nudge and self._untold and not self._lease.is_held:
                await nc.publish(nudge, b"")
            self._untold = False
            await self._forget()
        except DatabaseAway as error:
            log.warning("relay waits for the database", reason=error.message)
        except Exception:
            log.exception("relay failed, going on")

    async def _mark_for_ever(self) -> None:
        """Mark what was acknowledged, `MARK_S` seconds later at the soonest."""
        while True:
            broker.check_cancelled()
            await self._to_mark.wait()
            self._to_mark.clear()
            await asyncio.sleep(MARK_S)
            try:
                await self._mark()
            except Exception as error:
                log.warning("cannot mark what was sent, trying again", error=type(error).__name__)
                await asyncio.sleep(POLL_S)
                self._to_mark.set()

    async def finish(self, nc: Client) -> None:
        """Publish what still waits, for `LAST_EVENTS_S` seconds at most: for a service that stops, after `relay` ended.

        The rest waits for the next start, or for another process.
        """
        try:
            async with asyncio.timeout(LAST_EVENTS_S):
                await self.drain(nc)
                await self._lease.release()
        except* (TimeoutError, DatabaseAway, SQLAlchemyError, nats.errors.Error) as failed:
            log.warning("stopping with events not yet sent", error=type(failed.exceptions[0]).__name__)

    async def drain(self, nc: Client) -> None:
        """Publish and mark until nothing is waiting, as long as it takes, or until another process does it. Not while
        `relay` runs."""
        while await self._publish_batch(nc):
            await self._mark()
        await self._mark()

    async def _publish_batch(self, nc: Client) -> bool:
        """Publish what is first in line. False when no more was waiting, or another relays."""
        if len(self._unmarked) >= MAX_UNMARKED:
            await self._mark()
        batch, is_all = await self._first_in_line()
        if not batch or not await self._lease.take():
            return False
        old = [row for row in batch if self._is_old(row)]
        stored: dict[str, int] = {}
        if old:
            try:
                async with asyncio.timeout(SEND_S):
                    stored = await self._look_up(nc, old)
            except (TimeoutError, ReadFailed) as error:
                log.warning("the broker does not answer, going on", error=str(error) or "timeout")
                return True
            if not await self._lease.take():
                return False
        is_sent = await self._send(nc, batch, stored, looked_up={row.id for row in old})
        return not (is_all and is_sent)

    async def _first_in_line(self) -> tuple[list[Row[Any]], bool]:
        """The rows to publish next, and whether there are no more."""
        known = set(self._unmarked)  # from before the read: what is marked meanwhile may still be in it
        limit = BATCH + len(known)
        waiting = select(self._rows).where(self._rows.c.published_at.is_(None))
        async with self._database.reading() as connection:
            found = (await connection.execute(waiting.order_by(self._rows.c.id).limit(limit))).all()
            is_all = len(found) < limit
            count = len(found) if is_all else await connection.scalar(waiting.with_only_columns(func.count())) or 0
        batch = [row for row in found if row.id not in known]
        PENDING.set(max(0, count - len(known)) if batch else 0)
        OLDEST.set((datetime.now(UTC) - batch[0].created_at).total_seconds() if batch else 0)
        return batch, is_all

    async def _send(
        self, nc: Client, batch: Sequence[Row[Any]], stored: dict[str, int], *, looked_up: set[int]
    ) -> bool:
        """Publish these rows, of a root one at a time. Returns whether all were acknowledged."""
        lines: dict[str, list[Row[Any]]] = {}
        for row in batch:
            lines.setdefault(_root(row.subject), []).append(row)
        free = asyncio.Semaphore(IN_FLIGHT)

        async def send(line: list[Row[Any]]) -> bool:
            for row in line:
                broker.check_cancelled()
                async with free:
                    if not self._lease.is_sure() or (self._is_old(row) and row.id not in looked_up):
                        return False  # we stood still: another may have sent it, so long ago that it is stored again
                    if not await self._publish(nc, row, stored.get(row.event_id)):
                        return False
            return True

        async with asyncio.TaskGroup() as tasks:
            sending = [tasks.create_task(send(line)) for line in lines.values()]
        return all(task.result() for task in sending)

    async def _look_up(self, nc: Client, old: Sequence[Row[Any]]) -> dict[str, int]:
        """Where those events are that may have been sent so long ago that the broker would store them again.

        A row was not sent before it was written: a young one needs no look.
        """
        since = min(row.created_at for row in old) - timedelta(minutes=1)
        return await lookup.find(nc, self._service, {row.subject for row in old}, since=since)

    def _is_old(self, row: Row[Any]) -> bool:
        return bool(datetime.now(UTC) - row.created_at > self._surely_known)

    async def _publish(self, nc: Client, row: Row[Any], stored: int | None) -> bool:
        """Publish an event and wait for its acknowledgement, `SEND_S` seconds at most; `stored` is where it is already.

        One at a time of each root: of two, the first could be lost and sent again behind the second. Returns whether it
        is done with.
        """
        life, offset = self.position.life, stored
        try:
            if stored is not None:
                FOUND.inc()
            else:
                async with asyncio.timeout(SEND_S):
                    offset = await broker.publish(nc, row.subject, row.body, message_id=row.event_id)
                PUBLISHED.inc()
        except TimeoutError:
            log.warning("the broker does not answer, going on", subject=row.subject)
            return False
        except broker.BrokerRefused as error:
            # Waiting would stop everything behind it; the row stays, marked, for an operator to see.
            REFUSED.inc()
            log.error("broker refused an event", event_id=row.event_id, subject=row.subject, reason=str(error))
        if offset is not None:
            self._remember(row.event_id, self.position.acknowledged(offset, life))
        self._unmarked[row.id] = _Mark(row.id, datetime.now(UTC), offset)
        self._to_mark.set()
        return True

    async def _mark(self) -> None:
        """Mark what was acknowledged, in one transaction, if the lease is still ours. Where another has it, that one
        sends and marks it; the broker stores it once."""
        if not self._unmarked:
            return
        marks = list(self._unmarked.values())
        done = update(self._rows).where(self._rows.c.id == bindparam("row_id"))
        done = done.values(published_at=bindparam("at"), stream_offset=bindparam("offset"))
        try:
            async with self._database.writing() as tx:
                await self._lease.renew(tx)
                await tx.execute(done, [mark._asdict() for mark in marks])
        except LeaseLost:
            log.info("another process relays now")
        for mark in marks:
            self._unmarked.pop(mark.row_id, None)

    def _remember(self, event_id: str, cursor: str | None) -> None:
        self._cursors[event_id] = cursor
        if len(self._cursors) > REMEMBERED:
            self._cursors.popitem(last=False)
        waiting = self._waiting.get(event_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(cursor)

    async def _look(self, event_id: str, life: int) -> None:
        """See whether the process that relays has sent an event."""
        query = select(self._rows.c.stream_offset).where(self._rows.c.event_id == event_id)
        async with self._database.reading() as connection:
            offset = await connection.scalar(query)
        if offset is not None:
            self._remember(event_id, self.position.acknowledged(offset, life))

    async def _forget(self) -> None:
        """Delete rows the stream no longer has either. Looks for them every `FORGET_EVERY_S` seconds."""
        if time.monotonic() < self._forget_at:
            return
        old = self._rows.c.published_at < datetime.now(UTC) - KEEP
        async with self._database.reading() as connection:
            found = await connection.scalar(select(self._rows.c.id).where(old).limit(1))
        if found is not None:
            async with self._database.writing() as tx:
                await tx.execute(delete(self._rows).where(old))
        self._forget_at = time.monotonic() + FORGET_EVERY_S


class _Mark(NamedTuple):
    """A row that the broker acknowledged; without an offset where it refused it for good."""

    row_id: int
    at: datetime
    offset: int | None


def _root(subject: str) -> str:
    """What the events have in common whose order counts: the subject's first pair."""
    return ".".join(subject.split(".", 2)[:2])


class LeaseLost(Exception):
    """Another process relays this database now."""


class _Lease:
    """Who relays: one row. It is renewed whenever rows are marked, and costs nothing while nothing is sent."""

    def __init__(self, database: Database, rows: Table) -> None:
        self._database = database
        self._rows = rows
        self._me = uuid.uuid4().hex
        self._seen: tuple[str, datetime] | None = None
        self._seen_at = 0.0
        self._sure_until = (0.0, 0.0)
        self.is_held = False

    async def take(self) -> bool:
        """Take the lease, if it is free, mine, or not renewed for `LEASE_S` seconds, by my clock."""
        if self.is_held and self.is_sure():
            return True
        async with self._database.reading() as connection:
            row = (await connection.execute(select(self._rows))).first()
        if row is not None and row.holder == self._me:
            self.is_held = True
        elif row is None or self._is_stale(row.holder, row.renewed_at):
            self.is_held = await self._seize(row)
        else:
            self.is_held = False
        if self.is_held:
            self._note_sure()
        return self.is_held

    def is_sure(self) -> bool:
        """Whether nobody can have taken it since it was last taken or renewed: we did not stand still meanwhile."""
        monotonic, wall = self._sure_until
        return time.monotonic() < monotonic and time.time() < wall

    def _note_sure(self) -> None:
        # Two clocks: one stands still while a machine sleeps, the other may be set.
        self._sure_until = time.monotonic() + LEASE_S / 2, time.time() + LEASE_S / 2

    async def renew(self, tx: AsyncConnection) -> None:
        """Renew it in the transaction that marks a row. Raises LeaseLost, and nothing is marked."""
        mine = update(self._rows).where(self._rows.c.holder == self._me)
        if (await tx.execute(mine.values(renewed_at=datetime.now(UTC)))).rowcount == 0:
            self.is_held = False
            raise LeaseLost
        self._note_sure()

    async def release(self) -> None:
        """Give it back, if it is mine."""
        if self.is_held:
            self.is_held = False
            async with self._database.writing() as tx:
                mine = update(self._rows).where(self._rows.c.holder == self._me)
                await tx.execute(mine.values(holder="", renewed_at=datetime.now(UTC)))

    def _is_stale(self, holder: str, renewed_at: datetime) -> bool:
        now = time.monotonic()
        if self._seen != (holder, renewed_at):
            self._seen, self._seen_at = (holder, renewed_at), now
        return not holder or now - self._seen_at > LEASE_S or datetime.now(UTC) - renewed_at > LEASE_DEAD

    async def _seize(self, row: Row[Any] | None) -> bool:
        mine = {"holder": self._me, "renewed_at": datetime.now(UTC)}
        try:
            async with self._database.writing() as tx:
                if row is None:
                    await tx.execute(insert(self._rows).values(id=1, **mine))
                    return True
                unchanged = (self._rows.c.holder == row.holder) & (self._rows.c.renewed_at == row.renewed_at)
                return (await tx.execute(update(self._rows).where(unchanged).values(**mine))).rowcount == 1
        except IntegrityError:  # two made the first row at once
            return False
