"""The outbox and its relay against a real broker and a real database."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker, relay
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.database import Database, DatabaseAway
from beaconfire_kit.lease import LEASE
from beaconfire_kit.outbox import Added, Outbox
from beaconfire_kit.relay import KEEP, Relay
from beaconfire_kit.stream_setup import declare_stream
from tests.conftest import connected
from tests.databases import Databases, chosen, on_both_databases
from tests.kit.outboxes import (
    PATIENCE_S,
    ROWS,
    TABLES,
    column,
    commit_all,
    envelope,
    execute,
    heard,
    opened,
    relay_of,
    relaying,
)

WINDOW_S = 1.0


@pytest.fixture(name="database")
async def _database(tmp_path: Path) -> AsyncIterator[Database]:
    async with opened(tmp_path) as database:
        yield database


@pytest.fixture(name="nc")
async def _nc(stream: NatsServer) -> AsyncIterator[Client]:
    async with connected(stream, "publisher") as nc:
        yield nc


@pytest.fixture(name="stored")
async def _stored(stream: NatsServer) -> AsyncIterator["asyncio.Queue[str]"]:
    """The ids of the events that the stream stores, in its order."""
    ids: asyncio.Queue[str] = asyncio.Queue()

    async def take(message: Msg) -> None:
        if message.headers and message.subject.startswith("live.campaign."):
            ids.put_nowait(message.headers["Nats-Msg-Id"])

    async with connected(stream, "gateway") as nc:
        await nc.subscribe("live.>", cb=take)
        await nc.flush()
        yield ids


@asynccontextmanager
async def reopened(database: Database) -> AsyncIterator[Database]:
    """The same database, as another process opens it."""
    again = Database(database.url.render_as_string(hide_password=False))
    try:
        yield again
    finally:
        await again.close()


async def until_idle(relay: Relay) -> None:
    """Wait until a relay has nothing in flight and reads no rows."""
    async with asyncio.timeout(PATIENCE_S):
        while relay._sending or relay._is_looking or relay.outbox.committed.is_set():
            await asyncio.sleep(0)


async def commit(database: Database, box: Outbox, *ids: str) -> None:
    """Commit events of one root in one transaction."""
    await commit_all(database, box, [envelope(id_) for id_ in ids])


@on_both_databases
async def test_committed_events_are_stored_in_the_order_of_their_rows(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    box = Outbox(database, ROWS)
    ids = [f"e{number}" for number in range(250)]
    await commit(database, box, *ids[:200])
    async with relaying(box, nc):
        await commit(database, box, *ids[200:])

        assert await heard(stored, 250) == ids


async def test_relay_takes_over_what_its_own_process_commits_but_leaves_no_row_of_another_behind(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    box = Outbox(database, ROWS)
    taken: list[bool] = []
    async with relaying(box, nc, poll_s=10 * PATIENCE_S) as sender, reopened(database) as others:

        def hand_over(added: Added) -> bool:
            taken.append(sender.take_over(added))
            return taken[-1]

        await commit(database, box, "read")
        assert await heard(stored, 1) == ["read"]
        await until_idle(sender)
        box.hand_over = hand_over
        for id_ in ("taken over", "also taken over"):
            await commit(database, box, id_)
            assert await heard(stored, 1) == [id_]
            await until_idle(sender)
        async with others.writing() as tx:
            await Outbox(others, ROWS).add(tx, [envelope("of another process")])  # which wakes nobody
        await commit(database, box, "behind it")
        found = await heard(stored, 2)

    assert found == ["of another process", "behind it"]
    assert taken == [True, True, False]


async def test_event_behind_one_in_flight_is_sent_as_soon_as_that_is_acknowledged(
    database: Database, nc: Client, stream: NatsServer, stored: "asyncio.Queue[str]"
) -> None:
    box = Outbox(database, ROWS)
    async with relaying(box, nc, poll_s=10 * PATIENCE_S) as sender:
        await commit(database, box, "e1")
        await heard(stored, 1)
        stream.freeze()
        try:
            for id_ in ("e2", "e3"):
                await commit(database, box, id_)
                async with asyncio.timeout(PATIENCE_S):
                    while "campaign.c1" not in sender._sending or box.committed.is_set():
                        await asyncio.sleep(0)
        finally:
            stream.thaw()

        assert await heard(stored, 2) == ["e2", "e3"]


@on_both_databases
async def test_event_is_sent_at_once_if_the_one_before_is_acknowledged_while_the_relay_reads(
    database: Database,
    nc: Client,
    stream: NatsServer,
    stored: "asyncio.Queue[str]",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box, reading = Outbox(database, ROWS), database.reading
    async with relaying(box, nc, poll_s=10 * PATIENCE_S) as sender:

        @asynccontextmanager
        async def read_slowly() -> AsyncIterator[AsyncConnection]:
            """Let the broker acknowledge the first event, which the query has left out."""
            async with reading() as connection:
                yield connection
                if sender._is_looking and "campaign.c1" in sender._sending:
                    stream.thaw()
                    while "campaign.c1" in sender._sending:
                        await asyncio.sleep(0)

        stream.freeze()
        try:
            await commit(database, box, "e1")
            async with asyncio.timeout(PATIENCE_S):
                while "campaign.c1" not in sender._sending:
                    await asyncio.sleep(0)
            monkeypatch.setattr(database, "reading", read_slowly)
            await commit(database, box, "e2")

            assert await heard(stored, 2) == ["e1", "e2"]
        finally:
            stream.thaw()


async def test_event_behind_one_that_was_read_but_not_sent_because_the_database_was_away_stays_behind_it(
    database: Database, nc: Client, stored: "asyncio.Queue[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    box, failed = Outbox(database, ROWS), asyncio.Event()
    async with relaying(box, nc, poll_s=10 * PATIENCE_S) as sender:
        take = sender._lease.take

        async def fail_once() -> bool:
            if failed.is_set():
                return await take()
            failed.set()
            raise DatabaseAway("gone for a moment")

        await commit(database, box, "e1")
        assert await heard(stored, 1) == ["e1"]
        await until_idle(sender)
        monkeypatch.setattr(sender._lease, "take", fail_once)
        async with database.writing() as tx:
            await box.add(tx, [envelope("e2")])
        box.wake()  # so the row is read
        async with asyncio.timeout(PATIENCE_S):
            await failed.wait()
        await until_idle(sender)
        await commit(database, box, "e3")

        assert await heard(stored, 2) == ["e2", "e3"]


@on_both_databases
async def test_events_of_many_roots_are_stored_once_each_and_in_order_within_their_root(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    box = Outbox(database, ROWS)
    sender = relay_of(box)
    roots = [f"c{number}" for number in range(50)]
    ids = [f"{root} {number}" for number in range(9) for root in roots]
    await commit_all(database, box, [envelope(id_, id_.partition(" ")[0]) for id_ in ids])
    await sender.drain(nc)
    told = await heard(stored, len(ids))
    offsets = await column(database, "stream_offset")

    assert sorted(told) == sorted(ids)
    for root in roots:
        assert [id_ for id_ in told if id_.startswith(f"{root} ")] == [f"{root} {number}" for number in range(9)]
    assert [id_ for _, id_ in sorted(zip(offsets, ids, strict=True))] == told


async def test_no_event_is_sent_twice_while_rows_cannot_be_marked(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    """Only a limited number is sent meanwhile. Then all are marked and the rest follows."""
    ids = [f"e{number}" for number in range(20)]
    box = Outbox(database, ROWS)
    await commit(database, box, *ids)
    await execute(
        database, "CREATE TRIGGER t BEFORE UPDATE OF published_at ON outbox BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    published = relay.PUBLISHED._value.get()
    async with relaying(box, nc, batch=5, max_unmarked=10):
        with capture_logs() as lines:
            await heard(stored, 10)
            async with asyncio.timeout(PATIENCE_S):
                while "relay failed, going on" not in [line["event"] for line in lines]:
                    await asyncio.sleep(0.01)
        sent_unmarked = relay.PUBLISHED._value.get() - published
        await execute(database, "DROP TRIGGER t")
        rest = await heard(stored, 10)
        async with asyncio.timeout(PATIENCE_S):
            while None in await column(database, "published_at"):
                await asyncio.sleep(0.01)

    assert sent_unmarked == 10
    assert rest == ids[10:]
    assert relay.PUBLISHED._value.get() - published == 20


@on_both_databases
async def test_event_of_a_rolled_back_transaction_is_never_sent(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    """Fault F19 of docs/topics/delivery.md."""
    box = Outbox(database, ROWS)

    async def fail() -> None:
        async with database.writing() as tx:
            await box.add(tx, [envelope("never")])
            raise ZeroDivisionError

    async with relaying(box, nc):
        with pytest.raises(ZeroDivisionError):
            await fail()
        await commit(database, box, "next")

        assert await heard(stored, 1) == ["next"]


@on_both_databases
async def test_row_with_a_lower_number_that_is_committed_late_is_sent(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    box = Outbox(database, ROWS)
    await commit(database, box, "first", "taken", "third")
    async with database.writing() as tx:
        await tx.execute(update(ROWS).where(ROWS.c.event_id == "third").values(id=7))
    async with relaying(box, nc):
        before = await heard(stored, 3)
        late = envelope("late")
        row = {"id": 5, "event_id": late.id, "subject": late.subject, "body": late.encode()}
        async with database.writing() as tx:
            await tx.execute(insert(ROWS).values(**row, created_at=datetime.now(UTC)))
        box.wake()

        assert before == ["first", "taken", "third"]
        assert await heard(stored, 1) == ["late"]


async def test_event_committed_after_a_higher_number_is_sent_on_postgresql(
    postgres_databases: Databases, tmp_path: Path, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    with chosen(postgres_databases):
        async with opened(tmp_path) as database, relaying(box := Outbox(database, ROWS), nc):
            async with database.writing() as slow:
                await box.add(slow, [envelope("slow")])
                await commit(database, box, "quick")
                before = await heard(stored, 1)
            box.wake()
            after = await heard(stored, 1)
            ids = await column(database, "event_id")

    assert ids == ["slow", "quick"]  # in the order of their numbers
    assert (before, after) == (["quick"], ["slow"])


async def test_event_is_stored_once_although_its_relay_ends_before_marking_it_ten_times(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    """Fault F14 of docs/topics/delivery.md."""
    await commit(database, Outbox(database, ROWS), "once")
    await execute(
        database, "CREATE TRIGGER t BEFORE UPDATE OF published_at ON outbox BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    for _ in range(10):
        with pytest.raises(SQLAlchemyError):
            await relay_of(Outbox(database, ROWS)).drain(nc)
        await expire_lease(database)
    await execute(database, "DROP TRIGGER t")
    box = Outbox(database, ROWS)
    sender = relay_of(box)
    await commit(database, box, "next")
    await sender.drain(nc)

    assert await heard(stored, 2) == ["once", "next"]
    offsets = await column(database, "stream_offset")
    assert offsets[1] == offsets[0] + 1


@on_both_databases
async def test_unmarked_event_older_than_the_duplicate_window_is_looked_up_before_it_is_sent(
    database: Database, stream: NatsServer, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    """Fault F15 of docs/topics/delivery.md."""
    async with connected(stream, "setup") as setup:
        await shorten_duplicate_window(setup)
    await commit(database, Outbox(database, ROWS), "stored", "never sent")
    one = envelope("stored")
    offset = await broker.publish(nc, one.subject, one.encode(), message_id=one.id)
    await heard(stored, 1)
    await until_window_is_over(nc)
    late = Relay(Outbox(database, ROWS), service="publisher", duplicate_window_s=WINDOW_S)

    await late.drain(nc)

    assert (await heard(stored, 3))[-1] == "never sent"  # after two probes
    assert (await column(database, "stream_offset"))[0] == offset
    assert None not in await column(database, "stream_offset")


@on_both_databases
async def test_one_of_two_relays_sends_and_the_other_takes_over_when_it_falls_silent(
    database: Database, tmp_path: Path, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    """Fault F17 of docs/topics/delivery.md."""
    async with opened(tmp_path) as again:
        first, second = relay_of(Outbox(database, ROWS)), relay_of(Outbox(again, ROWS))
        await commit(database, first.outbox, "a")
        await first.drain(nc)
        await commit(again, second.outbox, "b")
        await second.drain(nc)
        waiting = await column(database, "published_at")
        await expire_lease(database)
        await second.drain(nc)
        await commit(database, first.outbox, "c")
        await first.drain(nc)
        still = await column(database, "published_at")
        await second.drain(nc)

    assert [at is None for at in waiting] == [False, True]
    assert [at is None for at in still] == [False, False, True]
    assert await heard(stored, 3) == ["a", "b", "c"]


async def test_relay_that_lost_its_lease_while_sending_marks_nothing(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    """Fault F17 of docs/topics/delivery.md."""
    box = Outbox(database, ROWS)
    sender = relay_of(box)
    await commit(database, box, "first")
    await sender.drain(nc)
    await commit(database, box, "second")
    await execute(database, "CREATE TRIGGER t BEFORE UPDATE ON outbox_lease BEGIN SELECT RAISE(IGNORE); END")

    await sender.drain(nc)
    unmarked = (await column(database, "published_at"))[1]
    await execute(database, "DROP TRIGGER t")
    await expire_lease(database)
    await relay_of(Outbox(database, ROWS)).drain(nc)

    assert unmarked is None
    assert None not in await column(database, "published_at")
    assert await heard(stored, 2) == ["first", "second"]


async def test_relay_that_was_frozen_beyond_the_duplicate_window_sends_nothing_again(
    database: Database, stream: NatsServer, nc: Client, stored: "asyncio.Queue[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault F17 of docs/topics/delivery.md."""
    async with connected(stream, "setup") as setup:
        await shorten_duplicate_window(setup)
    frozen, other = relay_of(Outbox(database, ROWS)), relay_of(Outbox(database, ROWS))
    await commit(database, frozen.outbox, "first", "second")
    take, taken = frozen._lease.take, []

    async def stand_still() -> bool:
        """After it has taken the lease, with rows in hand that are too young to be looked up."""
        taken.append(await take())
        if len(taken) == 1:
            await expire_lease(database)
            await other.drain(nc)
            await until_window_is_over(nc)
        return taken[-1]

    monkeypatch.setattr(frozen._lease, "take", stand_still)
    await frozen.drain(nc)
    await commit(database, other.outbox, "third")
    await other.drain(nc)
    told = [id_ for id_ in await heard(stored, 5) if id_ != "probe"]

    assert taken[0]
    assert told == ["first", "second", "third"]


