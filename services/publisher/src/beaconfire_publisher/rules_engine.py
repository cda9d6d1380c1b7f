"""Run the rules engine: read changes from the stream, and publish which values they make stale.

It publishes exactly once, because the cause is recorded in the transaction that writes the event. If it is killed at
any moment, it repeats the work or finds it done. The event's id is random. An id derived from the cause could be
guessed by a reader of the cause, and used before us.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

from faststream.nats import NatsMessage
from sqlalchemy.exc import SQLAlchemyError

from beaconfire_kit import logs, metrics
from beaconfire_kit.consumer import identity
from beaconfire_kit.database import Database, DatabaseAway
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.inbox import Inbox, digest
from beaconfire_kit.invalid_event import InvalidEvent, check_lifetime
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.received import UNKNOWN, Received, read
from beaconfire_publisher.rules import SUBJECTS, consequence
from beaconfire_publisher.settings import WorkerSettings
from beaconfire_publisher.store import INBOX, OUTBOX

log = logs.get(__name__)

HANDLED = metrics.Counter(
    "beaconfire_rules_engine_events_total", "Events that the rules engine has handled, by result.", ["result"]
)

FORGET_EVERY_S = 3600.0
NAME = "rules-engine"
"""Its durable consumer, its broker user, and the `source` of its events."""


class RulesEngine:
    """Handle changes one by one."""

    name: ClassVar = NAME
    subjects: ClassVar = SUBJECTS

    def __init__(self, database: Database, _settings: WorkerSettings, wake: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._outbox = Outbox(database, OUTBOX)
        self._inbox = Inbox(INBOX, NAME)
        self._wake = wake

    async def handle(self, message: NatsMessage) -> None:
        """Publish which values a change makes stale. Return when that is committed, or if no rule applies.

        An invalid event is skipped and counted. The gateways set it aside as a dead letter. An event without a class
        here is skipped, too. It may be valid: other teams declare types.
        """
        raw = message.raw_message
        try:
            check_lifetime(raw.headers)
            cause = read(raw.subject, raw.data)
        except InvalidEvent as error:
            if error.reason in UNKNOWN:
                HANDLED.labels("unknown_type").inc()
                return
            HANDLED.labels("invalid").inc()
            log.warning("skipped an invalid event", subject=raw.subject[:200], reason=error.reason)
            return
        HANDLED.labels(await self._follow(cause, digest(raw.subject, cause.id or identity(raw)))).inc()

    async def run(self) -> None:
        """Every hour, forget causes that the stream can no longer deliver."""
        while True:
            try:
                async with self._database.writing() as tx:
                    await self._inbox.forget(tx)
            except (DatabaseAway, SQLAlchemyError) as error:
                log.warning("could not forget old causes", error=type(error).__name__)
            await asyncio.sleep(FORGET_EVERY_S)

    async def _follow(self, cause: Received, key: str) -> str:
        event = consequence(cause.payload)
        if event is None:
            return "no_consequence"
        envelope = Envelope(event, _metadata(cause.metadata))
        async with self._database.writing() as tx:
            if not await self._inbox.take(tx, key):
                return "repeated"
            await self._outbox.add(tx, [envelope])
        await self._wake()
        return "published"


def _metadata(cause: Metadata) -> Metadata:
    """Return metadata with the user and correlation id of the cause. The consequence has the audience of its cause."""
    return Metadata(user_id=cause.user_id, source=NAME, correlation_id=cause.correlation_id, audience=cause.audience)
