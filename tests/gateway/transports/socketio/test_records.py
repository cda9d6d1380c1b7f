"""The records that recover Socket.IO sessions, at a real broker: found anywhere, never older than what was answered."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.transports.socketio.recovery import REFRESH_S, Kept, Record, Recovery
from beaconfire_kit import broker
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.gateway_buckets import BUCKETS, SOCKETIO_SESSIONS
from beaconfire_kit.key_value import KeyValue
from tests.conftest import connected

BUCKET = BUCKETS[SOCKETIO_SESSIONS]


class Client:
    """A session with a record, as the namespaces of Socket.IO have it."""

    def __init__(self, session_id: str, **rooms: Sequence[str] | None) -> None:
        self.id = session_id
        self.rooms: dict[str, Sequence[str] | None] = {name.replace("_", ":"): types for name, types in rooms.items()}
        self.watched: Sequence[str] = ()
        self.was_replaced = False

    def watched_rooms(self) -> Sequence[str]:
        return self.watched

    def wanted_rooms(self) -> dict[str, Sequence[str] | None]:
        return dict(self.rooms)

    def make_way(self) -> None:
        self.was_replaced = True


async def started(gateway: Recovery, client: Client) -> Kept:
    """Store the record of a client that is new."""
    return await gateway.begin(client, namespace="/", user_id="ann", rooms=client.rooms)


def anybody(_record: Record) -> bool:
    return True


@asynccontextmanager
async def gateways(server: NatsServer, count: int, *, refresh_s: float = REFRESH_S) -> AsyncIterator[list[Recovery]]:
    """As many gateways, each with its own connection to the broker."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(server, "gateway")) for _ in range(count)]
        yield [Recovery(nc, answer_s=1, refresh_s=refresh_s) for nc in connections]


async def take_stream_away(server: NatsServer) -> None:
    async with connected(server, "setup") as setup:
        await broker.call_api(setup, f"STREAM.DELETE.{BUCKET.stream}", {})


async def test_another_gateway_finds_the_rooms_and_types_of_a_record(stream: NatsServer) -> None:
    client = Client("s1", campaign_c1=None, workspace_w1=["issue.created"])
    async with gateways(stream, 2) as (first, second):
        kept = await started(first, client)
        found = await second.recover(kept.pid, Client("s2"), anybody)

    assert found is not None
    record = found.record
    assert (record.sid, record.namespace, record.user_id) == ("s1", "/", "ann")
    assert record.rooms == {"campaign:c1": None, "workspace:w1": ["issue.created"]}


async def test_record_of_a_session_that_is_told_who_is_here_is_unknown_to_the_version_before(
    stream: NatsServer,
) -> None:
    """That one reads records of version 1 alone, and its client starts over. All others are as they were."""
    client, other = Client("s1", campaign_c1=None), Client("s2", campaign_c1=None)
    client.watched = ["campaign:c1"]
    async with gateways(stream, 2) as (first, second):
        kept = [await first.begin(one, namespace="/", user_id="ann", rooms=one.rooms) for one in (client, other)]
        for one in kept:
            await first.keep(one)
        records = [json.loads(one.record.encode()) for one in kept]
        found = await second.recover(kept[0].pid, Client("s3"), anybody)

    assert found is not None
    assert found.record.watched == ["campaign:c1"]
    assert [(one["v"], "watched" in one) for one in records] == [(2, True), (1, False)]


class Starting(Client):
    """A session that has not started: it is in no room yet."""

    def wanted_rooms(self) -> None:  # type: ignore[override]
        return None


async def test_record_of_a_session_that_starts_has_its_first_rooms_also_after_a_refresh(stream: NatsServer) -> None:
    client = Starting("s1", campaign_c1=None, workspace_w1=["issue.created"])
    async with gateways(stream, 2, refresh_s=0) as (first, second):
        kept = await started(first, client)
        await first.refresh()
        found = await second.recover(kept.pid, Client("s2"), anybody)

    assert found is not None
    assert found.record.rooms == client.rooms


async def test_record_has_the_rooms_of_the_last_write(stream: NatsServer) -> None:
    client = Client("s1", campaign_c1=None)
    async with gateways(stream, 2) as (first, second):
        kept = await started(first, client)
        client.rooms = {"campaign:c2": None}
        await first.keep(kept)
        found = await second.recover(kept.pid, Client("s2"), anybody)

    assert found is not None
    assert found.record.rooms == {"campaign:c2": None}