@on_both_databases
async def test_relay_takes_over_from_a_dead_one_within_seconds_of_its_own_clock(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    """Fault F17 of docs/topics/delivery.md."""
    dead, alive = relay_of(Outbox(database, ROWS)), Outbox(database, ROWS)
    await commit(database, dead.outbox, "a")
    await dead.drain(nc)
    await commit(database, alive, "b")
    async with relaying(alive, nc):
        assert await heard(stored, 2) == ["a", "b"]


@on_both_databases
async def test_committer_learns_its_events_cursor_in_either_process(database: Database, nc: Client) -> None:
    box, other = Outbox(database, ROWS), Outbox(database, ROWS)
    for one in (box, other):
        one.position.seen("e1", 0, known=0)
    await commit(database, box, "a")
    unsent = await box.cursor_of("a", 0.05)
    async with relaying(box, nc):
        here = await box.cursor_of("a", PATIENCE_S)
        there = await other.cursor_of("a", PATIENCE_S)
    (offset,) = await column(database, "stream_offset")

    assert unsent is None
    assert here == there == Cursor("e1", offset)


@on_both_databases
async def test_committer_of_several_roots_learns_the_last_cursor_once_all_events_are_stored(
    database: Database, nc: Client
) -> None:
    box = Outbox(database, ROWS)
    box.position.seen("e1", 0, known=0)
    ids = [f"c{number}" for number in range(20)]
    await commit_all(database, box, [envelope(id_, id_) for id_ in ids])
    unsent = await box.cursor_after(ids, 0.05)
    async with relaying(box, nc):
        cursor = await box.cursor_after(ids, PATIENCE_S)
        one_missing = await box.cursor_after([*ids, "never"], 0.05)
        async with asyncio.timeout(PATIENCE_S):
            while None in await column(database, "stream_offset"):
                await asyncio.sleep(0.01)

    assert (unsent, one_missing) == (None, None)
    assert cursor == Cursor("e1", max(await column(database, "stream_offset")))


@on_both_databases
async def test_event_sent_again_by_an_unmarked_row_gets_the_offset_of_the_first_time(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    box = Outbox(database, ROWS)
    sender = relay_of(box)
    await commit(database, box, "once")
    one = envelope("once")
    offset = await broker.publish(nc, one.subject, one.encode(), message_id=one.id)

    await sender.drain(nc)
    await commit(database, box, "next")
    await sender.drain(nc)

    assert await heard(stored, 2) == ["once", "next"]
    assert await column(database, "stream_offset") == [offset, offset + 1]


@on_both_databases
async def test_two_relays_store_every_event_once_and_in_order(
    database: Database, tmp_path: Path, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    """Fault F17 of docs/topics/delivery.md."""
    ids = [f"e{number}" for number in range(200)]
    one = Outbox(database, ROWS)
    await commit(database, one, *ids)
    async with opened(tmp_path) as again:
        two = Outbox(again, ROWS)
        async with relaying(one, nc), relaying(two, nc):
            both = await heard(stored, 200)
            await commit(database, one, "last")
            last = await heard(stored, 1)

    assert both == ids
    assert last == ["last"]


@on_both_databases
async def test_event_that_the_broker_never_takes_is_set_aside_and_stops_no_other(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    box = Outbox(database, ROWS)
    sender = relay_of(box)
    async with database.writing() as tx:
        large = {"event_id": "large", "subject": "campaign.c1.state", "body": b"x" * 300_000}
        await tx.execute(insert(ROWS).values(**large, created_at=datetime.now(UTC)))
    await commit(database, box, "fine")

    await sender.drain(nc)

    assert await heard(stored, 1) == ["fine"]
    assert (await column(database, "stream_offset"))[0] is None
    assert None not in await column(database, "published_at")


@on_both_databases
async def test_events_committed_while_the_broker_is_dead_are_stored_in_order_once_it_is_back(
    database: Database, nc: Client, stream: NatsServer
) -> None:
    box = Outbox(database, ROWS)
    async with relaying(box, nc):
        stream.kill()
        await commit(database, box, "a", "b")
        stream.start()
        async with asyncio.timeout(PATIENCE_S):
            while None in await column(database, "published_at"):
                pass

    offsets = await column(database, "stream_offset")
    assert offsets == [offsets[0], offsets[0] + 1]


@on_both_databases
async def test_only_unacknowledged_events_go_into_a_recreated_stream(
    database: Database, nc: Client, stream: NatsServer, stored: "asyncio.Queue[str]"
) -> None:
    """Fault F6 of docs/topics/delivery.md."""
    box = Outbox(database, ROWS)
    sender = relay_of(box)
    await commit(database, box, "acknowledged")
    await sender.drain(nc)
    async with connected(stream, "setup") as setup:
        await setup.request(f"$JS.API.STREAM.DELETE.{broker.STREAM}", b"")
        await commit(database, box, "old", "young")
        async with database.writing() as tx:
            an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
            await tx.execute(update(ROWS).where(ROWS.c.event_id == "old").values(created_at=an_hour_ago))
        await declare_stream(setup)
    async with relaying(box, nc):
        told = await heard(stored, 3)
        await commit(database, box, "next")

        assert [*told, *await heard(stored, 1)] == ["acknowledged", "old", "young", "next"]


@on_both_databases
async def test_rows_older_than_the_stream_are_deleted_unless_they_were_never_sent(
    database: Database, nc: Client, stored: "asyncio.Queue[str]"
) -> None:
    box = Outbox(database, ROWS)
    sender = relay_of(box)
    await commit(database, box, "old", "recent")
    await sender.drain(nc)
    long_ago = datetime.now(UTC) - KEEP - timedelta(minutes=1)
    async with database.writing() as tx:
        await tx.execute(update(ROWS).where(ROWS.c.event_id == "old").values(published_at=long_ago))
    await commit(database, box, "waiting")
    async with database.writing() as tx:
        await tx.execute(update(ROWS).where(ROWS.c.event_id == "waiting").values(created_at=long_ago))
    async with relaying(box, nc):
        async with asyncio.timeout(PATIENCE_S):
            while await count(database) != 2:
                pass
        told = await heard(stored, 3)

    assert await column(database, "event_id") == ["recent", "waiting"]
    assert told == ["old", "recent", "waiting"]


@on_both_databases
async def test_relay_can_be_cancelled_in_the_middle_of_a_thousand_events(database: Database, nc: Client) -> None:
    box = Outbox(database, ROWS)
    await commit(database, box, *(f"e{number}" for number in range(1_000)))
    async with asyncio.timeout(PATIENCE_S):
        async with relaying(box, nc, batch=relay.ATOMIC_FROM - 1, max_unmarked=relay.ATOMIC_FROM):  # event by event
            while not any(await column(database, "published_at")):
                pass

    assert None in await column(database, "published_at")


async def expire_lease(database: Database) -> None:
    """Make the lease look as if its holder had not renewed it for an hour."""
    async with database.writing() as tx:
        await tx.execute(update(TABLES.tables[LEASE]).values(renewed_at=datetime.now(UTC) - timedelta(hours=1)))


async def shorten_duplicate_window(setup: Client) -> None:
    config = broker.stream_config(replicas=1, epoch="e1") | {"duplicate_window": int(WINDOW_S * broker.NS)}
    answer = await setup.request(f"$JS.API.STREAM.UPDATE.{broker.STREAM}", json.dumps(config).encode())
    assert "error" not in json.loads(answer.data)


async def until_window_is_over(nc: Client) -> None:
    """Wait until the broker stores again what was stored before this was called."""

    async def is_known() -> bool:
        answer = await nc.request("campaign.c9.state", b"", headers={"Nats-Msg-Id": "probe"})
        return bool(json.loads(answer.data).get("duplicate", False))

    await is_known()
    async with asyncio.timeout(PATIENCE_S):
        while await is_known():
            await asyncio.sleep(0.05)


async def count(database: Database) -> int:
    async with database.reading() as connection:
        return await connection.scalar(select(func.count()).select_from(ROWS)) or 0
