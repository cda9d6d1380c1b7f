"""The rules engine: hears changes on the stream, and tells what they make out of date.

Exactly once: the cause is recorded in the transaction that writes the event. Killed at any moment, it does the same
again or finds it done. The event's id is random: one that follows from its cause could be worked out by whoever sees
the cause, and used up before us.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

from faststream.nats import NatsMessage
from sqlalchemy.exc import SQLAlchemyError

from beaconfire_kit import logs, metrics
from beaconfire_kit.consumer import identity
from beaconfire_kit.database import Database, DatabaseAway
from beaconfire_kit.envelope import Envelope, InvalidEvent, Metadata, Received, check_lifetime, read
from beaconfire_kit.inbox import Inbox, digest
from beaconfire_kit.outbox import Outbox
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
    """Handles one change after another."""

    name: ClassVar = NAME
    subjects: ClassVar = SUBJECTS

    def __init__(self, database: Database, _settings: WorkerSettings, wake: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._outbox = Outbox(database, OUTBOX)
        self._inbox = Inbox(INBOX, NAME)
        self._wake = wake

    async def handle(self, message: NatsMessage) -> None:
        """Tell what a change makes out of date. Returns when that is committed, or when there is nothing to do.

        What is no valid event is passed over, counted: the gateways copy it to the dead letters.
        """
        raw = message.raw_message
        try:
            check_lifetime(raw.headers)
            cause = read(raw.subject, raw.data)
        except InvalidEvent as error:
            HANDLED.labels("invalid").inc()
            log.warning("passed over an invalid event", subject=raw.subject[:200], reason=error.reason)
            return
        HANDLED.labels(await self._follow(cause, digest(raw.subject, cause.id or identity(raw)))).inc()

    async def run(self) -> None:
        """Forget, every hour, what the stream cannot deliver any more."""
        while True:
            try:
                async with self._database.writing() as tx:
                    await self._inbox.forget(tx)
            except (DatabaseAway, SQLAlchemyError) as error:
                log.warning("could not forget old causes", error=type(error).__name__)
            await asyncio.sleep(FORGET_EVERY_S)

    async def _follow(self, cause: Received, key: str) -> str:
        told = consequence(cause.payload)
        if told is None:
            return "no_consequence"
        envelope = Envelope(told, _metadata(cause.metadata))
        async with self._database.writing() as tx:
            if not await self._inbox.take(tx, key):
                return "repeated"
            await self._outbox.add(tx, [envelope])
        await self._wake()
        return "told"


def _metadata(cause: Metadata) -> Metadata:
    """Who caused it, and in which connection. Who may see it is who may see the cause."""
    return Metadata(user_id=cause.user_id, source=NAME, correlation_id=cause.correlation_id, audience=cause.audience)
