"""The relay when the broker denies events, or does not acknowledge some: other events are not delayed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg
from sqlalchemy import insert

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker, outbox_table, relay
from beaconfire_kit.broker import BrokerRefused, NotAcknowledged
from beaconfire_kit.database import Database
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.relay import Relay
from tests.broker_changes import change_permissions, change_stream, deny, until_denied
from tests.conftest import connected
from tests.databases import on_both_databases
from tests.kit.outboxes import PATIENCE_S, ROWS, column, commit_all, envelope, execute, heard, opened, relaying

DENIED = "campaign.denied"
LONG_AGO = datetime.now(UTC) - timedelta(days=30)


@pytest.fixture(name="database")
async def _database(tmp_path: Path) -> AsyncIterator[Database]:
    async with opened(tmp_path) as database:
        yield database


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


@on_both_databases
async def test_denied_event_is_set_aside_at_once_and_others_go_on(
    database: Database, stream: NatsServer, stored: "asyncio.Queue[str]"
) -> None:
    """The event's row says why. Once the permission exists, the event can be sent again."""
    box = Outbox(database, ROWS)
    refused = relay.REFUSED._value.get()
    async with connected(stream, "publisher") as nc:
        deny(stream, f"{DENIED}.settlement.s1")
        await until_denied(nc, f"{DENIED}.settlement.s1")
        other = {"event_id": "same root", "subject": f"{DENIED}.state", "body": b"{}"}
        async with relaying(box, nc) as sender:
            await commit_all(database, box, [envelope("denied", "denied"), envelope("other root", "c2")])
            async with database.writing() as tx:
                await tx.execute(insert(ROWS).values(**other, created_at=datetime.now(UTC)))
            box.wake()
            told = await heard(stored, 2)
            reasons = await until_marked(database)
            seen = sender.warnings()
            change_permissions(stream, f'deny: ["{DENIED}.settlement.s1", ', "deny: [")
            await until_denied(nc, f"{DENIED}.settlement.s1", denied=False)
            async with database.writing() as tx:
                again = await outbox_table.send_again(tx, ROWS, None)
            after = await heard(stored, 1)

    assert sorted(told) == ["other root", "same root"]
    assert relay.REFUSED._value.get() - refused == 1
    assert "may not publish on campaign.denied.settlement.s1" in reasons[0]
    assert reasons[1:] == [None, None]
    assert again == 1
    assert after == ["denied"]
    assert seen == [] or "refused 1 event" in seen[0]


async def test_denial_fails_only_messages_on_that_subject(stream: NatsServer) -> None:
    """Subjects are distinguished by case, although nats-py lowers the case of the server's error."""
    async with connected(stream, "publisher") as nc:
        deny(stream, "campaign.Denied.state")
        await until_denied(nc, "campaign.Denied.state")
        outcomes = await asyncio.gather(
            broker.try_to_publish(nc, "campaign.denied.state", b"{}", message_id="small"),
            broker.try_to_publish(nc, "campaign.Denied.state", b"{}", message_id="large"),
            return_exceptions=True,
        )

    assert isinstance(outcomes[0], int)
    assert isinstance(outcomes[1], BrokerRefused)


