"""Intake against a real nats-server that is killed, frozen and emptied: every offset once, in order."""

import asyncio
import itertools
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.fanout.checking import Stored
from beaconfire_gateway.stream.intake import Event
from beaconfire_gateway.stream.live_messages import parse_live
from beaconfire_gateway.stream.replay import Reader, ReadingPolicy
from beaconfire_kit import broker
from beaconfire_kit.seams.nats_parser import Direct
from beaconfire_kit.stream_setup import declare_stream
from tests.conftest import At, connected
from tests.gateway.listening import listening, publish
from tests.proxy import Proxy


async def test_published_events_are_delivered_in_order(stream: NatsServer) -> None:
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
        end = await publish(nc, 200)
        await ear.reach(end)

    ear.assert_whole(end)


async def test_history_of_the_last_minute_is_delivered_before_live_events(stream: NatsServer) -> None:
    async with connected(stream, "publisher") as nc:
        await publish(nc, 50)
        async with listening(stream) as ear:
            at_start = list(ear.offsets)
            end = await publish(nc, 50, prefix="later")
            await ear.reach(end)

    assert at_start[:51] == list(range(1, 52))
    ear.assert_whole(end)


@pytest.mark.parametrize("every", [2, 7, 50])
async def test_events_lost_by_the_live_path_are_read_from_the_stream_before_later_ones(
    stream: NatsServer, every: int
) -> None:
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
        ear.deaf = lambda offset: offset % every == 0
        end = await publish(nc, 300)
        await ear.reach(end)

    ear.assert_whole(max(ear.offsets))
    assert len(ear.offsets) >= 300


@pytest.mark.parametrize("count", [20, 120])
async def test_silence_is_probed_and_finds_lost_events_with_nothing_behind_them(stream: NatsServer, count: int) -> None:
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
        ear.deaf = lambda _offset: True
        end = await publish(nc, count)
        await ear.reach(end)

    ear.assert_whole(max(ear.offsets))


async def test_hole_is_read_without_a_consumer_while_a_cluster_elects_a_leader(stream: NatsServer) -> None:
    async with AsyncExitStack() as stack:
        route = await stack.enter_async_context(Proxy(stream.port).running())
        nc = await stack.enter_async_context(connected(stream, "publisher"))
        at = At(f"nats://127.0.0.1:{route.port}", stream.passwords)
        ear = await stack.enter_async_context(listening(at))
        route.swallow = lambda chunk: b"CONSUMER.CREATE" in chunk
        ear.deaf = lambda _offset: True
        end = await publish(nc, 120)
        await ear.reach(end)

    assert route.swallowed.is_set()
    ear.assert_whole(max(ear.offsets))


