"""The outbox: an event's row shares the transaction of the change it tells, and a relay publishes it in order.

Commit is the only moment an event starts to exist. A crash between commit and publish leaves the row, which the next
relay sends; a crash between publish and marking sends it again under the same `Nats-Msg-Id`, which the broker drops.
What the broker may have forgotten by then is looked up in the stream before it is sent again. So rows can be marked
late, many in one transaction.

An event that the broker refuses is set aside: its row keeps the reason in `refused`, is counted and shown to operators,
and can be sent again (`beaconfire outbox`). Roots never wait for one another: while an event of one root is not
acknowledged, those of the others are sent.

Of several processes on one database one relays: it holds the lease, and marks a row only while it does. Another takes
over where rows wait and the lease was not renewed for `LEASE_S` seconds. Two at once, for a moment, do no harm: each
sends those of a root in the order of their rows, and the broker stores each once.
"""

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import nats.errors
from nats.aio.client import Client
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from beaconfire_kit import broker, logs, lookup, metrics
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.database import Database, DatabaseAway, UtcDateTime
from beaconfire_kit.envelope import Envelope
from beaconfire_kit.position import Position
from beaconfire_kit.reading import ReadFailed

log = logs.get(__name__)

PENDING = metrics.Gauge(
    "beaconfire_outbox_pending_events", "Committed events that the broker has not acknowledged yet."
)
OLDEST = metrics.Gauge(
    "beaconfire_outbox_oldest_event_age_seconds",
    "Age of the oldest committed event that the broker has not acknowledged yet.",
)
ROOTS = metrics.Gauge(
    "beaconfire_outbox_waiting_roots", "Roots with committed events that the broker has not acknowledged yet."
)
SET_ASIDE = metrics.Gauge(
    "beaconfire_outbox_set_aside_events", "Events that the outbox keeps because the broker refused them for good."
)
PUBLISHED = metrics.Counter("beaconfire_outbox_events_published_total", "Events that the broker acknowledged.")
REFUSED = metrics.Counter("beaconfire_outbox_events_refused_total", "Events that the broker refused for good.")
FOUND = metrics.Counter(
    "beaconfire_outbox_events_already_stored_total",
    "Events that a lookup found in the stream, so they were not published again.",
)