@on_both_databases
@pytest.mark.parametrize("is_old", [False, True], ids=["young", "old"])
async def test_event_that_is_never_acknowledged_delays_no_other_root(
    database: Database, stream: NatsServer, stored: "asyncio.Queue[str]", is_old: bool
) -> None:
    box, window_s = Outbox(database, ROWS), 0.0 if is_old else broker.DUPLICATE_WINDOW_S
    ids = [f"c{number}" for number in range(20)]
    change_permissions(stream, '"deadletter.>", "_INBOX_operator', '"deadletter.>", "workspace.>", "_INBOX_operator')
    async with (
        connected(stream, "setup") as setup,
        connected(stream, "operator") as hearer,
        connected(stream, "publisher") as nc,
    ):
        swallowed = await hearer.subscribe("workspace.>")  # prevents the broker's "no responders"
        await hearer.flush()
        await change_stream(setup, {"subjects": ["campaign.>", "tick", "anchor"]})
        async with database.writing() as tx:
            row = {"subject": "workspace.lost.state", "body": b"{}", "created_at": datetime.now(UTC)}
            await tx.execute(insert(ROWS), [{**row, "event_id": f"lost {one}"} for one in range(relay.BATCH + 1)])
        async with relaying(box, nc, duplicate_window_s=window_s):
            await swallowed.next_msg(timeout=PATIENCE_S)
            for id_ in ids:
                await commit_all(database, box, [envelope(id_, id_)])
                assert await heard(stored, 1) == [id_]
            still = (await column(database, "published_at"))[: relay.BATCH + 1]
            await change_stream(setup, {})
            after = await heard(stored, 3)

    assert set(still) == {None}
    assert after == ["lost 0", "lost 1", "lost 2"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"subjects": ["workspace.>", "tick"]}, "does not take campaign.c1.state"),
        ({"max_msg_size": 100}, "message size exceeds maximum allowed"),
        (
            {"discard": "new", "discard_new_per_subject": True, "max_msgs_per_subject": 1},
            "maximum messages per subject",
        ),
    ],
    ids=["no place for its subject", "too large for the stream", "its subject is full"],
)
async def test_event_that_the_stream_cannot_take_is_refused(
    stream: NatsServer, change: dict[str, Any], why: str
) -> None:
    """Waiting would delay the others for nothing."""
    async with connected(stream, "setup") as setup, connected(stream, "publisher") as nc:
        await broker.try_to_publish(nc, "campaign.c1.state", b"first", message_id="first")
        await change_stream(setup, change)

        with pytest.raises(BrokerRefused, match=why):
            await broker.try_to_publish(nc, "campaign.c1.state", b"x" * 200, message_id="m1")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"discard": "new", "max_bytes": 100}, "maximum bytes exceeded"),
        ({"discard": "new", "max_msgs": 1}, "maximum messages exceeded"),
        ({"sealed": True}, "sealed"),
        (None, "no stream answers"),
    ],
    ids=["stream full", "stream full of messages", "stream sealed", "no stream"],
)
async def test_stream_that_takes_no_event_is_waited_for(
    stream: NatsServer, change: dict[str, Any] | None, why: str
) -> None:
    async with connected(stream, "setup") as setup, connected(stream, "publisher") as nc:
        await broker.try_to_publish(nc, "campaign.c1.state", b"first", message_id="first")
        if change is None:
            await setup.request(f"$JS.API.STREAM.DELETE.{broker.STREAM}", b"")
        else:
            await change_stream(setup, change)

        with pytest.raises(NotAcknowledged, match=why):
            await broker.try_to_publish(nc, "campaign.c1.state", b"x" * 200, message_id="m1")


@pytest.mark.parametrize("spare", [0, 12, 45], ids=["body alone", "with headers", "just too large"])
async def test_headers_count_against_the_largest_payload(stream: NatsServer, spare: int) -> None:
    """The server would close the connection for good."""
    async with connected(stream, "publisher") as nc:
        body = b"x" * (nc.max_payload - spare)
        with pytest.raises(BrokerRefused):
            await broker.try_to_publish(nc, "campaign.c1.state", body, message_id="m" * 32)

        assert nc.is_connected
        assert await broker.try_to_publish(nc, "campaign.c1.state", b"{}", message_id="next")


@on_both_databases
async def test_set_aside_events_are_kept_however_old_and_can_be_dropped(database: Database) -> None:
    async with database.writing() as tx:
        for id_ in ("dropped", "kept"):
            row = {
                "event_id": id_,
                "subject": "campaign.c1.state",
                "body": b"{}",
                "refused": "no",
                "published_at": LONG_AGO,
            }
            await tx.execute(insert(ROWS).values(**row, created_at=LONG_AGO))
        dropped = await outbox_table.drop(tx, ROWS, ["dropped", "unknown"])
    await Relay(Outbox(database, ROWS), service="publisher")._forget()

    assert dropped == 1
    assert await column(database, "event_id") == ["kept"]


@on_both_databases
async def test_waiting_events_are_counted_by_root_with_their_age(database: Database) -> None:
    box = Outbox(database, ROWS)
    await commit_all(database, box, [envelope("a", "c_1"), envelope("b", "cx1"), envelope("c", "c_1")])
    await execute(database, "UPDATE outbox SET subject = 'campaign.bare' WHERE event_id = 'b'")
    async with database.reading() as connection:
        by_root = (await connection.execute(outbox_table.by_root(ROWS))).all()
        whole = await outbox_table.survey(connection, ROWS)

    assert sorted((one.root, one.events) for one in by_root) == [("campaign.bare", 1), ("campaign.c_1", 2)]
    assert (whole.events, whole.roots, whole.refused) == (3, 2, 0)
    assert whole.age_s() > 0


async def until_marked(database: Database) -> list[Any]:
    """The reasons of all rows, once the relay is done with them."""
    async with asyncio.timeout(PATIENCE_S):
        while None in await column(database, "published_at"):
            await asyncio.sleep(0.01)
    return await column(database, "refused")
