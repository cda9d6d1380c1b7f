"""The scheduler: running clocks advance exactly once for each moment, through every fault."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.database import Database
from beaconfire_kit.envelope import Metadata
from beaconfire_kit.events.campaign import EntityUpdated, WorldTimeChanged
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.received import Received
from beaconfire_publisher import clock
from beaconfire_publisher.campaigns import WORLD_BEGINS
from beaconfire_publisher.fields import Clock
from beaconfire_publisher.scheduler import NAME, Scheduler
from beaconfire_publisher.settings import WorkerSettings
from beaconfire_publisher.store import CAMPAIGNS, CLOCKS, OUTBOX, Store
from tests.conftest import connected
from tests.databases import on_both_databases
from tests.publisher.conftest import Heard, Publisher, publisher_settings, publishing
from tests.publisher.workers import PATIENCE_S, Told, database_url, listening_to, reading_of, worker_process, working

pytestmark = on_both_databases

HOUR_S = 3600
EVERY_SECOND = {"everyS": 1, "elapsedSeconds": HOUR_S}
MANY = 8
KILLS = 4


@asynccontextmanager
async def relayed(server: NatsServer, folder: Path) -> AsyncIterator[Told]:
    """The events of the scheduler, relayed by a publisher on the same database."""
    settings = publisher_settings(server, folder, "http://127.0.0.1:9/asked-by-nobody")
    async with listening_to(server, NAME) as told, publishing(settings, Heard()):
        yield told


@pytest.fixture(name="told")
async def _told(stream: NatsServer, tmp_path: Path) -> AsyncIterator[Told]:
    async with relayed(stream, tmp_path) as told:
        yield told


@pytest.fixture(name="store")
async def _store(told: Told, tmp_path: Path) -> AsyncIterator[Store]:
    """The publisher's database, for what no caller could bring about."""
    database = Database(database_url(tmp_path))
    yield Store(database, Outbox(database, OUTBOX))
    await database.close()


async def campaign(
    store: Store, name: str, every_s: int, due_at: datetime, world_time: datetime = WORLD_BEGINS
) -> None:
    """A campaign whose clock is due at a moment of our choice, and lets an hour pass."""
    async with store.writing(Metadata(user_id="u1", source="api")) as tx:
        row, _ = await tx.add(CAMPAIGNS, {"id": name}, {"name": name, "description": "", "world_time": world_time})
        await clock.start(tx, row, Clock(every_s=every_s, elapsed_seconds=HOUR_S), "u1")
        await tx.put(CLOCKS, {"campaign_id": name}, {"due_at": due_at, "set_by": "u1"})


async def world_time(store: Store, name: str) -> datetime:
    async with store.reading() as tx:
        return (await tx.find(CAMPAIGNS, {"id": name}))["world_time"]  # type: ignore[no-any-return]


def passed(events: list[Received], name: str) -> list[WorldTimeChanged]:
    """The advances of one campaign."""
    payloads = [event.payload for event in events]
    return [one for one in payloads if isinstance(one, WorldTimeChanged) and one.campaign_id == name]


async def test_clock_set_over_http_advances_in_its_editors_name_until_stopped(
    publisher: Publisher, stream: NatsServer, tmp_path: Path
) -> None:
    async with listening_to(stream, NAME) as told, working(stream, tmp_path, NAME) as one:
        await one.says("ready")
        await publisher.editor.call("PUT", f"{publisher.campaign}/clock", EVERY_SECOND)
        await told.until(3)
        assert (await publisher.editor.delete(f"{publisher.campaign}/clock")).status == 204
        stopped_at = (await publisher.viewer.get(publisher.campaign)).body["campaign"]["worldTime"]
        other = (await publisher.owner.post("/v1/campaigns", {"name": "Another"})).body["campaign"]["id"]
        await publisher.owner.call("PUT", f"/v1/campaigns/{other}/clock", EVERY_SECOND)
        async with asyncio.timeout(PATIENCE_S):
            while len(passed(told.events, other)) < 2:
                await told.until(len(told.events) + 1)

    advances = _check_advances(told, publisher.campaign_id)
    assert {one.elapsed_seconds for one in advances} == {HOUR_S}
    assert datetime.fromisoformat(stopped_at) == advances[-1].new_time
    assert told.events[0].metadata.user_id == publisher.editor.user_id