BATCH = 200
IN_FLIGHT = 32
"""Events on their way to the broker at a time, each of another root. The broker syncs its disk for every one."""
GATHER_S = 0.01
"""How long a batch may take before the next rows are looked for, for roots that have nothing on its way."""
MARK_S = 0.05
"""How long rows are gathered before they are marked as acknowledged: a transaction, and a sync, for all of them."""
POLL_S = 1.0
SEND_S = 2.0
"""How long an acknowledgement is waited for. Then the row is looked at again: it may be too old to be sent unseen."""
FIND_S = 30.0
"""How long old events are looked for in the stream."""
RETRY_S = 0.25
"""How long a root waits after an event that was not acknowledged, and the relay while none is."""
MAX_HOLD_S = 10.0
"""The same for a root whose events alone are not acknowledged: it doubles each time up to here."""
STALE_S = 10.0
"""An event that waits for longer is worth an operator's attention."""
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

    `published_at` is when the relay was done with a row. Then it has a `stream_offset`, or the broker refused it: why
    is in `refused`. `event_id` is what the broker knows the event by, the `Nats-Msg-Id`.
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
        _refused := Column("refused", Text),
        # Of those that are set aside alone: they are counted all the time, among the rows of eight days.
        Index(
            "outbox_refused",
            "id",
            sqlite_where=_refused.is_not(None),
            postgresql_where=_refused.is_not(None),
        ),
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in an outbox, of one root or of all."""

    events: int = 0
    oldest: datetime | None = None
    roots: int = 0
    refused: int = 0
    """Events that the broker refused. They do not count among those that wait."""

    def age_s(self) -> float:
        """Seconds since the oldest of them was committed; 0 where none waits."""
        return (datetime.now(UTC) - self.oldest).total_seconds() if self.oldest else 0.0


@dataclass(slots=True)
class _Trouble:
    """A root whose last event was not acknowledged."""

    failures: int
    until: float
    """When it is tried again (monotonic seconds)."""


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
        self._sending: dict[str, asyncio.Task[bool]] = {}  # by root
        self._in_trouble: dict[str, _Trouble] = {}  # by root
        self._free = asyncio.Semaphore(IN_FLIGHT)
        self._finding = asyncio.Lock()
        self._acknowledged_at = time.monotonic()
        self._reason = ""
        self._waits = Waiting()
        self._forget_at = 0.0
        self._untold = False
        self._cursors: OrderedDict[str, Cursor | None] = OrderedDict()
        self._waiting: dict[str, asyncio.Future[Cursor | None]] = {}
        self.position = Position()

    async def add(self, tx: AsyncConnection, envelopes: Sequence[Envelope]) -> list[int]:
        """Write events in the caller's transaction. Call `wake` once it is committed. Returns the bytes of each.

        Raises InvalidEvent for one that is too large: the broker would refuse it when the change cannot be undone.
        """
        if not envelopes:
            return []
        now = datetime.now(UTC)
        bodies = [one.encode() for one in envelopes]
        await tx.execute(
            insert(self._rows),
            [
                {"event_id": one.message_id, "subject": one.subject, "body": body, "created_at": now}
                for one, body in zip(envelopes, bodies, strict=True)
            ],
        )
        return [len(body) for body in bodies]

    def wake(self) -> None:
        """Tell the relay that something was committed here. Without it, the relay finds it within a second."""
        self._untold = True
        self._committed.set()

    def woken(self) -> None:
        """As `wake`, where another process committed something and said so."""
        self._committed.set()

    async def cursor_of(self, event_id: str, timeout_s: float) -> Cursor | None:
        """Return the cursor of an event that was committed here, by its message id.

        None if it is not known within `timeout_s` seconds because the broker is away. The event is still published
        later.
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

    async def cursor_after(self, event_ids: Sequence[str], timeout_s: float) -> Cursor | None:
        """Return the cursor of whichever of these events comes last in the stream, as `cursor_of` does.

        Events of different roots may be in another order there. None if one of them is not known, or the stream was
        lost between them.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        cursors = [await self.cursor_of(event_id, max(0, until - loop.time())) for event_id in event_ids]
        known = [cursor for cursor in cursors if cursor is not None]
        if len(known) < len(event_ids) or len({cursor.epoch for cursor in known}) != 1:
            return None
        return max(known, key=lambda cursor: cursor.offset)

    def known_cursor(self, event_id: str) -> Cursor | None:
        """Return the cursor as `cursor_of` does, if this process knows it already. Does not wait."""
        return self._cursors.get(event_id)

    def why_stuck(self) -> str | None:
        """Why no event at all reaches the stream, None where events do or none waits. It is seen after `STALE_S`.

        Only the process that relays knows it.
        """
        silent_s = time.monotonic() - self._acknowledged_at
        if not self._lease.is_held or silent_s < STALE_S or (age_s := self._waits.age_s()) < STALE_S:
            return None
        return f"no event reaches the stream, the oldest has waited for {age_s:.0f} s: {self._reason or 'no answer'}"

    def warnings(self) -> list[str]:
        """What an operator should look at although the service can do its work."""
        said, waits = [], self._waits
        if (age_s := waits.age_s()) > STALE_S:
            said.append(
                f"{waits.events} events of {waits.roots} roots wait for the broker, the oldest for {age_s:.0f} s: "
                "`beaconfire outbox` lists them"
            )
        if waits.refused:
            said.append(f"the broker refused {waits.refused} events: `beaconfire outbox` says why and sends them again")
        return said

    async def relay(self, nc: Client, *, nudge: str | None = None) -> None:
        """Publish committed events for ever, those of a root in the order of their rows. Owned by the service's app.

        Where another process holds the lease, it is told of new rows on the subject `nudge`.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._mark_for_ever(), name="marks")
                tasks.create_task(self._survey_for_ever(), name="survey")
                while True:
                    broker.check_cancelled()
                    self._committed.clear()
                    await self._relay_waiting(nc, nudge)
                    try:
                        async with asyncio.timeout(POLL_S if nc.is_connected and not self._in_trouble else RETRY_S):
                            await self._committed.wait()
                    except TimeoutError:
                        pass
        finally:
            await self._end_sending()

    async def _relay_waiting(self, nc: Client, nudge: str | None) -> None:
        try:
            while await self._send_batch(nc):
                pass
            if nudge and self._untold and not self._lease.is_held:
                await nc.publish(nudge, b"")
            self._untold = False
            await self._forget()
        except DatabaseAway as error:
            log.warning("relay waits for the database", reason=error.message)
        except Exception:
            log.exception("relay failed, going on")

    async def _end_sending(self) -> None:
        sending = set(self._sending.values())
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)

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
                if nc.is_connected:
                    await self.drain(nc)
                await self._lease.release()
        except* (TimeoutError, DatabaseAway, SQLAlchemyError, nats.errors.Error) as failed:
            log.warning("stopping with events not yet sent", error=type(failed.exceptions[0]).__name__)

    async def drain(self, nc: Client) -> None:
        """Publish and mark until nothing is waiting, as long as it takes, or until another process does it. Not while
        `relay` runs."""
        try:
            while True:
                broker.check_cancelled()
                self._committed.clear()
                is_more = await self._send_batch(nc)
                if self._sending:
                    await asyncio.wait(set(self._sending.values()))
                await self._mark()
                if not nc.is_connected or self._in_trouble:
                    await asyncio.sleep(RETRY_S)
                elif not is_more and not self._committed.is_set():
                    return
        finally:
            await self._end_sending()

    async def _send_batch(self, nc: Client) -> bool:
        """Start to send what is first in line, of roots that have nothing on its way. False when there is no more to
        be done now: no more was waiting, another process relays, or nothing is acknowledged."""
        if not nc.is_connected:
            self._reason = "the broker is not reachable"
            return False
        if len(self._unmarked) >= MAX_UNMARKED:
            await self._mark()
        began = time.monotonic()
        rows, is_all = await self._first_in_line()
        lines: dict[str, list[Row[Any]]] = {}
        for row in rows:
            lines.setdefault(_root(row.subject), []).append(row)
        if is_all:
            self._in_trouble = {
                root: one for root, one in self._in_trouble.items() if one.until > began or root in lines
            }
        if not lines or not await self._lease.take():
            return False
        old = {root: line for root, line in lines.items() if any(self._is_old(row) for row in line)}
        if old:
            self._start(self._find_and_send(nc, old), *old)
        for root in lines.keys() - old.keys():
            self._start(self._send(nc, lines[root], None), root)
        await self._gather()
        return not is_all and not (self._in_trouble and self._acknowledged_at < began)

    def _start(self, work: Coroutine[Any, Any, bool], *roots: str) -> None:
        sending = asyncio.get_running_loop().create_task(work)
        for root in roots:
            self._sending[root] = sending
        sending.add_done_callback(partial(self._ended, roots))

    def _ended(self, roots: Sequence[str], sending: asyncio.Task[bool]) -> None:
        for root in roots:
            self._sending.pop(root, None)
        if sending.cancelled():
            return
        if (error := sending.exception()) is not None:
            log.error("could not send events, trying again", error=type(error).__name__, exc_info=error)
        elif not sending.result():
            self._committed.set()

    async def _gather(self) -> None:
        """Wait until what was started is done, or has taken `GATHER_S` seconds and leaves room for more."""
        while self._sending:
            await asyncio.wait(set(self._sending.values()), timeout=GATHER_S)
            if len(self._sending) < IN_FLIGHT:
                return

    async def _first_in_line(self) -> tuple[list[Row[Any]], bool]:
        """The rows to publish next, and whether there are no more. None of roots that have something on its way, or
        that have to wait because their last event was not acknowledged."""
        now = time.monotonic()
        known = set(self._unmarked)  # from before the read: what is marked meanwhile may still be in it
        busy = [*self._sending, *(root for root, one in self._in_trouble.items() if one.until > now)]
        limit = BATCH + len(known)
        waiting = select(self._rows).where(self._rows.c.published_at.is_(None))
        if busy:
            waiting = waiting.where(root_of(self._rows.c.subject).not_in(busy))
        async with self._database.reading() as connection:
            found = (await connection.execute(waiting.order_by(self._rows.c.id).limit(limit))).all()
        return [row for row in found if row.id not in known], len(found) < limit

    async def _survey_for_ever(self) -> None:
        """Keep counting what waits and what was refused."""
        while True:
            broker.check_cancelled()
            began = time.monotonic()
            try:
                async with self._database.reading() as connection:
                    self._waits = await survey(connection, self._rows)
            except (DatabaseAway, SQLAlchemyError) as error:
                log.warning("cannot count the events that wait", error=type(error).__name__)
            PENDING.set(max(0, self._waits.events - len(self._unmarked)))
            OLDEST.set(self._waits.age_s())
            ROOTS.set(self._waits.roots)
            SET_ASIDE.set(self._waits.refused)
            # A long backlog is not counted for more than a tenth of the time.
            await asyncio.sleep(max(POLL_S, 9 * (time.monotonic() - began)))

    async def _find_and_send(self, nc: Client, lines: Mapping[str, Sequence[Row[Any]]]) -> bool:
        """As `_send`, for roots with events that are old: those are looked for in the stream first."""
        began = time.monotonic()
        old = [row for line in lines.values() for row in line if self._is_old(row)]
        try:
            async with asyncio.timeout(FIND_S), self._finding:
                stored = await self._look_up(nc, old)
        except (TimeoutError, ReadFailed, broker.BrokerRefused) as error:
            log.warning("cannot look for old events in the stream, trying again", error=str(error) or "timeout")
            for root in lines:
                self._not_acknowledged(root, began, str(error) or "the stream cannot be read")
            return True
        if not await self._lease.take():
            return True
        return all(await asyncio.gather(*(self._send(nc, line, stored) for line in lines.values())))

    async def _send(self, nc: Client, line: Sequence[Row[Any]], found: Mapping[str, int] | None) -> bool:
        """Publish the rows of a root, one at a time. Ends at the first that is not acknowledged.

        `found` says where in the stream those are that were looked for; None: none was. False where some are left that
        can be sent at once.
        """
        for row in line:
            broker.check_cancelled()
            async with self._free:
                if not self._lease.is_sure() or (found is None and self._is_old(row)):
                    return False  # we stood still: another may have sent it, so long ago that it is stored again
                if not await self._publish(nc, row, (found or {}).get(row.event_id)):
                    return True
        return True

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
        life, offset, refused, began = self.position.life, stored, None, time.monotonic()
        try:
            if stored is not None:
                FOUND.inc()
            else:
                offset = await broker.try_to_publish(
                    nc, row.subject, row.body, message_id=row.event_id, timeout_s=SEND_S
                )
                PUBLISHED.inc()
        except broker.NotAcknowledged as error:
            log.warning("an event was not acknowledged, trying again", subject=row.subject, reason=str(error))
            self._not_acknowledged(_root(row.subject), began, str(error))
            return False
        except broker.BrokerRefused as error:
            # Waiting would stop everything behind it; the row stays for an operator to see, and to send again.
            refused = str(error)
            REFUSED.inc()
            log.error("the broker refused an event", event_id=row.event_id, subject=row.subject, reason=refused)
        self._acknowledged_at = time.monotonic()
        self._in_trouble.pop(_root(row.subject), None)
        if offset is not None:
            self._remember(row.event_id, self.position.acknowledged(offset, life))
        self._unmarked[row.id] = _Mark(row.id, datetime.now(UTC), offset, refused)
        self._to_mark.set()
        return True

    def _not_acknowledged(self, root: str, began: float, reason: str) -> None:
        """Let a root wait before it is tried again: longer each time, if others are acknowledged meanwhile."""
        before = self._in_trouble.get(root)
        failures = (before.failures + 1 if before else 0) if self._acknowledged_at > began else 0
        wait_s = min(MAX_HOLD_S, RETRY_S * 2**failures)
        self._in_trouble[root] = _Trouble(failures, time.monotonic() + wait_s)
        self._reason = reason

    async def _mark(self) -> None:
        """Mark what was acknowledged, in one transaction, if the lease is still ours. Where another has it, that one
        sends and marks it; the broker stores it once."""
        if not self._unmarked:
            return
        marks = list(self._unmarked.values())
        done = update(self._rows).where(self._rows.c.id == bindparam("row_id"))
        done = done.values(
            published_at=bindparam("at"), stream_offset=bindparam("offset"), refused=bindparam("refusal")
        )
        try:
            async with self._database.writing() as tx:
                await self._lease.renew(tx)
                await tx.execute(done, [mark._asdict() for mark in marks])
        except LeaseLost:
            log.info("another process relays now")
        for mark in marks:
            self._unmarked.pop(mark.row_id, None)

    def _remember(self, event_id: str, cursor: Cursor | None) -> None:
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
        """Delete rows the stream no longer has either. Looks for them every `FORGET_EVERY_S` seconds.

        Those that were refused stay until an operator has sent or dropped them.
        """
        if time.monotonic() < self._forget_at:
            return
        old = (self._rows.c.published_at < datetime.now(UTC) - KEEP) & self._rows.c.refused.is_(None)
        async with self._database.reading() as connection:
            found = await connection.scalar(select(self._rows.c.id).where(old).limit(1))
        if found is not None:
            async with self._database.writing() as tx:
                await tx.execute(delete(self._rows).where(old))
        self._forget_at = time.monotonic() + FORGET_EVERY_S


