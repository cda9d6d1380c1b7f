"""The rules engine on the broker: each change has its consequence exactly once, through every fault."""

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.event import Event
from beaconfire_kit.events.campaign import StateInvalidated
from beaconfire_kit.inbox import digest
from beaconfire_kit.received import Received
from beaconfire_kit.stream_setup import declare_stream
from beaconfire_publisher.rules_engine import NAME
from tests.conftest import connected
from tests.databases import execute, on_both_databases
from tests.publisher.conftest import Heard, Publisher, publisher_settings, publishing
from tests.publisher.workers import (
    Told,
    Worker,
    anonymous,
    cause,
    changed,
    listening_to,
    reading_of,
    worker_process,
    working,
)

pytestmark = on_both_databases

KILLS = 4
SETTLEMENTS = 3
CHANGES_EACH = 40


@pytest.fixture(name="told")
async def _told(stream: NatsServer, tmp_path: Path) -> AsyncIterator[Told]:
    """The events of the rules engine, relayed by a publisher on the same database."""
    settings = publisher_settings(stream, tmp_path, "http://127.0.0.1:9/asked-by-nobody")
    async with listening_to(stream, NAME) as told, publishing(settings, Heard()):
        yield told


@pytest.fixture(name="nc")
async def _nc(stream: NatsServer) -> AsyncIterator[Client]:
    """The broker, as a domain service sees it."""
    async with connected(stream, "publisher") as nc:
        yield nc


@pytest.fixture(name="engine")
async def _engine(stream: NatsServer, told: Told, tmp_path: Path) -> AsyncIterator[Worker]:
    """A rules engine in this process."""
    async with working(stream, tmp_path, NAME) as engine:
        await engine.says("ready")
        yield engine


async def test_change_over_http_has_a_consequence_with_its_user_and_correlation_id(
    publisher: Publisher, stream: NatsServer, tmp_path: Path
) -> None:
    settlement = await publisher.create("settlements", name="Emberford")
    async with listening_to(stream, NAME) as told, working(stream, tmp_path, NAME):
        path = f"{publisher.campaign}/settlements/{settlement['id']}"
        headers = {"X_Correlation_Id": "because-of-me"}
        await publisher.editor.call("PATCH", path, {"level": 3}, **headers)
        event = (await told.until(2))[-1]  # the first is of its creation

    assert isinstance(event.payload, StateInvalidated)
    assert event.payload.model_dump(by_alias=True) == {
        "scope": "entity",
        "campaignId": publisher.campaign_id,
        "entityType": "settlement",
        "entityId": settlement["id"],
        "affectedFields": ("income", "defence"),
    }
    assert event.metadata.user_id == publisher.editor.user_id
    assert event.metadata.correlation_id == "because-of-me"


async def test_consequence_has_the_audience_of_its_cause(engine: Worker, told: Told, nc: Client) -> None:
    await cause(nc, changed("s1"), audience=("owner",))

    assert (await told.until(1))[0].metadata.audience == ("owner",)


def of_another_version(event: Event) -> bytes:
    """An event of a version for which the rules engine has no class. Another team's catalogue may have it."""
    return json.dumps({**json.loads(Envelope(event, Metadata(source="api")).encode()), "version": 2}).encode()


async def test_invalid_events_unknown_types_and_events_without_consequence_are_passed_over(
    engine: Worker, told: Told, nc: Client
) -> None:
    invalid = 'beaconfire_rules_engine_events_total{result="invalid"}'
    unknown = 'beaconfire_rules_engine_events_total{result="unknown_type"}'
    before = await engine.counts(invalid), await engine.counts(unknown)
    stranger = Envelope(changed("s2"), Metadata(source="api"))
    poison = [
        b"",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"type": "settlement_updated"}',
        b'{"type": "no_such"}',
        of_another_version(changed("s1")),
        stranger.encode(),
    ]
    for number, body in enumerate(poison):
        await broker.publish(nc, "campaign.c1.settlement.s1", body, message_id=f"poison-{number}")
    await cause(nc, changed("s1", "name"))
    await cause(nc, StateInvalidated(scope="campaign", campaign_id="c1", affected_fields=("level",)), source=NAME)
    await cause(nc, changed("s1"), "good")

    events = [event for event in await told.until(2) if event.metadata.correlation_id == "good"]
    assert len(events) == 1
    assert len(told.events) == 2  # the other is the one that a stranger gave our name
    assert await engine.counts(invalid) - before[0] == len(poison) - 2
    assert await engine.counts(unknown) - before[1] == 2