class NeverLooking(Scheduler):
    """A scheduler that looks for clocks when it starts, and then only when a message says that one was changed."""

    def __init__(self, database: Database, settings: WorkerSettings, wake: Callable[[], Awaitable[None]]) -> None:
        super().__init__(database, settings, wake, look_every_s=3600.0)


async def test_scheduler_reacts_to_a_set_clock_without_polling_and_ignores_other_messages(
    publisher: Publisher, stream: NatsServer, tmp_path: Path
) -> None:
    async with listening_to(stream, NAME) as told, working(stream, tmp_path, NeverLooking) as one:
        await one.says("ready")
        async with connected(stream, "publisher") as nc:
            subject = f"campaign.{publisher.campaign_id}.campaign.{publisher.campaign_id}"
            await broker.publish(nc, subject, b"no event", message_id="poison")
        await publisher.editor.patch(publisher.campaign, {"name": "Elsewhere"})
        await publisher.editor.call("PUT", f"{publisher.campaign}/clock", EVERY_SECOND)

        await told.until(2)


async def test_overdue_clock_advances_once_and_keeps_its_moments(
    told: Told, store: Store, stream: NatsServer, tmp_path: Path
) -> None:
    due_at = datetime.now(UTC) - timedelta(hours=1, seconds=30)
    await campaign(store, "c1", 60, due_at)
    async with working(stream, tmp_path, NAME):
        await told.until(1)
        async with store.reading() as tx:
            next_due = (await tx.find(CLOCKS, {"campaign_id": "c1"}))["due_at"]

    assert (await world_time(store, "c1")) == WORLD_BEGINS + timedelta(seconds=HOUR_S)
    assert next_due > due_at + timedelta(hours=1)
    assert (next_due - due_at) % timedelta(seconds=60) == timedelta(0)


