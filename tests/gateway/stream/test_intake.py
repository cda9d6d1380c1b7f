"""Intake against a real nats-server that is killed, frozen and emptied: every offset once, in order."""

import asyncio
import itertools
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.fanout.encoding import Stored
from beaconfire_gateway.stream import intake as intake_module
from beaconfire_gateway.stream import repair, replay, watch
from beaconfire_gateway.stream.intake import Event
from beaconfire_gateway.stream.live import parse_live
from beaconfire_kit import broker, reading
from beaconfire_kit.seams.nats_direct import DirectClient
from beaconfire_kit.seams.nats_parser import Direct
from tests.conftest import At, connected
from tests.gateway.listening import listening, publish
from tests.proxy import Proxy


async def test_live(stream: NatsServer) -> None:
    """What is published is delivered, in order."""
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
        end = await publish(nc, 200)
        await ear.reach(end)

    ear.assert_whole(end)


async def test_history_first(stream: NatsServer) -> None:
    """What the last minute brought is delivered before anything live, so that a new gateway's ring is warm."""
    async with connected(stream, "publisher") as nc:
        await publish(nc, 50)
        async with listening(stream) as ear:
            at_start = list(ear.offsets)
            end = await publish(nc, 50, prefix="later")
            await ear.reach(end)

    assert at_start[:51] == list(range(1, 52))
    ear.assert_whole(end)


@pytest.mark.parametrize("every", [2, 7, 50])
async def test_holes(stream: NatsServer, every: int) -> None:
    """Messages that the live path loses are read from the stream, and what is behind them waits."""
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
        ear.deaf = lambda offset: offset % every == 0
        end = await publish(nc, 300)
        await ear.reach(end)

    ear.assert_whole(max(ear.offsets))
    assert len(ear.offsets) >= 300


@pytest.mark.parametrize("count", [20, 120])
async def test_silent_loss(stream: NatsServer, count: int) -> None:
    """The last messages lost with nothing behind them: silence is probed, and the tick shows the hole."""
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
        ear.deaf = lambda _offset: True
        end = await publish(nc, count)
        await ear.reach(end)

    ear.assert_whole(max(ear.offsets))


async def test_no_consumer_to_read_with(stream: NatsServer) -> None:
    """While a cluster elects who makes consumers, a hole is read all the same: from the stream's own leader."""
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
async def test_a_read_that_loses(stream: NatsServer, monkeypatch: pytest.MonkeyPatch, loses: bytes) -> None:
    """What a read loses on its way is not taken for deleted, though it is old: the consumer's own count has a gap, or
    nothing comes, not even a heartbeat; the stream is read again."""
    monkeypatch.setattr(repair, "YOUNG_S", 0.0)
    inboxes: list[str] = []
    lost = 0
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
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


