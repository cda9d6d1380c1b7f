"""The outbox: an event's row is written in the transaction of the change that it reports.

    OUTBOX = outbox_table.table(TABLES)            # beside the service's own tables
    outbox = Outbox(database, OUTBOX)

    async with database.writing() as tx:
        await tx.execute(insert(QUESTS).values(quest))
        added = await outbox.add(tx, [Envelope(QuestUpdated(...), metadata)])
    outbox.wake(added)
    cursor = await outbox.cursor_of(envelope.message_id, timeout_s=2)     # if the caller needs to know

An event starts to exist when its transaction commits, and at no other moment. `beaconfire_kit.relay` then publishes it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Table, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_kit import logs, tracing
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.database import Database, DatabaseAway
from beaconfire_kit.envelope import Envelope
from beaconfire_kit.lease import LEASE, Lease
from beaconfire_kit.position import Position

log = logs.get(__name__)

LOOK_S = 0.03
AWAITED_S = 1.0
"""How long another process is taken to wait for the cursor of an event that it announced."""
REMEMBERED = 10_000
LOGGED = 10
"""Ids of events in the log line of a change. A bulk has more, and their correlation id finds them."""


class AddedRow(NamedTuple):
    """An event's row, as it was written."""

    id: int
    event_id: str
    subject: str
    body: bytes
    created_at: datetime


Added = Sequence[AddedRow]
"""What a transaction has written, in the order of the rows."""


class Outbox:
    """Adds events to a transaction, and returns their cursors in the stream once they are published."""

    def __init__(self, database: Database, rows: Table) -> None:
        self.database = database
        self.rows = rows
        self._insert = insert(rows).returning(rows.c.id, sort_by_parameter_order=True)
        self.lease = Lease(database, rows.metadata.tables[LEASE])
        """Held if the relay of this process is the one that publishes."""
        self.position = Position()
        self.committed = asyncio.Event()
        """Set when there may be something to publish."""
        self.hand_over: Callable[[Added], bool] = lambda _: False
        """Set by a relay in this process: takes rows after their commit, or returns False if it has to read them."""
        self.is_unannounced = False
        """Whether events were committed here that the relay of another process may not have heard of."""
        self.awaited_until = 0.0
        """Until when (monotonic seconds) another process may wait for the cursors of its events."""
        self.hurry = asyncio.Event()
        """Set when events should be marked soon."""
        self._cursors: OrderedDict[str, Cursor | None] = OrderedDict()
        self._waiting: dict[str, asyncio.Future[Cursor | None]] = {}

    async def add(self, tx: AsyncConnection, envelopes: Sequence[Envelope]) -> Added:
        """Write events in the caller's transaction. Call `wake` with the result after the commit.

        Raises InvalidEvent for an event that is too large. The broker would refuse it when it is too late to undo the
        change.
        """
        if not envelopes:
            return ()
        now = datetime.now(UTC)
        bodies = [one.encode_with(tracing.created(one.subject, one.about())) for one in envelopes]
        values = [
            {"event_id": one.message_id, "subject": one.subject, "body": body, "created_at": now}
            for one, body in zip(envelopes, bodies, strict=True)
        ]
        ids = (await tx.execute(self._insert, values)).scalars()
        _log_change(envelopes)
        return [AddedRow(id_, **row) for id_, row in zip(ids, values, strict=True)]  # type: ignore[arg-type]

    def wake(self, added: Added = ()) -> None:
        """Wake the relay after a commit here. Without this, the relay finds the events within a second.

        `added` is what `add` returned. With it, a relay in this process need not read the rows.
        """
        if added and self.hand_over(added):
            return
        self.is_unannounced = True
        self.committed.set()

    def woken(self, *, is_awaited: bool) -> None:
        """Wake the relay after a commit that another process announced.

        With `is_awaited` that process waits for the cursors of its events (`cursor_of`).
        """
        if is_awaited:
            self.awaited_until = time.monotonic() + AWAITED_S
            self.hurry.set()
        self.committed.set()

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
                    if event_id not in self._cursors and not self.lease.is_held:
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

    def remember(self, event_id: str, cursor: Cursor | None) -> None:
        """Note where an event is in the stream, for `cursor_of`."""
        self._cursors[event_id] = cursor
        if len(self._cursors) > REMEMBERED:
            self._cursors.popitem(last=False)
        waiting = self._waiting.get(event_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(cursor)

    async def _look(self, event_id: str, life: int) -> None:
        """Look in the table whether the relay of another process has published an event."""
        query = select(self.rows.c.stream_offset).where(self.rows.c.event_id == event_id)
        async with self.database.reading() as connection:
            offset = await connection.scalar(query)
        if offset is not None:
            self.remember(event_id, self.position.acknowledged(offset, life))


def _log_change(envelopes: Sequence[Envelope]) -> None:
    """Log one line for a change, which names its events and the request that caused them.

    The transaction is still open. If it fails, the request is answered with an error, which is logged, too.
    """
    first, events = envelopes[0], [one.message_id for one in envelopes[:LOGGED]]
    log.info(
        "wrote events to the outbox",
        events=events,
        count=len(envelopes),
        subject=first.subject,
        correlation_id=first.metadata.correlation_id,
    )