@pytest.mark.parametrize("loses", [b"5", b""], ids=["one", "all"])
async def test_events_lost_by_a_read_are_read_again_and_not_taken_for_deleted(
    stream: NatsServer, monkeypatch: pytest.MonkeyPatch, loses: bytes
) -> None:
    inboxes: list[str] = []
    lost = 0
    async with listening(stream, young_s=0.0) as ear, connected(stream, "publisher") as nc:
        subscribe = ear.client.subscribe_direct

        async def losing(inbox: str, hear: Direct) -> Any:
            inboxes.append(inbox)

            def lossy(subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
                nonlocal lost
                if inbox == inboxes[0] and (not loses or reply.split(b".")[-3:-2] == [loses]):
                    lost += 1
                else:
                    hear(subject, reply, body, headers)

            return await subscribe(inbox, lossy)

        monkeypatch.setattr(ear.client, "subscribe_direct", losing)
        ear.deaf = lambda _offset: True
        end = await publish(nc, 120)
        await ear.reach(end)

    assert lost >= 1
    ear.assert_whole(max(ear.offsets))


async def test_message_that_claims_an_offset_beyond_the_end_is_forgotten_and_delivery_goes_on(
    stream: NatsServer,
) -> None:
    async with listening(stream, reading=ReadingPolicy(heartbeat_s=0.1)) as ear, connected(stream, "publisher") as nc:
        await ear.reach(await publish(nc, 1, prefix="before"))
        subject = b"campaign.c1.settlement.s1"
        headers = b"NATS/1.0\r\nNats-Stream: EVENTS\r\nNats-Subject: %s\r\nNats-Sequence: 1000000\r\n\r\n" % subject
        ear.intake._hear(b"live." + subject, b"", b"{}", headers)
        await ear.told(False)
        await ear.told(True)
        end = await publish(nc, 10)
        await ear.reach(end)

    ear.assert_whole(max(ear.offsets))
    assert ear.intake.position < 1_000_000
    assert (len(ear.epochs), ear.gaps) == (1, [])


async def test_deleted_offset_is_not_waited_for(stream: NatsServer) -> None:
    async with listening(stream) as ear, connected(stream, "publisher") as nc, connected(stream, "setup") as setup:
        await ear.reach(await publish(nc, 3))
        ear.deaf = lambda _offset: True
        last = await publish(nc, 10, prefix="more")
        await setup.request("$JS.API.STREAM.MSG.DELETE.EVENTS", json.dumps({"seq": last - 4}).encode())
        await ear.reach(last)

    assert last - 4 not in ear.offsets
    assert ear.offsets == sorted(set(ear.offsets))
    assert {last - 5, last - 3, last} <= set(ear.offsets)


async def test_broker_killed_three_times_under_load_loses_repeats_and_reorders_nothing(stream: NatsServer) -> None:
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
        load = asyncio.create_task(publish(nc, 1500))
        for reached in (200, 600, 1000):
            await ear.reach(reached)
            stream.kill()
            stream.start()
        end = await load
        await ear.reach(end)

    ear.assert_whole(max(ear.offsets))
    assert end >= 1500


async def test_intake_reports_the_broker_back_under_load_without_a_moment_of_silence(stream: NatsServer) -> None:
    route = Proxy(stream.port)
    async with route.running(), connected(stream, "publisher") as nc:
        route.swallow = lambda chunk: degraded and b"PUB tick " in chunk
        degraded = False
        at = At(f"nats://127.0.0.1:{route.port}", stream.passwords)
        async with listening(at) as ear:
            degraded = True
            await ear.told(False)
            degraded = False
            told = asyncio.create_task(ear.told(True))
            for number in itertools.count():
                if told.done():
                    break
                await publish(nc, 20, prefix=f"{number}-")
            await told


async def test_recreated_stream_is_reported_as_a_new_epoch_with_its_position(stream: NatsServer) -> None:
    async with listening(stream) as ear, connected(stream, "publisher") as nc, connected(stream, "setup") as setup:
        await ear.reach(await publish(nc, 30))
        await setup.request("$JS.API.STREAM.DELETE.EVENTS", b"")
        epoch = await declare_stream(setup)
        async with asyncio.timeout(15):
            while len(ear.epochs) < 2:
                await asyncio.sleep(0.01)
        end = await publish(nc, 5, prefix="new")
        await ear.reach(end)

    first, second = ear.epochs
    assert second[0] == epoch != first[0]
    assert second[1] < 30
    assert ear.offsets[-5:] == list(range(end - 4, end + 1))


async def test_epoch_renewed_by_an_operator_is_reported_at_once(stream: NatsServer) -> None:
    async with listening(stream) as ear, connected(stream, "publisher") as nc, connected(stream, "setup") as setup:
        await ear.reach(await publish(nc, 5))
        _, epoch = await broker.renew_epoch(setup)
        async with asyncio.timeout(15):
            while len(ear.epochs) < 2:
                await asyncio.sleep(0.01)

    assert ear.epochs[1][0] == epoch


async def test_recreated_stream_is_found_by_an_offset_that_was_passed_already(stream: NatsServer) -> None:
    async with (
        listening(stream, silence_s=3600.0) as ear,
        connected(stream, "publisher") as nc,
        connected(stream, "setup") as setup,
    ):
        await ear.reach(await publish(nc, 30))
        await ear.reach(await publish(nc, 1, prefix="last"))
        await setup.request("$JS.API.STREAM.DELETE.EVENTS", b"")
        epoch = await declare_stream(setup)
        await publish(nc, 5, prefix="new")
        async with asyncio.timeout(15):
            while len(ear.epochs) < 2:
                await asyncio.sleep(0.01)

    assert ear.epochs[1][0] == epoch


async def test_end_of_a_recreated_stream_is_asked_for_at_a_steady_pace(
    stream: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    find_end = Reader.find_end

    async def refused_at_once(reader: Reader) -> int | None:
        nonlocal asked
        asked += 1
        return await find_end(reader) if asked == 1 else None

    async with listening(stream) as ear, connected(stream, "setup") as setup:
        monkeypatch.setattr(Reader, "find_end", refused_at_once)
        await broker.renew_epoch(setup)
        await ear.told(False)
        monkeypatch.undo()
        await ear.told(True)

    assert asked < 10
    assert len(ear.epochs) == 2


async def test_quiet_stream_keeps_its_position_fresh_in_one_epoch(stream: NatsServer) -> None:
    async with listening(stream) as ear:
        await ear.reach(ear.intake.position + 3)
        ready = ear.intake.why_not_ready()

    assert ready is None
    assert len(ear.epochs) == 1
    assert set(ear.subjects.values()) <= {"tick", "anchor", "catalogue"}


async def test_probing_a_busy_stream_never_finds_another_epoch(stream: NatsServer) -> None:
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
        load = asyncio.create_task(publish(nc, 400))
        for _ in range(20):
            assert await ear.intake._verify() is not Event.OTHER_STREAM
        end = await load
        await ear.reach(end)

    assert len(ear.epochs) == 1
    ear.assert_whole(max(ear.offsets))


SUBJECT = b"campaign.c1.settlement.s1"
SERVERS = b"\r\nNats-Stream: EVENTS\r\nNats-Subject: %s\r\nNats-Sequence: %d"
LAST = b"\r\nNats-Time-Stamp: 2026-11-21T10:00:00Z\r\nNats-Last-Sequence: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "offset", "has_ttl"),
    [
        (SERVERS % (SUBJECT, 7), 7, False),
        (b"\r\nNats-Msg-Id: e1" + SERVERS % (SUBJECT, 7), 7, False),
        (b"\r\nNats-TTL: 60s" + SERVERS % (SUBJECT, 7), 7, True),
        (b"\r\nNATS-ttl: 60s" + SERVERS % (SUBJECT, 7), 7, True),
        (b"\r\nNats-Sequence: 7\r\nNats-Subject: %s\r\nNats-Stream: EVENTS" % SUBJECT, 7, False),
        (SERVERS % (SUBJECT, 999) + SERVERS % (SUBJECT, 7), 7, False),
        (SERVERS % (b"campaign.c2.settlement.s1", 999) + SERVERS % (SUBJECT, 7), 7, False),
        (SERVERS % (SUBJECT, 999) + b"\r\nNats-Sequence: 7", 7, False),
        (SERVERS % (SUBJECT, 999) + b"\r\nNats-Stream: OTHER", None, False),
        (SERVERS % (SUBJECT, 999) + b"\r\nNats-Subject: campaign.c2.settlement.s1", None, False),
        (SERVERS % (b"campaign.c2.settlement.s1", 7), None, False),
        (SERVERS % (SUBJECT, -7), None, False),
        (SERVERS % (SUBJECT, 10**20), None, False),
        (b"\r\nNats-Subject: %s\r\nNats-Sequence: 7" % SUBJECT, None, False),
        (b"\r\nNats-Stream: EVENTS", None, False),
    ],
)
def test_last_headers_decide_whether_a_message_is_the_streams(
    headers: bytes, offset: int | None, has_ttl: bool
) -> None:
    ours = parse_live(b"live." + SUBJECT, b"{}", b"NATS/1.0" + headers + LAST)

    assert ours == (None if offset is None else (offset, Stored(SUBJECT.decode(), b"{}", has_ttl)))


@pytest.mark.parametrize(
    "subject", [SUBJECT, b"live.campaign.c1.settlement.s2", b"LIVE." + SUBJECT, b"lives" + SUBJECT]
)
def test_headers_that_name_another_subject_are_not_believed(subject: bytes) -> None:
    assert parse_live(subject, b"{}", b"NATS/1.0" + SERVERS % (SUBJECT, 7) + LAST) is None
    assert parse_live(b"live." + SUBJECT, b"{}", None) is None


async def test_quiet_stream_gets_anchors_so_that_older_cursors_stay_valid(stream: NatsServer) -> None:
    async with listening(stream, anchor_every_s=0.001) as ear:
        async with asyncio.timeout(30):
            while list(ear.subjects.values()).count("anchor") < 2:
                await ear.reach(ear.intake.position + 1)

    assert "tick" in ear.subjects.values()


async def test_message_heard_twice_is_delivered_once_in_the_same_epoch(stream: NatsServer) -> None:
    """F27: the stream is examined once."""
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
        ear.again = lambda offset: offset % 3 == 0
        end = await publish(nc, 100)
        async with asyncio.timeout(15):
            while ear.intake._schedule.in_doubt or ear.intake.position < end:
                await asyncio.sleep(0.01)

    ear.assert_whole(max(ear.offsets))
    assert (len(ear.epochs), ear.gaps) == (1, [])