async def test_clock_that_reaches_the_year_9999_stops_with_an_event_and_delays_no_other(
    told: Told, store: Store, stream: NatsServer, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    await campaign(store, "c1", 1, now - timedelta(hours=1), datetime(9999, 12, 31, 23, 30, tzinfo=UTC))
    await campaign(store, "c2", 3600, now)
    async with working(stream, tmp_path, NAME):
        stopped, advanced = await told.until(2)

    assert isinstance(stopped.payload, EntityUpdated)
    assert (stopped.payload.entity_id, stopped.payload.changed_fields) == ("c1", ("clock",))
    assert isinstance(advanced.payload, WorldTimeChanged)
    async with store.reading() as tx:
        assert (await tx.find(CAMPAIGNS, {"id": "c1"}))["clock"] is None


async def test_clock_of_a_deleted_campaign_is_deleted(
    told: Told, store: Store, stream: NatsServer, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    await campaign(store, "c1", 1, now - timedelta(hours=1))
    async with store.writing(Metadata(source="api")) as tx:
        await tx.delete(CAMPAIGNS, await tx.find(CAMPAIGNS, {"id": "c1"}))
    await campaign(store, "c2", 3600, now)
    async with working(stream, tmp_path, NAME):
        events = await told.until(1)

    assert [event.metadata.source for event in events] == [NAME]
    assert not passed(events, "c1")


async def test_clocks_run_while_the_broker_is_away_and_their_events_follow_once_and_in_order(
    store: Store, stream: NatsServer, tmp_path: Path
) -> None:
    await campaign(store, "c1", 1, datetime.now(UTC))
    async with reading_of(stream, NAME) as told, working(stream, tmp_path, NAME):
        await told.until(1)
        stream.kill()
        async with asyncio.timeout(PATIENCE_S):
            while await world_time(store, "c1") < WORLD_BEGINS + timedelta(seconds=3 * HOUR_S):
                await asyncio.sleep(0.01)
        await asyncio.to_thread(stream.start)
        await told.until(4)

    _check_advances(told, "c1")


@pytest.mark.timeout(180)  # processes are started again and again, on a machine that is busy with other tests
async def test_every_clock_advances_once_for_each_moment_while_two_schedulers_are_killed(
    told: Told, store: Store, stream: NatsServer, tmp_path: Path
) -> None:
    begun = datetime.now(UTC)
    for number in range(MANY):
        await campaign(store, f"c{number}", 1, begun)
    both = [worker_process(stream, tmp_path / name, NAME, database=tmp_path) for name in ("one", "other")]
    try:
        for process in both:
            process.start(wait=False)
        for kill in range(KILLS):
            await told.until(len(told.events) + MANY)
            await asyncio.sleep(random.uniform(0, 0.1))  # any moment is as good as another
            both[kill % 2].kill()
            both[kill % 2].start(wait=False)
        await told.until(len(told.events) + 2 * MANY)
    finally:
        for process in both:
            process.kill()
    moments = (datetime.now(UTC) - begun) // timedelta(seconds=1) + 1
    for number in range(MANY):
        async with store.writing(Metadata(source="api")) as tx:
            await clock.stop(tx, await tx.find(CAMPAIGNS, {"id": f"c{number}"}))
    await campaign(store, "last", 3600, begun)
    async with working(stream, tmp_path, NAME), asyncio.timeout(PATIENCE_S):
        while not passed(told.events, "last"):
            await told.until(len(told.events) + 1)

    for number in range(MANY):
        advances = _check_advances(told, f"c{number}")
        assert await world_time(store, f"c{number}") == advances[-1].new_time
        assert len(advances) <= moments


def _check_advances(told: Told, name: str) -> list[WorldTimeChanged]:
    """Each starts where the one before it ended, from the start of the world on."""
    advances = passed(told.events, name)
    times = [WORLD_BEGINS + timedelta(seconds=HOUR_S * number) for number in range(len(advances) + 1)]
    assert [(one.previous_time, one.new_time) for one in advances] == list(pairwise(times))
    return advances


async def test_clock_of_a_user_over_the_limit_waits_and_delays_no_other_users_clock(
    stream: NatsServer, told: Told, store: Store, tmp_path: Path
) -> None:
    async with store.writing(Metadata(user_id="u2", source="api")) as tx:
        values = {"name": "calm", "description": "", "world_time": WORLD_BEGINS}
        row, _ = await tx.add(CAMPAIGNS, {"id": "calm"}, values)
        await clock.start(tx, row, Clock(every_s=1, elapsed_seconds=HOUR_S), "u2")
    for number in range(4):
        await campaign(store, f"loud{number}", 60, datetime.now(UTC))
    before = REGISTRY.get_sample_value("beaconfire_scheduler_advances_postponed_total") or 0.0  # of this whole process
    async with working(stream, tmp_path, NAME, user_events_per_minute=2) as one:
        await one.says("ready")
        async with asyncio.timeout(PATIENCE_S):
            while not passed(told.events, "calm") or len({event.metadata.user_id for event in told.events}) < 2:
                await told.until(len(told.events) + 1)
        await one.has_counted("beaconfire_scheduler_advances_postponed_total", before + 2)
        async with store.reading() as tx:
            later = [await tx.find(CLOCKS, {"campaign_id": f"loud{number}"}) for number in range(4)]

    advanced = [number for number in range(4) if passed(told.events, f"loud{number}")]
    assert len(advanced) == 2
    assert all(row["due_at"] > datetime.now(UTC) for row in later)