@pytest.mark.parametrize("pid", ["", "a" * 22, "a.b", "*", ">", "a" * 500, "committed", "äöü" * 8])
async def test_unknown_secret_recovers_nothing(stream: NatsServer, pid: str) -> None:
    async with gateways(stream, 1) as (one,):
        await started(one, Client("s1", campaign_c1=None))

        assert await one.recover(pid, Client("s2"), anybody) is None


async def test_record_of_another_user_stays_as_it_is(stream: NatsServer) -> None:
    async with gateways(stream, 2) as (first, second):
        kept = await started(first, Client("s1", campaign_c1=None))
        refused = await second.recover(kept.pid, Client("s2"), lambda record: record.user_id == "bob")
        again = await second.recover(kept.pid, Client("s3"), lambda record: record.user_id == "ann")

    assert refused is None
    assert again is not None
    assert again.record.sid == "s1"


async def test_gateway_with_a_dead_connection_cannot_replace_the_record_of_the_new_one(stream: NatsServer) -> None:
    """It notices when it refreshes the record, and ends its own session."""
    old, new = Client("s1", campaign_c1=None), Client("s2", campaign_c1=None, campaign_c2=None)
    async with gateways(stream, 3, refresh_s=0) as (first, second, third):
        kept = await started(first, old)
        found = await second.recover(kept.pid, new, anybody)
        assert found is not None
        await second.keep(found)
        await first.refresh()
        last = await third.recover(kept.pid, Client("s3"), anybody)

    assert old.was_replaced
    assert not new.was_replaced
    assert last is not None
    assert set(last.record.rooms) == {"campaign:c1", "campaign:c2"}


async def test_client_recovers_again_and_again_between_gateways(stream: NatsServer) -> None:
    async with gateways(stream, 2) as both:
        pid = (await started(both[0], Client("s0", campaign_c1=None))).pid
        for number in range(1, 7):
            found = await both[number % 2].recover(pid, Client(f"s{number}", campaign_c1=None), anybody)

            assert found is not None
            assert found.record.sid == "s0"
            assert found.pid == pid


async def test_record_stays_when_its_connection_is_lost_and_ends_when_its_client_leaves(stream: NatsServer) -> None:
    async with gateways(stream, 2) as (first, second):
        lost, left = await started(first, Client("s1")), await started(first, Client("s2"))
        first.release(lost)
        await first.forget(left)

        assert await second.recover(lost.pid, Client("s3"), anybody) is not None
        assert await second.recover(left.pid, Client("s4"), anybody) is None


async def test_lost_connection_is_not_written_again(stream: NatsServer) -> None:
    """Its rooms are gone by then: the record would have none."""
    client = Client("s1", campaign_c1=None)
    async with gateways(stream, 2, refresh_s=0) as (first, second):
        kept = await started(first, client)
        first.release(kept)
        client.rooms = {}
        await first.refresh()
        await first.keep(kept)
        found = await second.recover(kept.pid, Client("s2"), anybody)

    assert found is not None
    assert set(found.record.rooms) == {"campaign:c1"}


async def test_records_are_refreshed_before_they_end(stream: NatsServer) -> None:
    async with gateways(stream, 1, refresh_s=0) as (one,), connected(stream, "gateway") as nc:
        kept = await started(one, Client("s1", campaign_c1=None))
        first = await KeyValue(nc, SOCKETIO_SESSIONS).last(kept.pid)
        await one.refresh()
        second = await KeyValue(nc, SOCKETIO_SESSIONS).last(kept.pid)

    assert first is not None
    assert second is not None
    assert second.at > first.at
    assert second.value == first.value
    assert BUCKET.kept_s > 2 * REFRESH_S + 1, "one refresh may fail"


async def test_fresh_record_is_not_written_again(stream: NatsServer) -> None:
    async with gateways(stream, 1) as (one,), connected(stream, "gateway") as nc:
        kept = await started(one, Client("s1"))
        await one.refresh()
        last = await KeyValue(nc, SOCKETIO_SESSIONS).last(kept.pid)

    assert last is not None
    assert last.at == kept.at


async def test_without_the_bucket_nothing_is_recovered_and_nothing_else_fails(stream: NatsServer) -> None:
    await take_stream_away(stream)
    async with gateways(stream, 1) as (one,):
        kept = await started(one, Client("s1", campaign_c1=None))
        await one.keep(kept)
        await one.forget(kept)

        assert await one.recover(kept.pid, Client("s2"), anybody) is None


