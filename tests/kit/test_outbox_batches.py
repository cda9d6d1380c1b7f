"""A backlog of the outbox is published in atomic batches. An event that spoils its batch delays no other."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from sqlalchemy import insert

from beaconfire.nats_server import NatsServer
from beaconfire_kit import atomic_batch, broker, relay
from beaconfire_kit.atomic_batch import MAX_BYTES, MAX_MESSAGES, Message, NotStored, Unavailable
from beaconfire_kit.database import Database
from beaconfire_kit.outbox import Outbox
from tests.broker_changes import change_permissions, change_stream, deny, until_denied
from tests.conftest import connected
from tests.databases import on_both_databases
from tests.kit.outboxes import PATIENCE_S, ROWS, column, commit_all, envelope, heard, opened, relaying

DENIED = "campaign.denied.state"
MANY = 3 * relay.ATOMIC_FROM
TAKES_A_SECOND_LOOK_S = 0.0
"""A duplicate window so short that every row is looked up before it is sent."""


@pytest.fixture(name="database")
async def _database(tmp_path: Path) -> AsyncIterator[Database]:
    async with opened(tmp_path) as database:
        yield database


@pytest.fixture(name="nc")
async def _nc(stream: NatsServer) -> AsyncIterator[Client]:
    async with connected(stream, "publisher") as nc:
        yield nc


@pytest.fixture(name="setup")
async def _setup(stream: NatsServer) -> AsyncIterator[Client]:
    async with connected(stream, "setup") as setup:
        yield setup


@pytest.fixture(name="stored")
async def _stored(stream: NatsServer) -> AsyncIterator["asyncio.Queue[str]"]:
    """The ids of the events that the stream stores, in its order."""
    ids: asyncio.Queue[str] = asyncio.Queue()

    async def take(message: Msg) -> None:
        if message.headers and "Nats-Msg-Id" in message.headers and message.subject != "live.tick":
            ids.put_nowait(message.headers["Nats-Msg-Id"])

    async with connected(stream, "gateway") as nc:
        await nc.subscribe("live.>", cb=take)
        await nc.flush()
        yield ids


def batches(outcome: str) -> float:
    """How many batches had this outcome so far."""
    return float(relay.BATCHES.labels(outcome)._value.get())


def messages(*ids: str, subject: str = "campaign.c1.state") -> list[Message]:
    return [Message(subject, b"{}", id_) for id_ in ids]


async def commit(database: Database, box: Outbox, events: Sequence[tuple[str, str, bytes]]) -> None:
    """Commit rows as they are: (id, subject, body) each."""
    now = datetime.now(UTC)
    async with database.writing() as tx:
        rows = [{"event_id": id_, "subject": subject, "body": body, "created_at": now} for id_, subject, body in events]
        await tx.execute(insert(ROWS), rows)
    box.wake()


async def until_marked(database: Database) -> None:
    """Wait until the relay is done with every row."""
    async with asyncio.timeout(PATIENCE_S):
        while None in await column(database, "published_at"):
            await asyncio.sleep(0.01)


async def offsets(database: Database) -> list[int | None]:
    await until_marked(database)
    return await column(database, "stream_offset")


@on_both_databases
async def test_backlog_of_many_roots_is_stored_in_batches_in_the_order_of_its_rows(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    box, before = Outbox(database, ROWS), batches("stored")
    ids = [f"e{number}" for number in range(2 * MAX_MESSAGES + 1)]
    await commit_all(database, box, [envelope(id_, f"c{number % 7}") for number, id_ in enumerate(ids)])
    async with relaying(box, nc):
        assert await heard(stored, len(ids)) == ids
        found = await offsets(database)

    assert found == list(range(found[0] or 0, (found[0] or 0) + len(ids)))
    assert batches("stored") - before == 2


async def test_few_events_are_published_by_themselves(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    box, before = Outbox(database, ROWS), batches("stored") + batches("not stored")
    ids = [f"e{number}" for number in range(relay.ATOMIC_FROM - 1)]
    await commit_all(database, box, [envelope(id_) for id_ in ids])
    async with relaying(box, nc):
        assert await heard(stored, len(ids)) == ids

    assert batches("stored") + batches("not stored") == before


@pytest.mark.parametrize("place", [0, MANY // 2, MANY - 1], ids=["first", "inside", "last"])
@pytest.mark.parametrize(
    ("subject", "body", "why"),
    [
        (DENIED, b"{}", "may not publish"),
        ("nowhere.n1.state", b"{}", "does not take nowhere.n1.state"),
        ("campaign.large.state", b"x" * broker.MAX_MESSAGE_BYTES, "exceeds maximum allowed"),
    ],
    ids=["denied", "no place for its subject", "too large"],
)
async def test_event_that_spoils_its_batch_is_set_aside_and_the_others_are_stored_in_order(
    stream: NatsServer,
    database: Database,
    stored: "asyncio.Queue[str]",
    place: int,
    subject: str,
    body: bytes,
    why: str,
) -> None:
    box = Outbox(database, ROWS)
    change_permissions(stream, '"campaign.>"', '"campaign.>", "nowhere.>"')
    deny(stream, DENIED)
    others = [f"e{number}" for number in range(MANY - 1)]
    events = [(id_, f"campaign.c{number % 5}.state", b"{}") for number, id_ in enumerate(others)]
    events.insert(place, ("spoils", subject, body))
    async with connected(stream, "publisher") as nc:
        await until_denied(nc, DENIED)
        await commit(database, box, events)
        async with relaying(box, nc):
            told = await heard(stored, len(others))
            await until_marked(database)

    refused = await column(database, "refused")
    assert why in refused.pop(place)
    assert set(refused) == {None}
    assert sorted(told) == sorted(others)
    for root in range(5):
        assert [id_ for id_ in told if int(id_[1:]) % 5 == root] == others[root::5]


async def test_events_that_a_dead_relay_had_stored_in_a_batch_are_not_stored_again(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    """It died before it could mark them, and more were committed meanwhile."""
    box = Outbox(database, ROWS)
    ids = [f"e{number}" for number in range(MANY)]
    first = await atomic_batch.publish(nc, messages(*ids[:40]), timeout_s=PATIENCE_S)
    await commit(database, box, [(id_, "campaign.c1.state", b"{}") for id_ in ids])
    async with relaying(box, nc):
        assert await heard(stored, MANY) == ids
        assert await offsets(database) == list(range(first, first + MANY))


async def test_backlog_older_than_the_duplicate_window_is_looked_up_and_the_rest_goes_in_a_batch(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    box, before = Outbox(database, ROWS), batches("stored")
    ids = [f"e{number}" for number in range(MANY)]
    first = await atomic_batch.publish(nc, messages(*ids[:40]), timeout_s=PATIENCE_S)
    await commit(database, box, [(id_, "campaign.c1.state", b"{}") for id_ in ids])
    async with relaying(box, nc, duplicate_window_s=TAKES_A_SECOND_LOOK_S):
        assert await heard(stored, MANY) == ids
        found = await offsets(database)

    assert found[:40] == list(range(first, first + 40))
    assert batches("stored") - before == 1


@on_both_databases
async def test_backlog_is_stored_once_and_in_order_although_the_broker_is_killed_in_the_middle(
    database: Database, nc: Client, stream: NatsServer
) -> None:
    box = Outbox(database, ROWS)
    ids = [f"e{number}" for number in range(5 * MAX_MESSAGES)]
    roots = 3
    await commit(database, box, [(id_, f"campaign.c{number % roots}.state", b"{}") for number, id_ in enumerate(ids)])
    async with relaying(box, nc):
        for _ in range(3):
            marked = len(list(filter(None, await column(database, "published_at"))))
            async with asyncio.timeout(PATIENCE_S):
                while len(list(filter(None, await column(database, "published_at")))) == marked < len(ids):
                    await asyncio.sleep(0)
            await asyncio.to_thread(stream.kill)
            await asyncio.to_thread(stream.start)
        found = await offsets(database)

    known = [offset for offset in found if offset is not None]
    assert len(set(known)) == len(ids)
    for root in range(roots):  # events of different roots may be in another order, if their batch was not acknowledged
        assert sorted(known[root::roots]) == known[root::roots]


async def test_root_that_is_never_acknowledged_does_not_spoil_the_batches_of_others(
    stream: NatsServer, database: Database, setup: Client, stored: "asyncio.Queue[str]"
) -> None:
    box = Outbox(database, ROWS)
    change_permissions(stream, '"deadletter.>", "_INBOX_operator', '"deadletter.>", "workspace.>", "_INBOX_operator')
    async with connected(stream, "operator") as hearer, connected(stream, "publisher") as nc:
        swallowed = await hearer.subscribe("workspace.>")  # prevents the broker's "no responders"
        await hearer.flush()
        await change_stream(setup, {"subjects": ["campaign.>", "tick", "anchor"]})
        await commit(database, box, [(f"lost {number}", "workspace.lost.state", b"{}") for number in range(MANY)])
        async with relaying(box, nc):
            await swallowed.next_msg(timeout=PATIENCE_S)
            for turn in range(3):
                ids = [f"{turn} {number}" for number in range(MANY)]
                await commit(database, box, [(id_, "campaign.c1.state", b"{}") for id_ in ids])
                assert await heard(stored, MANY) == ids
            await change_stream(setup, {})
            assert await heard(stored, MANY) == [f"lost {number}" for number in range(MANY)]


async def test_batches_that_a_stranger_leaves_open_do_not_stop_the_relay(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    box, before = Outbox(database, ROWS), batches("not stored")
    for number in range(60):
        headers = {"Nats-Batch-Id": f"open{number}", "Nats-Batch-Sequence": "1"}
        await nc.publish("campaign.c9.state", b"{}", headers=headers)
    ids = [f"e{number}" for number in range(MANY)]
    await commit(database, box, [(id_, "campaign.c1.state", b"{}") for id_ in ids])
    async with relaying(box, nc):
        assert await heard(stored, MANY) == ids

    assert batches("not stored") - before == 1


async def test_stream_declared_by_an_earlier_version_gets_its_events_one_by_one(
    database: Database, nc: Client, setup: Client, stored: "asyncio.Queue[str]"
) -> None:
    box, before = Outbox(database, ROWS), batches("not stored")
    await setup.request(f"$JS.API.STREAM.DELETE.{broker.STREAM}", b"")
    await broker.call_api(
        setup, f"STREAM.CREATE.{broker.STREAM}", broker.stream_config(replicas=1, epoch="e1") | {"allow_atomic": False}
    )
    ids = [f"e{number}" for number in range(MANY)]
    await commit(database, box, [(id_, "campaign.c1.state", b"{}") for id_ in ids])
    async with relaying(box, nc):
        assert await heard(stored, MANY) == ids

    assert batches("not stored") - before == 1


async def test_server_that_does_not_know_batches_is_recognised_by_its_first_answer(
    stream: NatsServer, nc: Client
) -> None:
    """An old server stores each message and acknowledges it, as if there were no batch. This is such an answer."""

    async def acknowledge(message: Msg) -> None:
        await message.respond(b'{"stream":"EVENTS","seq":7}')

    async with connected(stream, "publisher") as old:
        await old.subscribe(broker.WAKE, cb=acknowledge)
        await old.flush()
        with pytest.raises(Unavailable, match=r"2\.12"):
            await atomic_batch.publish(nc, messages("a", "b", subject=broker.WAKE), timeout_s=PATIENCE_S)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"allow_atomic": False}, "disabled"),
        ({"discard": "new", "max_msgs": 2}, "maximum messages"),
        ({"sealed": True}, "sealed"),
        ({"subjects": ["workspace.>", "tick"]}, "no responders"),
    ],
)
async def test_batch_that_the_stream_cannot_take_leaves_nothing_behind(
    nc: Client, setup: Client, change: dict[str, Any], why: str
) -> None:
    await change_stream(setup, change)
    before = (await broker.stream_state(nc)).last

    with pytest.raises(NotStored, match=why):
        await atomic_batch.publish(nc, messages("a", "b", "c"), timeout_s=PATIENCE_S)

    assert (await broker.stream_state(nc)).last == before


def test_batch_is_bounded_in_messages_and_bytes_but_never_empty() -> None:
    small, large = messages(*map(str, range(MAX_MESSAGES + 1))), Message("campaign.c1.state", b"x" * MAX_BYTES, "large")

    assert atomic_batch.fitting(small) == small[:MAX_MESSAGES]
    assert atomic_batch.fitting([large, *small]) == [large]
    assert atomic_batch.fitting([small[0], large]) == [small[0]]
    assert atomic_batch.fitting([]) == []