class _Mark(NamedTuple):
    """A row that the broker acknowledged, or refused."""

    row_id: int
    at: datetime
    offset: int | None
    refusal: str | None


class root_of(FunctionElement[str]):  # noqa: N801  (an SQL function)
    """`_root` in SQL: of a column of subjects."""

    type = String()
    inherit_cache = True


@compiles(root_of, "sqlite")
def _root_in_sqlite(element: root_of, compiler: SQLCompiler, **more: Any) -> str:
    subject = compiler.process(element.clauses, **more)
    rest = f"substr({subject}, instr({subject}, '.') + 1)"
    return f"substr({subject}, 1, instr({subject}, '.') + instr({rest} || '.', '.') - 1)"


@compiles(root_of, "postgresql")
def _root_in_postgresql(element: root_of, compiler: SQLCompiler, **more: Any) -> str:
    subject = compiler.process(element.clauses, **more)
    return f"(split_part({subject}, '.', 1) || '.' || split_part({subject}, '.', 2))"


def by_root(rows: Table) -> Select[str, int, datetime]:
    """What waits in an outbox, by `root`: `events` and `oldest`, the oldest first."""
    oldest = func.min(rows.c.created_at).label("oldest")
    counted = select(root_of(rows.c.subject).label("root"), func.count().label("events"), oldest)
    return counted.where(rows.c.published_at.is_(None)).group_by("root").order_by("oldest")


async def survey(connection: AsyncConnection, rows: Table) -> Waiting:
    """What waits in an outbox, of all roots together."""
    waiting = (await connection.execute(by_root(rows))).all()
    refused = await connection.scalar(select(func.count()).select_from(rows).where(rows.c.refused.is_not(None)))
    return Waiting(
        sum(row.events for row in waiting),
        min((row.oldest for row in waiting), default=None),
        len(waiting),
        refused or 0,
    )


async def send_again(tx: AsyncConnection, rows: Table, event_ids: Sequence[str] | None) -> int:
    """Let the relay send refused events again, those with these ids or all. Returns how many these are."""
    refused = update(rows).where(rows.c.refused.is_not(None))
    chosen = refused if event_ids is None else refused.where(rows.c.event_id.in_(event_ids))
    return (await tx.execute(chosen.values(refused=None, published_at=None))).rowcount


async def drop(tx: AsyncConnection, rows: Table, event_ids: Sequence[str]) -> int:
    """Forget refused events: they are never sent. Returns how many these are."""
    refused = update(rows).where(rows.c.refused.is_not(None), rows.c.event_id.in_(event_ids))
    return (await tx.execute(refused.values(refused=None))).rowcount


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
