"""Mark the rows of the outbox whose events the broker acknowledged or refused, many in one transaction.

A transaction that marks rows takes a sync of the disk, and with SQLite the only write lock. So rows are marked at most
twice a second. Until then the relay knows them: they must not be sent again.
"""

import asyncio
import time
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import bindparam, update

from beaconfire_kit import broker, logs
from beaconfire_kit.lease import LeaseLost
from beaconfire_kit.outbox import Outbox

log = logs.get(__name__)

MARK_S = 0.5
"""How long acknowledged rows are gathered before they are marked."""
SOON_S = 0.05
"""The same while another process waits for marks, because it needs the offsets of its events."""
SOON_FROM = 100
"""As many acknowledged rows are marked soon."""


class Mark(NamedTuple):
    """A row that the broker acknowledged or refused. Without a refusal it has an offset in the stream."""

    row_id: int
    at: datetime
    offset: int | None
    refusal: str | None


class Marks:
    """The rows of one outbox that its relay is done with, and that are not marked yet."""

    def __init__(self, outbox: Outbox, *, retry_s: float) -> None:
        """`retry_s` is how long to wait after rows could not be marked."""
        self._outbox = outbox
        self._retry_s = retry_s
        self._marks: dict[int, Mark] = {}
        self._is_needed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._marks)

    @property
    def row_ids(self) -> AbstractSet[int]:
        """The ids of the rows."""
        return self._marks.keys()

    def add(self, mark: Mark) -> None:
        """Have a row marked."""
        self._marks[mark.row_id] = mark
        self._is_needed.set()
        if len(self._marks) >= SOON_FROM:
            self._outbox.hurry.set()

    async def run(self) -> None:
        """Mark rows forever. Owned by the relay."""
        while True:
            broker.check_cancelled()
            await self._is_needed.wait()
            self._is_needed.clear()
            if time.monotonic() > self._outbox.awaited_until:
                with suppress(TimeoutError):
                    async with asyncio.timeout(MARK_S):
                        await self._outbox.hurry.wait()
            self._outbox.hurry.clear()
            await asyncio.sleep(SOON_S)
            try:
                await self.write()
            except Exception as error:
                log.warning("cannot mark what was sent, trying again", error=type(error).__name__)
                await asyncio.sleep(self._retry_s)
                self._is_needed.set()

    async def write(self) -> None:
        """Mark all rows in one transaction, if the lease is still ours.

        If another process has it, that one sends and marks them. The broker stores each event once.
        """
        if not self._marks:
            return
        marks, rows = list(self._marks.values()), self._outbox.rows
        done = update(rows).where(rows.c.id == bindparam("row_id"))
        done = done.values(
            published_at=bindparam("at"), stream_offset=bindparam("offset"), refused=bindparam("refusal")
        )
        try:
            async with self._outbox.database.writing() as tx:
                await self._outbox.lease.renew(tx)
                await tx.execute(done, [mark._asdict() for mark in marks])
        except LeaseLost:
            log.info("another process relays now")
        for mark in marks:
            self._marks.pop(mark.row_id, None)