async def test_rules_engine_refuses_an_event_with_a_lifetime_as_gateways_do(
    engine: Worker, told: Told, nc: Client
) -> None:
    """No client receives it, so it has no consequence."""
    invalid = 'beaconfire_rules_engine_events_total{result="invalid"}'
    before = await engine.counts(invalid)
    vanishing = Envelope(changed("s1"), Metadata(source="api", correlation_id="vanishing"))
    headers = {"Nats-TTL": "1h"}
    await broker.publish(nc, vanishing.subject, vanishing.encode(), message_id=vanishing.id, headers=headers)
    await cause(nc, changed("s1"), "good")

    assert [event.metadata.correlation_id for event in await told.until(1)] == ["good"]
    assert await engine.counts(invalid) - before == 1


async def test_events_without_an_id_are_told_apart_by_their_offset(engine: Worker, told: Told, nc: Client) -> None:
    for number in range(2):
        await broker.publish(nc, "campaign.c1.settlement.s1", anonymous(changed("s1")), message_id=f"no-id-{number}")

    events = await told.until(2)
    assert events[0].id != events[1].id


async def test_events_delivered_again_after_a_lost_consumer_have_no_second_consequence(
    engine: Worker, told: Told, nc: Client, stream: NatsServer
) -> None:
    for number in range(5):
        await cause(nc, changed(f"s{number}"), str(number))
    await told.until(5)
    repeated = 'beaconfire_rules_engine_events_total{result="repeated"}'
    before = await engine.counts(repeated)

    async with connected(stream, "setup") as setup:
        await setup.request(f"$JS.API.CONSUMER.DELETE.{broker.STREAM}.{NAME}", b"")
    await engine.has_counted(repeated, before + 5)
    await cause(nc, changed("s1"), "later")

    assert [event.metadata.correlation_id for event in await told.until(6)] == ["0", "1", "2", "3", "4", "later"]