async def test_rooms_that_cannot_be_stored_over_older_ones_are_refused(stream: NatsServer) -> None:
    """The client would come back to the older ones, and miss events without knowing."""
    async with gateways(stream, 1) as (one,):
        kept = await started(one, Client("s1", campaign_c1=None))
        await take_stream_away(stream)

        with pytest.raises(BeaconfireError, match="try again") as refused:
            await one.keep(kept)

    assert refused.value.code.code == "unavailable"


async def test_write_whose_answer_was_lost_is_not_taken_for_anothers(stream: NatsServer) -> None:
    client = Client("s1", campaign_c1=None)
    async with gateways(stream, 2) as (first, second):
        await asyncio.to_thread(stream.freeze)
        kept = await started(first, client)
        await asyncio.to_thread(stream.thaw)
        client.rooms["campaign:c2"] = None
        await first.keep(kept)
        found = await second.recover(kept.pid, Client("s2"), anybody)

    assert not client.was_replaced
    assert found is not None
    assert set(found.record.rooms) == {"campaign:c1", "campaign:c2"}


async def test_bucket_that_is_made_again_gets_the_records_of_living_sessions(stream: NatsServer) -> None:
    async with gateways(stream, 2) as (first, second), connected(stream, "setup") as setup:
        kept = await started(first, Client("s1", campaign_c1=None))
        await take_stream_away(stream)
        await BUCKET.declare(setup, replicas=1)
        first.broker_is_back()
        await first.refresh()

        assert await second.recover(kept.pid, Client("s2"), anybody) is not None


async def restart(server: NatsServer, *living: Recovery) -> None:
    """Restart the broker. The gateways that live write their records again."""
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    for gateway in living:
        while not gateway._nc.is_connected:
            await asyncio.sleep(0)
        gateway.broker_is_back()
        await gateway.refresh()


async def test_record_from_before_a_restart_of_the_only_broker_does_not_count(stream: NatsServer) -> None:
    """A single broker writes records late. After a crash, it may have an older one than the last."""
    async with gateways(stream, 1) as (killed,):
        kept = await started(killed, Client("s1", campaign_c1=None))
    await restart(stream)
    async with gateways(stream, 1) as (other,):
        assert await other.recover(kept.pid, Client("s2"), anybody) is None


async def test_gateways_that_outlive_their_only_broker_write_their_records_again(stream: NatsServer) -> None:
    """Also that of a connection that was lost, whose client has not come back yet."""
    client = Client("s2", campaign_c1=None)
    async with gateways(stream, 1) as (living,):
        kept, lost = await started(living, Client("s1", campaign_c1=None)), await started(living, client)
        living.release(lost)
        client.rooms = {}
        await restart(stream, living)
        async with gateways(stream, 1) as (other,):
            found = [await other.recover(one.pid, Client("s3"), anybody) for one in (kept, lost)]

    assert [one and set(one.record.rooms) for one in found] == [{"campaign:c1"}, {"campaign:c1"}]


async def test_client_that_comes_back_before_its_gateway_has_written_the_record_again_waits_for_it(
    stream: NatsServer,
) -> None:
    async with gateways(stream, 1) as (living,):
        kept = await started(living, Client("s1", campaign_c1=None))
        await restart(stream)
        async with gateways(stream, 1) as (other,):
            coming = asyncio.create_task(other.recover(kept.pid, Client("s2"), anybody))
            while not living._nc.is_connected:
                await asyncio.sleep(0)
            living.broker_is_back()
            await living.refresh()

            assert await coming is not None


async def test_session_with_too_many_rooms_starts_over_and_does_not_come_back_to_fewer(stream: NatsServer) -> None:
    client = Client("s1", campaign_c1=None)
    async with gateways(stream, 2) as (first, second):
        kept = await started(first, client)
        client.rooms = {f"campaign:{number:064}": None for number in range(1_000)}
        await first.keep(kept)

        assert await second.recover(kept.pid, Client("s2"), anybody) is None


async def test_record_goes_on_in_the_process_that_its_session_moved_to(stream: NatsServer) -> None:
    """The process that it left does not write it any more, even if it has just begun to."""
    here, there = Client("s1", campaign_c1=None), Client("s1", campaign_c1=None, campaign_c2=None)
    async with gateways(stream, 3, refresh_s=0) as (first, second, third):
        left = await started(first, here)
        packed = json.loads(json.dumps(left.pack()))
        first.release(left)
        moved = second.adopt(there, packed)
        await second.keep(moved)
        await second.refresh()
        found = await third.recover(left.pid, Client("s2"), anybody)

    assert not here.was_replaced
    assert not there.was_replaced
    assert found is not None
    assert set(found.record.rooms) == {"campaign:c1", "campaign:c2"}
