"""Run the scheduler: advance the world time of every campaign with a running clock.

The database has the clocks that are due. A scheduler claims one in the transaction that writes the new time, the next
due moment and the event. So a clock advances once for each moment, even with several schedulers, and if one is killed.

A scheduler that was away does not catch up. A late clock advances once, and then at its next moment in the future.
World time stands still while no scheduler runs.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from faststream.nats import NatsMessage
from sqlalchemy import func, select

from beaconfire_kit import errors, logs, metrics
from beaconfire_kit.database import Database, DatabaseAway
from beaconfire_kit.envelope import Metadata
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.campaign import EntityUpdated
from beaconfire_kit.invalid_event import InvalidEvent, check_lifetime
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.received import UNKNOWN, read
from beaconfire_kit.store import Row
from beaconfire_publisher import clock
from beaconfire_publisher.settings import WorkerSettings
from beaconfire_publisher.store import CAMPAIGNS, CLOCKS, OUTBOX, Store, Writing
from beaconfire_publisher.world_time import advance

log = logs.get(__name__)

ADVANCED = metrics.Counter("beaconfire_scheduler_advances_total", "Times that a campaign's clock was advanced.")
SKIPPED = metrics.Counter(
    "beaconfire_scheduler_advances_skipped_total", "Advances that were skipped because no scheduler was running."
)
POSTPONED = metrics.Counter(
    "beaconfire_scheduler_advances_postponed_total",
    "Advances that were postponed because the campaign was over a limit on what users publish.",
)
INVALID = metrics.Counter(
    "beaconfire_scheduler_invalid_messages_total",
    "Messages that the scheduler skipped because they were no valid event.",
)
LATE = metrics.Gauge("beaconfire_scheduler_lateness_seconds", "How late the last advance of a clock was.")

NAME = "scheduler"
"""Its durable consumer, its broker user, and the `source` of its events."""
LOOK_EVERY_S = 2.0
"""A clock is noticed within this time, even if it was set while the broker was away."""
BATCH = 100


class Scheduler:
    """Sleep until the next clock is due, or until one is changed."""

    name: ClassVar = NAME
    subjects: ClassVar[tuple[str, ...]] = ("campaign.*.campaign.*",)

    def __init__(
        self,
        database: Database,
        settings: WorkerSettings,
        wake: Callable[[], Awaitable[None]],
        *,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._database = database
        self._store = Store(database, Outbox(database, OUTBOX), settings.publishing_limits())
        self._wake = wake
        self._look_every_s = look_every_s
        self._changed = asyncio.Event()

    async def handle(self, message: NatsMessage) -> None:
        """Check the clocks when one was changed. Any other message, valid or not, is skipped."""
        raw = message.raw_message
        try:
            check_lifetime(raw.headers)
            payload = read(raw.subject, raw.data).payload
        except InvalidEvent as error:
            if error.reason in UNKNOWN:
                return
            INVALID.inc()
            log.warning("skipped an invalid event", subject=raw.subject[:200], reason=error.reason)
            return
        if isinstance(payload, EntityUpdated) and "clock" in payload.changed_fields:
            self._changed.set()

    async def run(self) -> None:
        """Advance due clocks, forever."""
        while True:
            self._changed.clear()
            pause_s = self._look_every_s
            try:
                pause_s = min(pause_s, await self._advance_all())
            except DatabaseAway as error:
                log.warning("could not advance clocks, trying again", reason=error.message)
            except Exception:
                log.exception("could not advance clocks, trying again")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._changed.wait()

    async def _advance_all(self) -> float:
        """Advance every due clock. Return the seconds until the next one is due."""
        for seen in await self._due():
            try:
                await self._advance(seen)
            except BeaconfireError as error:
                if error.code is errors.TOO_MANY:
                    await self._postpone(seen, timedelta(milliseconds=error.retry_after_ms or 1_000))
                elif error.code is not errors.NOT_FOUND:
                    raise
                continue  # over a limit, claimed by another scheduler, changed, or deleted meanwhile
            await self._wake()
        async with self._database.reading() as connection:
            due_at = await connection.scalar(select(func.min(CLOCKS.c.due_at)))
        return self._look_every_s if due_at is None else max(0.0, (due_at - datetime.now(UTC)).total_seconds())

    async def _due(self) -> list[Row]:
        late_first = select(CLOCKS).where(CLOCKS.c.due_at <= datetime.now(UTC)).order_by(CLOCKS.c.due_at).limit(BATCH)
        async with self._database.reading() as connection:
            return [dict(row) for row in (await connection.execute(late_first)).mappings()]

    async def _postpone(self, seen: Row, pause: timedelta) -> None:
        """Postpone a clock, because its user or its campaign has published too much."""
        with contextlib.suppress(BeaconfireError):  # changed or deleted meanwhile: the next check finds out
            async with self._store.writing(_metadata(seen["set_by"])) as tx:
                await tx.find(CAMPAIGNS, {"id": seen["campaign_id"]})
                await tx.find(CLOCKS, seen)
                later = {"due_at": datetime.now(UTC) + pause, "set_by": seen["set_by"]}
                await tx.put(CLOCKS, {"campaign_id": seen["campaign_id"]}, later)
                POSTPONED.inc()

    async def _advance(self, seen: Row) -> None:
        """Advance one clock. Raises BeaconfireError `not_found` if it was changed meanwhile."""
        async with self._store.writing(_metadata(seen["set_by"])) as tx:
            # The campaign first: every transaction that locks both locks it first.
            campaign = await tx.find(CAMPAIGNS, {"id": seen["campaign_id"]})
            await tx.find(CLOCKS, seen)
            try:
                await advance(tx, campaign, campaign["clock"].elapsed_seconds)
            except OverflowError:
                log.warning("stopped a clock at the end of time", campaign_id=campaign["id"])
                await clock.stop(tx, campaign)
            else:
                await _schedule_next(tx, seen, campaign["clock"].every_s)


def _metadata(set_by: str) -> Metadata:
    """Return metadata with the user that set the clock, and a new correlation id for the effects of the advance."""
    return Metadata(user_id=set_by, source=NAME, correlation_id=uuid.uuid4().hex)


async def _schedule_next(tx: Writing, seen: Row, every_s: int) -> None:
    late, period = datetime.now(UTC) - seen["due_at"], timedelta(seconds=every_s)
    missed = max(0, late // period)
    due_at = seen["due_at"] + (missed + 1) * period
    await tx.put(CLOCKS, {"campaign_id": seen["campaign_id"]}, {"due_at": due_at, "set_by": seen["set_by"]})
    ADVANCED.inc()
    SKIPPED.inc(missed)
    LATE.set(late.total_seconds())
