"""Build a worker: a process on the publisher's database that consumes the stream and does one job.

It does not publish. It writes its events to the outbox, in the transaction of the changes that they report. The
publisher relays them with its own. So there is one order, and one process that sends.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar, Protocol

from aiohttp import web
from faststream.nats import NatsMessage

from beaconfire_kit import broker
from beaconfire_kit.consumer import ACK_WAIT_S, DurableConsumer
from beaconfire_kit.database import Database
from beaconfire_kit.service import Service
from beaconfire_publisher.migrations import MIGRATIONS
from beaconfire_publisher.rules_engine import RulesEngine
from beaconfire_publisher.scheduler import Scheduler
from beaconfire_publisher.settings import WorkerSettings
from beaconfire_publisher.store import OUTBOX


class Job(Protocol):
    """The job of a worker."""

    name: ClassVar[str]
    """Its durable consumer and its broker user."""
    subjects: ClassVar[tuple[str, ...]]
    """Patterns of the NATS subjects that it consumes."""

    def __init__(self, database: Database, settings: WorkerSettings, wake: Callable[[], Awaitable[None]]) -> None:
        """`wake` is called when the outbox has new events, to wake the publisher."""

    async def handle(self, message: NatsMessage) -> None:
        """Handle a message, by the rules of `beaconfire_kit.consumer.DurableConsumer`."""

    async def run(self) -> None:
        """Do the rest of the job, forever, whether the broker is there or not."""


JOBS: dict[str, type[Job]] = {job.name: job for job in (RulesEngine, Scheduler)}


def build(
    job: type[Job], settings: WorkerSettings, *, on_fatal: Callable[[], None], ack_wait_s: float = ACK_WAIT_S
) -> web.Application:
    """Return a worker's application, for its operations port. For `on_fatal` see `Service`.

    A message that is not acknowledged for `ack_wait_s` seconds is redelivered.
    """
    service = Service(job.name, settings, MIGRATIONS, look_at=OUTBOX, on_fatal=on_fatal)
    doing = job(service.database, settings, partial(service.wake, broker.WAKE))
    consumer = DurableConsumer(
        settings,
        job.name,
        subjects=job.subjects,
        handle=doing.handle,
        on_closed=on_fatal,
        ack_wait_s=ack_wait_s,
    )
    service.while_connected(consumer.run)
    service.unless(consumer.why_not_ready)
    service.always(doing.run)
    return service.worker_application()
