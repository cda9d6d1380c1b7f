"""Run the publisher's workers between real parts, and hear their events as a gateway does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from beaconfire.local_services import ServiceProcess
from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.consumer import ACK_WAIT_S
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.event import Event
from beaconfire_kit.events.campaign import SettlementUpdated
from beaconfire_kit.received import Received, read
from beaconfire_kit.serving import worker_listening
from beaconfire_publisher.settings import WorkerSettings
from beaconfire_publisher.worker import JOBS, Job, build
from tests import databases
from tests.conftest import broker_settings, connected
from tests.forked import forked

PATIENCE_S = 30.0


class Told:
    """The events of one source, each checked as a gateway does it, in the order of the stream."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._new = asyncio.Event()
        self.events: list[Received] = []

    async def hear(self, message: Msg) -> None:
        """A live copy."""
        await self.take(message.subject.removeprefix("live."), message.data)

    async def take(self, subject: str, body: bytes) -> None:
        """A message of the stream."""
        try:
            event = read(subject, body)
        except ValueError:  # ticks, anchors, and what the tests publish to be refused
            return
        if event.metadata.source == self._source:
            self.events.append(event)
            self._new.set()

    async def until(self, count: int) -> list[Received]:
        """All of them, once there are `count` or more."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.events) < count:
                self._new.clear()
                await self._new.wait()
        return self.events


@asynccontextmanager
async def listening_to(server: NatsServer, source: str) -> AsyncIterator[Told]:
    """Hear the events of a source, from now on."""
    async with connected(server, "gateway") as nc:
        told = Told(source)
        await nc.subscribe("live.>", cb=told.hear)
        await nc.flush()
        yield told


@asynccontextmanager
async def reading_of(server: NatsServer, source: str) -> AsyncIterator[Told]:
    """Read the events of a source from the stream itself, for a test in which live copies are lost."""
    async with connected(server, "setup") as nc, asyncio.TaskGroup() as tasks:
        told = Told(source)
        reader = tasks.create_task(_read_on(nc, told))
        yield told
        reader.cancel()


async def _read_on(nc: Client, told: Told) -> None:
    offset = 0
    while True:
        broker.check_cancelled()
        try:
            stored = await nc.jetstream().get_msg(broker.STREAM, offset + 1, subject="campaign.>", next=True)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
            await asyncio.sleep(0.02)  # no further event yet, or the broker is away
            continue
        offset = stored.seq or 0
        await told.take(stored.subject or "", stored.data or b"")


@dataclass(frozen=True, slots=True)
class Worker:
    """A running worker's operations port."""

    url: str
    http: aiohttp.ClientSession

    async def says(self, status: str) -> None:
        """Wait until /readyz says this."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                async with self.http.get(f"{self.url}/readyz") as answer:
                    if (await answer.json())["status"] == status:
                        return
                await asyncio.sleep(0.01)

    async def counts(self, metric: str) -> float:
        """Return the value of one metric with its labels in /metrics, or 0 if it is not there yet."""
        async with self.http.get(f"{self.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{metric} ")), 0.0)

    async def has_counted(self, metric: str, least: float) -> None:
        """Wait until a metric has reached a value."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.counts(metric) < least:
                await asyncio.sleep(0.01)


def database_url(folder: Path) -> str:
    return databases.database_url(folder, "publisher")


@asynccontextmanager
async def working(
    server: NatsServer, folder: Path, job: str | type[Job], *, ack_wait_s: float = ACK_WAIT_S, **limits: float
) -> AsyncIterator[Worker]:
    """A worker in this process, on a real port. The same folder is the same database. Does not wait."""
    work = JOBS[job] if isinstance(job, str) else job
    common = broker_settings(server, work.name).model_dump()
    settings = WorkerSettings(**{**common, "database_url": database_url(folder), **limits})
    app = build(
        work, settings, on_fatal=lambda: pytest.fail("the worker lost its broker for good"), ack_wait_s=ack_wait_s
    )
    async with aiohttp.ClientSession() as http, worker_listening(app, settings, name=work.name) as url:
        yield Worker(url, http)


def worker_process(server: NatsServer, folder: Path, job: str, *, database: Path | None = None) -> ServiceProcess:
    """A worker as it runs in production, not started.

    Its log is in `folder`, and so is its database unless `database` is given.
    """
    environment = {**server.environment(job), "BEACONFIRE_DATABASE_URL": database_url(database or folder)}
    return forked(ServiceProcess(job, "beaconfire_publisher", environment, arguments=(job,), folder=folder))


def changed(settlement: str, *fields: str, operation: Any = "update") -> SettlementUpdated:
    """A change of a settlement."""
    return SettlementUpdated(
        campaign_id="c1", settlement_id=settlement, operation=operation, changed_fields=fields or ("level",)
    )


async def cause(nc: Client, event: Event, correlation_id: str = "why", **metadata: Any) -> Envelope:
    """Publish a change as a service would, and wait until it is stored."""
    known = {"source": "api", "user_id": "u1", "correlation_id": correlation_id}
    one = Envelope(event, Metadata(**{**known, **metadata}))
    await broker.publish(nc, one.subject, one.encode(), message_id=one.id)
    return one


def anonymous(event: Event) -> bytes:
    """The body of an event whose publisher gave it no id."""
    body = json.loads(Envelope(event, Metadata(source="elsewhere")).encode())
    del body["id"]
    return json.dumps(body).encode()
