"""A worker put together: a process beside the publisher, on its database, that hears the stream and does one job.

It publishes nothing itself. Its events go into the outbox, in the transaction of what they tell, and the publisher
relays them with its own: one order, one that sends.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import ClassVar, Protocol

import nats.errors
from aiohttp import web
from faststream.nats import NatsMessage
from nats.aio.client import Client

from beaconfire_kit import broker, logs
from beaconfire_kit.consumer import DurableConsumer
from beaconfire_kit.database import Database
from beaconfire_kit.migrations import open_database
from beaconfire_kit.web import worker_application
from beaconfire_publisher.migrations import MIGRATIONS
from beaconfire_publisher.rules_engine import RulesEngine
from beaconfire_publisher.scheduler import Scheduler
from beaconfire_publisher.settings import WorkerSettings
from beaconfire_publisher.store import look

log = logs.get(__name__)

WATCH_EVERY_S = 1.0


class Job(Protocol):
    """What a worker does."""

    name: ClassVar[str]
    """Its durable consumer and its broker user."""
    subjects: ClassVar[tuple[str, ...]]
    """What it hears: patterns of NATS subjects."""

    def __init__(self, database: Database, settings: WorkerSettings, nudge: Callable[[], Awaitable[None]]) -> None:
        """`nudge` tells the publisher that there is something in the outbox."""

    async def handle(self, message: NatsMessage) -> None:
        """See `beaconfire_kit.consumer.DurableConsumer`."""

    async def run(self) -> None:
        """What it does besides, for ever, whether the broker is there or not."""


JOBS: dict[str, type[Job]] = {job.name: job for job in (RulesEngine, Scheduler)}


def build(job: type[Job], settings: WorkerSettings, *, on_fatal: Callable[[], None]) -> web.Application:
    """A worker's application, for its operations port. `on_fatal` is called where a broker connection ended for good.

    Its start raises DatabaseUnusable. It does not wait for the broker: until then it is alive and not ready.
    """
    worker = _Worker(job, settings, on_fatal)
    app = worker_application(ready=worker.why_not_ready)
    app.cleanup_ctx.append(worker.run)
    return app


class _Worker:
    def __init__(self, job: type[Job], settings: WorkerSettings, on_fatal: Callable[[], None]) -> None:
        self._settings = settings
        self._on_fatal = on_fatal
        self._database = Database(settings.database_url, pool_size=settings.database_connections)
        self._nc: Client | None = None
        self._why_not: str | None = "starting"
        self._job = job(self._database, settings, self._nudge)
        self._consumer = DurableConsumer(
            settings, job.name, subjects=job.subjects, handle=self._job.handle, on_closed=on_fatal
        )

    def why_not_ready(self) -> str | None:
        if self._database.why_not is not None:
            return self._database.why_not
        if self._nc is None:
            return "starting: waiting for the broker"
        if not self._nc.is_connected:
            return "the broker is not reachable"
        return self._why_not or self._consumer.why_not_ready()

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Everything there is, in the order in which it stops."""
        await open_database(self._database, MIGRATIONS, migrate=self._settings.migrate_on_start)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(part) for part in (self._hear(), self._watch(), self._job.run())]
                yield
                for task in running:
                    task.cancel()
        finally:
            if self._nc is not None:
                await broker.close(self._nc)
            await self._database.close()

    async def _hear(self) -> None:
        self._nc = await broker.connect(self._settings, self._job.name, on_closed=self._on_fatal)
        await self._consumer.run(self._nc)

    async def _nudge(self) -> None:
        if self._nc is not None:
            with contextlib.suppress(nats.errors.Error):  # the relay looks by itself every second
                await self._nc.publish(broker.WAKE, b"")

    async def _watch(self) -> None:
        """Keep saying why we are not ready."""
        while True:
            self._why_not = await self._database.check(look)
            await asyncio.sleep(WATCH_EVERY_S)