async def test_rules_engine_waits_for_the_stream_and_begins_with_its_first_event(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    settings = publisher_settings(nats_server, tmp_path, "http://127.0.0.1:9/asked-by-nobody")
    async with working(nats_server, tmp_path, NAME) as engine:
        await engine.says("waiting for the stream EVENTS")
        async with connected(nats_server, "setup") as setup, connected(nats_server, "publisher") as nc:
            await declare_stream(setup)
            async with listening_to(nats_server, NAME) as told, publishing(settings, Heard()):
                await cause(nc, changed("s1"))
                await told.until(1)
        await engine.says("ready")


async def test_rules_engine_reads_a_recreated_stream_from_its_start(
    engine: Worker, told: Told, nc: Client, stream: NatsServer
) -> None:
    await cause(nc, changed("s1"), "before")
    await told.until(1)
    async with connected(stream, "setup") as setup:
        await setup.request(f"$JS.API.STREAM.DELETE.{broker.STREAM}", b"")
        await declare_stream(setup)
    await broker.publish(nc, "campaign.c1.settlement.s1", anonymous(changed("s1")), message_id="anonymous")
    await cause(nc, changed("s1"), "after")

    assert [event.metadata.correlation_id for event in await told.until(3)] == ["before", None, "after"]


async def test_consequence_is_retried_in_order_while_the_database_is_away(
    engine: Worker, told: Told, nc: Client, tmp_path: Path
) -> None:
    failed = f'beaconfire_consumer_messages_total{{consumer="{NAME}",result="failed"}}'
    before = await engine.counts(failed)
    await asyncio.to_thread(execute, tmp_path, "publisher", "ALTER TABLE inbox RENAME TO away")
    await cause(nc, changed("s1"), "first")
    await cause(nc, changed("s2"), "second")
    await engine.has_counted(failed, before + 2)
    await asyncio.to_thread(execute, tmp_path, "publisher", "ALTER TABLE away RENAME TO inbox")

    assert [event.metadata.correlation_id for event in await told.until(2)] == ["first", "second"]


async def test_ids_used_up_by_a_stranger_suppress_no_consequence(
    engine: Worker, told: Told, nc: Client, tmp_path: Path
) -> None:
    one = Envelope(changed("s1"), Metadata(source="api", correlation_id="first"))
    key = digest(one.subject, one.id)
    columns = "event_id, subject, body, created_at, published_at"
    for guess in (one.id, key, key[:32], digest(NAME, key)[:32]):
        row = f"'{guess}', 'campaign.c1.state', '{{}}', '2026-01-01 00:00:00.000000', '2126-01-01 00:00:00.000000'"
        execute(tmp_path, "publisher", f"INSERT INTO outbox ({columns}) VALUES ({row})")
        await broker.publish(nc, broker.TICK, b"", message_id=guess)
    await broker.publish(nc, one.subject, one.encode(), message_id="of the cause")
    await cause(nc, changed("s2"), "after")

    assert [event.metadata.correlation_id for event in await told.until(2)] == ["first", "after"]


async def test_causes_older_than_the_stream_are_forgotten_at_start(
    told: Told, stream: NatsServer, tmp_path: Path
) -> None:
    for name, day in (("old", "2020-01-01"), ("new", "2120-01-01")):
        row = f"'{NAME}', '{name}', '{day} 00:00:00.000000'"
        execute(tmp_path, "publisher", f"INSERT INTO inbox (consumer, cause, handled_at) VALUES ({row})")
    async with working(stream, tmp_path, NAME) as engine:
        await engine.says("ready")
        async with asyncio.timeout(10):
            while len(left := await asyncio.to_thread(execute, tmp_path, "publisher", "SELECT cause FROM inbox")) > 1:
                await asyncio.sleep(0.01)

    assert left == [("new",)]


@pytest.mark.timeout(180)  # a process is started again and again, on a machine that is busy with other tests
async def test_each_change_has_one_consequence_in_order_while_the_rules_engine_is_killed(
    told: Told, nc: Client, stream: NatsServer, tmp_path: Path
) -> None:
    process = worker_process(stream, tmp_path, NAME)
    try:
        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(_load(nc))
            for kill in range(1, KILLS + 1):
                process.start(wait=False)
                await told.until(kill * CHANGES_EACH // 3)
                await asyncio.sleep(random.uniform(0, 0.05))  # any moment is as good as another
                process.kill()
            process.start(wait=False)
        await _each_once(told, nc, load.result())
    finally:
        process.kill()


async def test_two_rules_engines_give_each_change_one_consequence_in_order(
    told: Told, nc: Client, stream: NatsServer, tmp_path: Path
) -> None:
    async with working(stream, tmp_path, NAME) as one, working(stream, tmp_path, NAME) as other:
        await one.says("ready")
        await other.says("ready")
        await _each_once(told, nc, await _load(nc))


async def test_each_change_has_one_consequence_in_order_while_the_broker_is_killed(
    engine: Worker, nc: Client, stream: NatsServer
) -> None:
    async with reading_of(stream, NAME) as told:
        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(_load(nc))
            for kill in range(1, 3):
                await told.until(kill * CHANGES_EACH)
                await asyncio.to_thread(_restart, stream)
        await _each_once(told, nc, load.result())


def _restart(stream: NatsServer) -> None:
    stream.kill()
    stream.start()


async def _load(nc: Client) -> list[Envelope]:
    """Changes of some settlements, each numbered, one after the other."""

    async def change(settlement: str) -> list[Envelope]:
        return [await cause(nc, changed(settlement), f"{settlement}-{number}") for number in range(CHANGES_EACH)]

    both = await asyncio.gather(*(change(f"s{number}") for number in range(SETTLEMENTS)))
    return [one for changes in both for one in changes]


async def _each_once(told: Told, nc: Client, causes: list[Envelope]) -> None:
    """Wait for the consequences of all these, and of one more: by then whatever comes twice has come."""
    causes = [*causes, await cause(nc, changed("s0"), "the-last")]
    events = await told.until(len(causes))

    assert Counter(_why(event) for event in events) == Counter(one.metadata.correlation_id for one in causes)
    assert _by_settlement(events) == {
        f"s{one}": [*(f"s{one}-{number}" for number in range(CHANGES_EACH)), *([] if one else ["the-last"])]
        for one in range(SETTLEMENTS)
    }


def _why(event: Received) -> str:
    return event.metadata.correlation_id or ""


def _by_settlement(events: list[Received]) -> dict[str, list[str]]:
    told = defaultdict(list)
    for event in events:
        assert isinstance(event.payload, StateInvalidated)
        told[event.payload.entity_id or ""].append(_why(event))
    return told
