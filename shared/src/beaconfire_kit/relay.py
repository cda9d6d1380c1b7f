"""Publish the events of the outbox, those of a root in the order of their rows.

A crash between commit and publish leaves the row, and the next relay publishes it. A crash between publish and mark
publishes it again with the same `Nats-Msg-Id`, and the broker drops the repeat. The broker may have forgotten the ids
of old events, so those are looked up in the stream first (`beaconfire_kit.lookup`). So rows can be marked late, many at
a time (`beaconfire_kit.outbox_marks`).

An event that the broker refuses is set aside: `refused` keeps the reason, operators see it, and `beaconfire outbox` can
send it again. Roots never wait for one another: while an event of one root is not acknowledged, other roots go on.

A process that commits to SQLite hands its rows over, and the relay publishes them without reading them again
(`Relay.take_over`). All other rows are read.

If many events wait, they are published in atomic batches, because the broker then syncs its disk four times for each
batch, and not once for each event (docs/adr/0083). A batch that the broker does not store is published event by event.

Of several processes only the one that holds the lease relays (`beaconfire_kit.lease`). Two at once, for a moment, do no
harm: each sends the events of a root in order, and the broker stores each once.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any

import nats.errors
from nats.aio.client import Client
from sqlalchemy import Row, delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from beaconfire_kit import atomic_batch, broker, logs, lookup, metrics, tracing
from beaconfire_kit.database import DatabaseAway
from beaconfire_kit.envelope import correlation_of
from beaconfire_kit.outbox import Added, AddedRow, Outbox
from beaconfire_kit.outbox_marks import Mark, Marks
from beaconfire_kit.outbox_table import Waiting, first_pair, root_of, survey
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
    "beaconfire_outbox_set_aside_events", "Events in the outbox that the broker refused, and would refuse again."
)
PUBLISHED = metrics.Counter("beaconfire_outbox_events_published_total", "Events that the broker acknowledged.")
REFUSED = metrics.Counter(
    "beaconfire_outbox_events_refused_total", "Events that the broker refused, and would refuse again."
)
FOUND = metrics.Counter(
    "beaconfire_outbox_events_already_stored_total",
    "Events that a lookup found in the stream, so they were not published again.",
)
STORED_AFTER = metrics.Histogram(
    "beaconfire_outbox_store_latency_seconds",
    "Time from writing an event's row until the broker has acknowledged the event.",
    buckets=metrics.LATENCIES,
)
BATCHES = metrics.Counter(
    "beaconfire_outbox_batches_total",
    "Batches of events, by outcome: the broker stored the whole batch, or the events were then published one by one.",
    ["outcome"],
)

BATCH = atomic_batch.MAX_MESSAGES
"""Rows read at a time."""
ATOMIC_FROM = 32
"""As many events go faster in an atomic batch than one by one. Measured with `sync_interval: always`."""
ATOMIC_AGAIN_S = 10.0
"""How long to publish no batch after the broker answered that it takes none. It drops one left open after 10 s."""
IN_FLIGHT = 32
"""Events in flight at a time, each of another root. The broker syncs its disk for every one."""
GATHER_S = 0.01
"""How long a batch may take before the relay looks for the next rows, of roots without an event in flight."""
POLL_S = 1.0
"""How often the relay looks for rows that it was not notified of, and counts the waiting rows."""
SEND_S = 2.0
"""How long to wait for an acknowledgement. After that the row may be too old to be sent without a look."""
FIND_S = 30.0
"""How long old events may be looked up in the stream."""
RETRY_S = 0.25
"""How long a root waits after an event that was not acknowledged, and the relay while no event is."""
MAX_HOLD_S = 10.0
"""The most a root waits when only its events are not acknowledged: its wait doubles each time up to here."""
STALE_S = 10.0
"""An event that waits for longer is worth an operator's attention."""
LAST_EVENTS_S = 2.0
STREAM_TIMEOUT_S = 2.0
MAX_UNMARKED = 1_000
"""Rows that were sent and cannot be marked, because the database can be read but not written."""
FORGET_EVERY_S = 600.0
UNAWAITED = b"unawaited"
"""Published to wake the relay of another process, if this one does not wait for the cursors of its events."""
KEEP = timedelta(days=8)
"""Longer than the stream keeps events, so that a lost stream can be distinguished from a lost row."""