async def test_beyond_the_end(stream: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that claims a place beyond the stream's end is looked for, not found, and forgotten; what is true comes
    all the while, and clients are told that the broker is back."""
    monkeypatch.setattr(reading, "HEARTBEAT_S", 0.1)
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
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


async def test_deleted_offsets(stream: NatsServer) -> None:
    """An offset that was deleted from the stream before it was heard is not waited for."""
    async with listening(stream) as ear, connected(stream, "publisher") as nc, connected(stream, "setup") as setup:
        await ear.reach(await publish(nc, 3))
        ear.deaf = lambda _offset: True
        last = await publish(nc, 10, prefix="more")
        await setup.request("$JS.API.STREAM.MSG.DELETE.EVENTS", json.dumps({"seq": last - 4}).encode())
        await ear.reach(last)

    assert last - 4 not in ear.offsets
    assert ear.offsets == sorted(set(ear.offsets))
    assert {last - 5, last - 3, last} <= set(ear.offsets)


async def test_killed_broker(stream: NatsServer) -> None:
    """The broker killed -9 under load, three times: nothing lost, nothing twice, nothing out of order."""
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


async def test_live_again_under_load(stream: NatsServer) -> None:
    """Events that flow again show that the broker is back, and it is told: nothing waits for a moment of silence."""
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


async def test_recreated_stream(stream: NatsServer) -> None:
    """A stream that was deleted and declared again is another epoch, told with its position."""
    async with listening(stream) as ear, connected(stream, "publisher") as nc, connected(stream, "setup") as setup:
        await ear.reach(await publish(nc, 30))
        await setup.request("$JS.API.STREAM.DELETE.EVENTS", b"")
        epoch = await broker.declare_stream(setup)
        async with asyncio.timeout(15):
            while len(ear.epochs) < 2:
                await asyncio.sleep(0.01)
        end = await publish(nc, 5, prefix="new")
        await ear.reach(end)

    first, second = ear.epochs
    assert second[0] == epoch != first[0]
    assert second[1] < 30
    assert ear.offsets[-5:] == list(range(end - 4, end + 1))


async def test_new_epoch(stream: NatsServer) -> None:
    """A stream that an operator gives a new epoch is another one at once, with nothing else wrong."""
    async with listening(stream) as ear, connected(stream, "publisher") as nc, connected(stream, "setup") as setup:
        await ear.reach(await publish(nc, 5))
        _, epoch = await broker.renew_epoch(setup)
        async with asyncio.timeout(15):
            while len(ear.epochs) < 2:
                await asyncio.sleep(0.01)

    assert ear.epochs[1][0] == epoch


async def test_recreated_without_a_silence(stream: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else makes a gateway look, what it hears at a place it has passed does."""
    async with listening(stream) as ear, connected(stream, "publisher") as nc, connected(stream, "setup") as setup:
        await ear.reach(await publish(nc, 30))
        await ear.reach(ear.intake.position + 1)  # the tick after a silence: it waits for the next one from now on
        monkeypatch.setattr(watch, "SILENCE_S", 3600.0)
        await ear.reach(await publish(nc, 1, prefix="last"))
        await setup.request("$JS.API.STREAM.DELETE.EVENTS", b"")
        epoch = await broker.declare_stream(setup)
        await publish(nc, 5, prefix="new")
        async with asyncio.timeout(15):
            while len(ear.epochs) < 2:
                await asyncio.sleep(0.01)

    assert ear.epochs[1][0] == epoch


async def test_broker_away_at_another_stream(stream: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the stream is another one and nobody says where it ends: that is told, and asked at a steady pace."""
    asked = 0
    find_end = replay.find_end

    async def refused_at_once(nc: DirectClient) -> int | None:
        nonlocal asked
        asked += 1
        return await find_end(nc) if asked == 1 else None

    async with listening(stream) as ear, connected(stream, "setup") as setup:
        monkeypatch.setattr(replay, "find_end", refused_at_once)
        await broker.renew_epoch(setup)
        await ear.told(False)
        monkeypatch.undo()
        await ear.told(True)

    assert asked < 10
    assert len(ear.epochs) == 2


async def test_quiet_stream(stream: NatsServer) -> None:
    """With nothing but ticks the position stays fresh, and no epoch change is claimed."""
    async with listening(stream) as ear:
        await ear.reach(ear.intake.position + 3)
        ready = ear.intake.why_not_ready()

    assert ready is None
    assert len(ear.epochs) == 1
    assert set(ear.subjects.values()) <= {"tick", "anchor"}


async def test_busy_stream_is_one_epoch(stream: NatsServer) -> None:
    """Probing while events pour in never takes the stream for another one."""
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
def test_whose_message(headers: bytes, offset: int | None, has_ttl: bool) -> None:
    """A message is the stream's by the last headers of it, as the server's own stand behind the publisher's."""
    ours = parse_live(b"live." + SUBJECT, b"{}", b"NATS/1.0" + headers + LAST)

    assert ours == (None if offset is None else (offset, Stored(SUBJECT.decode(), b"{}", has_ttl)))


@pytest.mark.parametrize(
    "subject", [SUBJECT, b"live.campaign.c1.settlement.s2", b"LIVE." + SUBJECT, b"lives" + SUBJECT]
)
def test_not_where_it_came(subject: bytes) -> None:
    """Headers that name another subject than the message came on are nobody's."""
    assert parse_live(subject, b"{}", b"NATS/1.0" + SERVERS % (SUBJECT, 7) + LAST) is None
    assert parse_live(b"live." + SUBJECT, b"{}", None) is None


async def test_quiet_stream_stays_anchored(stream: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a stream with nothing but ticks there is always something older: a cursor of a while ago is not too old."""
    monkeypatch.setattr(intake_module, "ANCHOR_EVERY_S", 0.001)
    async with listening(stream) as ear:
        async with asyncio.timeout(30):
            while list(ear.subjects.values()).count("anchor") < 2:
                await ear.reach(ear.intake.position + 1)

    assert "tick" in ear.subjects.values()


async def test_heard_twice(stream: NatsServer) -> None:
    """F27: what the live path brings a second time is delivered once; the stream is looked at, and is no other."""
    async with listening(stream) as ear, connected(stream, "publisher") as nc:
        ear.again = lambda offset: offset % 3 == 0
        end = await publish(nc, 100)
        async with asyncio.timeout(15):
            while ear.intake._watch.in_doubt or ear.intake.position < end:
                await asyncio.sleep(0.01)

    ear.assert_whole(max(ear.offsets))
    assert (len(ear.epochs), ear.gaps) == (1, [])