@dataclass(slots=True)
class _Trouble:
    """A root whose last event was not acknowledged."""

    failures: int
    until: float
    """When it is tried again (monotonic seconds)."""


_Row = AddedRow | Row[Any]
_Line = Sequence[_Row]
_Lines = Mapping[str, _Line]
"""The next rows of each root, in order."""


class Relay:
    """Publishes the events of one outbox."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        service: str,
        duplicate_window_s: float = broker.DUPLICATE_WINDOW_S,
        batch: int = BATCH,
        max_unmarked: int = MAX_UNMARKED,
        poll_s: float = POLL_S,
    ) -> None:
        """`service` is the broker user that publishes. `duplicate_window_s` is how long the stream knows a repeat."""
        self.outbox = outbox
        self._batch = batch
        self._max_unmarked = max_unmarked
        self._poll_s = poll_s
        self._service = service
        self._database = outbox.database
        self._rows = outbox.rows
        self._lease = outbox.lease
        self._committed = outbox.committed
        # Half of it: the clocks of database, publisher and broker are three.
        self._surely_known = timedelta(seconds=duplicate_window_s / 2)
        self._marks = Marks(outbox, retry_s=poll_s)
        self._nc: Client | None = None  # while `run` runs
        self._context: Context | None = None  # of `run`: a request that hands rows over is not what sends them
        self._is_looking = False
        self._known_to: int | None = None  # all rows up to this id were read or taken over, except those of
        self._unread: set[str] = set()  # these roots
        self._sending: dict[str, asyncio.Task[bool]] = {}  # by root
        self._in_trouble: dict[str, _Trouble] = {}  # by root
        self._free = asyncio.Semaphore(IN_FLIGHT)
        self._no_batch_until = 0.0
        self._finding = asyncio.Lock()
        self._acknowledged_at = time.monotonic()
        self._is_debugging = logs.is_debugging()
        self._reason = ""
        self._waits = Waiting()
        self._forget_at = 0.0

    def why_stuck(self) -> str | None:
        """Why no event at all reaches the stream; None if events do, or if none waits. Noticed after `STALE_S` seconds.

        Only the process that holds the lease knows it.
        """
        silent_s = time.monotonic() - self._acknowledged_at
        if not self._lease.is_held or silent_s < STALE_S or (age_s := self._waits.age_s()) < STALE_S:
            return None
        return f"no event reaches the stream, the oldest has waited for {age_s:.0f} s: {self._reason or 'no answer'}"

    def warnings(self) -> list[str]:
        """Return problems that an operator should look at although the service is ready."""
        said, waits = [], self._waits
        if (age_s := waits.age_s()) > STALE_S:
            said.append(
                f"{_waiting(waits)} for the broker, the oldest for {age_s:.0f} s: `beaconfire outbox` lists them"
            )
        if waits.refused:
            events, them = ("1 event", "it") if waits.refused == 1 else (f"{waits.refused} events", "them")
            said.append(f"the broker refused {events}: `beaconfire outbox` shows why, and can resend {them}")
        return said

    async def check_stream(self, nc: Client) -> str | None:
        """Return why there is no stream to publish to, or None. Notes where the stream ends. Call it once a second."""
        position = self.outbox.position
        try:
            async with asyncio.timeout(STREAM_TIMEOUT_S):
                known = position.offset
                state = await broker.stream_state(nc)
                position.seen(state.epoch, state.last, known=known)
        except TimeoutError:
            return f"the stream {broker.STREAM} is not there, or does not answer"
        return None

    async def run(self, nc: Client, *, wake: str | None = None) -> None:
        """Publish committed events forever, those of a root in the order of their rows. Owned by the service.

        If another process holds the lease, that process hears of new rows on the subject `wake`.
        """
        self._nc, self._context = nc, copy_context()
        self.outbox.hand_over = self.take_over
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._marks.run(), name="marks")
                tasks.create_task(self._keep_counting(), name="survey")
                while True:
                    broker.check_cancelled()
                    self._committed.clear()
                    await self._relay_waiting(nc, wake)
                    wait_s = self._poll_s if nc.is_connected and not self._in_trouble else RETRY_S
                    try:
                        async with asyncio.timeout(wait_s):
                            await self._committed.wait()
                    except TimeoutError:
                        pass
        finally:
            self._nc = None
            await self._end_sending()

    def take_over(self, added: Added) -> bool:
        """Publish rows that this process has just committed. Return False if that needs a look at the other rows.

        No earlier row of the root may be left behind. SQLite numbers rows in the order of their commits. So if the
        first row is the next one after all that are known, no other process has committed a row in between. PostgreSQL
        gives no such order.
        """
        nc, lines = self._nc, _by_root(added)
        if nc is None or not nc.is_connected or self._is_looking or not self._database.is_sqlite:
            return False
        if self._known_to is None or added[0].id != self._known_to + 1:
            return False
        if len(added) >= ATOMIC_FROM or len(self._marks) >= self._max_unmarked:
            return False
        if not lines.keys().isdisjoint(self._unread | self._sending.keys()):
            return False
        self._known_to = added[-1].id
        for root, line in lines.items():
            self._start(self._send_at_once(nc, line), root)
        return True

    async def _relay_waiting(self, nc: Client, wake: str | None) -> None:
        try:
            while await self._send_batch(nc):
                pass
            if wake and self.outbox.is_unannounced and not self._lease.is_held:
                await nc.publish(wake, b"")
            self.outbox.is_unannounced = False
            await self._forget()
        except DatabaseAway as error:
            log.warning("the relay waits for the database", reason=error.message)
        except Exception:
            log.exception("relay failed, going on")

    async def _end_sending(self) -> None:
        sending = set(self._sending.values())
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)

    async def finish(self, nc: Client) -> None:
        """Publish what still waits, for at most `LAST_EVENTS_S` seconds. For a service that stops, after `run` ended.

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
        """Publish and mark until no event waits, or until another process relays. Do not call it while `run` runs."""
        try:
            while True:
                broker.check_cancelled()
                self._committed.clear()
                is_more = await self._send_batch(nc)
                while self._sending:  # what ends may have started others
                    await asyncio.wait(set(self._sending.values()))
                await self._marks.write()
                if not nc.is_connected or self._in_trouble:
                    await asyncio.sleep(RETRY_S)
                elif not is_more and not self._committed.is_set():
                    return
        finally:
            await self._end_sending()

    async def _send_batch(self, nc: Client) -> bool:
        """Start to send the next events of the roots without an event in flight.

        Return False if there is no more to do now: no more events wait, another process relays, or the broker
        acknowledges none.
        """
        if not nc.is_connected:
            self._reason = "the broker is not reachable"
            return False
        if len(self._marks) >= self._max_unmarked:
            await self._marks.write()
        self._is_looking = True
        try:
            began = time.monotonic()
            rows, is_all = await self._first_in_line()
            lines = _by_root(rows)
            if is_all:
                self._in_trouble = {
                    root: one for root, one in self._in_trouble.items() if one.until > began or root in lines
                }
            if not lines:
                return False
            known_to, self._known_to = self._known_to, None  # until what was read is being sent
            if not await self._lease.take():
                return False
            old = {root: line for root, line in lines.items() if any(map(self._is_old, line))}
            if old:
                self._start(self._find_and_send(nc, old), *old)
            self._start_sending(nc, {root: line for root, line in lines.items() if root not in old})
            self._known_to = known_to
        finally:
            self._is_looking = False
        await self._gather()
        return not is_all and not (self._in_trouble and self._acknowledged_at < began)

    def _start_sending(self, nc: Client, lines: _Lines, *, looked_up: bool = False) -> None:
        """Publish these rows: in an atomic batch if that is faster, else those of each root by themselves.

        A root in trouble would delay the others of its batch.
        """
        together = {root: line for root, line in lines.items() if root not in self._in_trouble}
        if time.monotonic() < self._no_batch_until or sum(map(len, together.values())) < ATOMIC_FROM:
            together = {}
        else:
            self._start(self._send_together(nc, together, looked_up=looked_up), *together)
        alone = {root: line for root, line in lines.items() if root not in together}
        self._start_each(nc, alone, looked_up=looked_up)

    def _start_each(self, nc: Client, lines: _Lines, *, looked_up: bool) -> None:
        for root, line in lines.items():
            self._start(self._send(nc, line, looked_up=looked_up), root)

    def _start(self, work: Coroutine[Any, Any, bool], *roots: str) -> None:
        context = None if self._context is None else self._context.copy()
        sending = asyncio.get_running_loop().create_task(work, context=context)
        for root in roots:
            self._sending[root] = sending
        sending.add_done_callback(partial(self._ended, roots))

    def _ended(self, roots: Sequence[str], sending: asyncio.Task[bool]) -> None:
        for root in roots:
            if self._sending.get(root) is sending:  # it may have started others for its roots
                del self._sending[root]
        if sending.cancelled():
            self._known_to = None
            return
        if (error := sending.exception()) is not None:
            log.error("could not send events, trying again", error=type(error).__name__, exc_info=error)
        if error is not None or not sending.result() or not self._in_trouble.keys().isdisjoint(roots):
            self._unread.update(roots)
        if error is None and not self._unread.isdisjoint(roots):
            self._committed.set()

    async def _gather(self) -> None:
        """Wait until no event is in flight, or until `GATHER_S` seconds have passed and there is room for more."""
        while self._sending:
            await asyncio.wait(set(self._sending.values()), timeout=GATHER_S)
            if len(self._sending) < IN_FLIGHT:
                return

    async def _first_in_line(self) -> tuple[list[Row[Any]], bool]:
        """The rows to publish next, and whether these are all.

        Roots with something in flight are left out, and roots that wait because an event was not acknowledged.
        """
        now = time.monotonic()
        known = set(self._marks.row_ids)  # taken before the read, which may still contain what is marked meanwhile
        busy = [*self._sending, *(root for root, one in self._in_trouble.items() if one.until > now)]
        limit = self._batch + len(known)
        waiting = select(self._rows).where(self._rows.c.published_at.is_(None))
        if busy:
            waiting = waiting.where(root_of(self._rows.c.subject).not_in(busy))
        self._unread.update(busy)  # before the read, during which an event of one of them may be acknowledged
        async with self._database.reading() as connection:
            found = (await connection.execute(waiting.order_by(self._rows.c.id).limit(limit))).all()
        is_all = len(found) < limit
        if not is_all:
            self._known_to = None
        elif found:
            self._known_to = max(self._known_to or 0, found[-1].id)
        self._unread = set(busy)
        return [row for row in found if row.id not in known], is_all

    async def _keep_counting(self) -> None:
        """Keep counting the events that wait and those that were refused."""
        while True:
            broker.check_cancelled()
            began = time.monotonic()
            try:
                async with self._database.reading() as connection:
                    self._waits = await survey(connection, self._rows)
            except (DatabaseAway, SQLAlchemyError) as error:
                log.warning("cannot count the events that wait", error=type(error).__name__)
            PENDING.set(max(0, self._waits.events - len(self._marks)))
            OLDEST.set(self._waits.age_s())
            ROOTS.set(self._waits.roots)
            SET_ASIDE.set(self._waits.refused)
            # At most a tenth of the time is spent on counting a long backlog.
            await asyncio.sleep(max(self._poll_s, 9 * (time.monotonic() - began)))

    async def _find_and_send(self, nc: Client, lines: _Lines) -> bool:
        """Look for old events in the stream, and publish those that are not there. Returns True."""
        began = time.monotonic()
        rows = list(chain.from_iterable(lines.values()))
        try:
            async with asyncio.timeout(FIND_S), self._finding:
                life = self.outbox.position.life
                stored = await self._look_up(nc, list(filter(self._is_old, rows)))
        except (TimeoutError, ReadFailed, broker.BrokerRefused) as error:
            log.warning("cannot look for old events in the stream, trying again", error=str(error) or "timeout")
            for root in lines:
                self._not_acknowledged(root, began, str(error) or "the stream cannot be read")
            return True
        if not await self._lease.take():
            return True
        for row in rows:
            if row.event_id in stored:
                FOUND.inc()
                self._note_done(row, stored[row.event_id], life=life)
        self._start_sending(nc, _by_root(row for row in rows if row.event_id not in stored), looked_up=True)
        return True

    async def _send(self, nc: Client, line: _Line, *, looked_up: bool) -> bool:
        """Publish the rows of a root, one at a time, up to the first that is not acknowledged.

        `looked_up` means that old ones are known not to be in the stream. Returns False if rows are left that can be
        sent at once.
        """
        for row in line:
            broker.check_cancelled()
            async with self._free:
                if not self._may_send([row], looked_up=looked_up):
                    return False
                if not await self._publish(nc, row):
                    return True
        return True

    async def _send_at_once(self, nc: Client, line: _Line) -> bool:
        """Publish rows that were taken over, as `_send` does. If another process relays now, it publishes them."""
        if not await self._lease.take():
            self.outbox.is_unannounced = True
            return False
        return await self._send(nc, line, looked_up=False)

    async def _send_together(self, nc: Client, lines: _Lines, *, looked_up: bool) -> bool:
        """Publish the first rows of several roots in an atomic batch. If that fails, publish each root by itself.

        `looked_up` and the result are those of `_send`.
        """
        rows = sorted(chain.from_iterable(lines.values()), key=attrgetter("id"))
        messages = atomic_batch.fitting(
            atomic_batch.Message(row.subject, row.body, row.event_id, tracing.headers_of(row.body)) for row in rows
        )
        if len(messages) < ATOMIC_FROM:
            self._start_each(nc, lines, looked_up=looked_up)
            return True
        if not self._may_send(rows, looked_up=looked_up):
            return False
        life = self.outbox.position.life
        try:
            with tracing.publishing((one.subject, one.body) for one in messages):
                first = await atomic_batch.publish(nc, messages, timeout_s=SEND_S)
        except atomic_batch.NotStored as error:
            if isinstance(error, atomic_batch.Unavailable):
                self._no_batch_until = time.monotonic() + ATOMIC_AGAIN_S
            BATCHES.labels("not stored").inc()
            log.info("a batch was not stored: its events are published one by one", reason=str(error))
            self._start_each(nc, lines, looked_up=looked_up)
            return True
        BATCHES.labels("stored").inc()
        PUBLISHED.inc(len(messages))
        for offset, row in enumerate(rows[: len(messages)], first):
            self._note_done(row, offset, life=life)
        return len(messages) == len(rows)

    def _may_send(self, rows: Iterable[_Row], *, looked_up: bool) -> bool:
        """Whether the broker would store none of these rows a second time.

        If this process paused, another may have sent them, so long ago that the broker has forgotten their ids.
        """
        return self._lease.is_sure() and (looked_up or not any(map(self._is_old, rows)))

    async def _look_up(self, nc: Client, old: _Line) -> dict[str, int]:
        """The offsets of the events that the stream already has, among those that the broker would store again.

        A row was not sent before it was written, so a young row needs no look.
        """
        since = min(row.created_at for row in old) - timedelta(minutes=1)
        return await lookup.find(nc, self._service, {row.subject for row in old}, since=since)

    def _is_old(self, row: _Row) -> bool:
        return bool(datetime.now(UTC) - row.created_at > self._surely_known)

    async def _publish(self, nc: Client, row: _Row) -> bool:
        """Publish an event and wait at most `SEND_S` seconds for its acknowledgement. Returns whether it is done with.

        Only one event of each root is in flight: of two, the first could be lost and be sent again behind the second.
        """
        life, offset, refused, began = self.outbox.position.life, None, None, time.monotonic()
        try:
            with tracing.publishing([(row.subject, row.body)]):
                offset = await broker.try_to_publish(
                    nc,
                    row.subject,
                    row.body,
                    message_id=row.event_id,
                    headers=tracing.headers_of(row.body),
                    timeout_s=SEND_S,
                )
            PUBLISHED.inc()
        except broker.NotAcknowledged as error:
            log.warning("an event was not acknowledged, trying again", subject=row.subject, reason=str(error))
            self._not_acknowledged(first_pair(row.subject), began, str(error))
            return False
        except broker.BrokerRefused as error:
            # Waiting would hold up everything behind it. The row stays: an operator can see it and send it again.
            refused = str(error)
            REFUSED.inc()
            log.error("the broker refused an event", event_id=row.event_id, subject=row.subject, reason=refused)
        self._note_done(row, offset, refused, life=life)
        return True

    def _note_done(self, row: _Row, offset: int | None, refused: str | None = None, *, life: int) -> None:
        """Remember that the broker has stored or refused an event, and have its row marked."""
        now = datetime.now(UTC)
        self._acknowledged_at = time.monotonic()
        self._in_trouble.pop(first_pair(row.subject), None)
        if offset is not None:
            STORED_AFTER.observe(max(0.0, (now - row.created_at).total_seconds()))
            self.outbox.remember(row.event_id, self.outbox.position.acknowledged(offset, life))
            if self._is_debugging:
                cause = correlation_of(row.body)
                log.debug("the stream has an event", event_id=row.event_id, offset=offset, correlation_id=cause)
        self._marks.add(Mark(row.id, now, offset, refused))

    def _not_acknowledged(self, root: str, began: float, reason: str) -> None:
        """Let a root wait before it is tried again: longer each time, if events of other roots are acknowledged."""
        before = self._in_trouble.get(root)
        failures = (before.failures + 1 if before else 0) if self._acknowledged_at > began else 0
        wait_s = min(MAX_HOLD_S, RETRY_S * 2**failures)
        self._in_trouble[root] = _Trouble(failures, time.monotonic() + wait_s)
        self._reason = reason

    async def _forget(self) -> None:
        """Delete rows of events that the stream no longer has, every `FORGET_EVERY_S` seconds.

        Refused events stay until an operator has sent or dropped them.
        """
        if time.monotonic() < self._forget_at:
            return
        old = (self._rows.c.published_at < datetime.now(UTC) - KEEP) & self._rows.c.refused.is_(None)
        old &= self._rows.c.id < select(func.max(self._rows.c.id)).scalar_subquery()  # SQLite would use its id again
        async with self._database.reading() as connection:
            found = await connection.scalar(select(self._rows.c.id).where(old).limit(1))
        if found is not None:
            async with self._database.writing() as tx:
                await tx.execute(delete(self._rows).where(old))
        self._forget_at = time.monotonic() + FORGET_EVERY_S


def _by_root(rows: Iterable[_Row]) -> dict[str, list[_Row]]:
    """Sort rows by their roots. Those of a root keep their order."""
    lines: dict[str, list[_Row]] = {}
    for row in rows:
        lines.setdefault(first_pair(row.subject), []).append(row)
    return lines


def _waiting(waits: Waiting) -> str:
    if waits.events == 1:
        return "1 event waits"
    return f"{waits.events} events of {waits.roots} root{'s' if waits.roots != 1 else ''} wait"
