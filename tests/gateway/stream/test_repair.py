"""The intake while it reads a hole, and the faults that can happen meanwhile. A real nats-server, with shortened
times."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.fanout.checking import Checker, Stored
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.stream.check_schedule import JITTER_S, SILENCE_S
from beaconfire_gateway.stream.intake import FRESH_S, Intake
from beaconfire_gateway.stream.replay import ReadingPolicy
from beaconfire_kit import broker
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.metrics import render
from tests.client import open_socket
from tests.conftest import At, connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.events import fence, raw_publish
from tests.gateway.listening import Ear, listening, publish, while_reading
from tests.gateway.processes import gateway_process
from tests.gateway.streams import dead_letters, push_out
from tests.proxy import Proxy


def figure(name: str) -> float:
    """A metric of this process."""
    lines = [line.split() for line in render().decode().splitlines()]
    return sum(float(line[1]) for line in lines if line and line[0] == name)


async def lose_some(ear: Ear, stack: AsyncExitStack, stream: NatsServer) -> tuple[Any, int]:
    """Lose three messages and hear the fourth. A publisher, and the offset of the first of them."""
    nc = await stack.enter_async_context(connected(stream, "publisher"))
    await ear.reach(await publish(nc, 1, prefix="before"))
    first = ear.intake.position + 1
    ear.deaf = lambda offset: offset < first + 3
    return nc, first


async def test_events_lost_while_a_hole_is_read_are_a_second_hole_and_both_are_counted(
    stream: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(stream) as ear, AsyncExitStack() as stack:
        nc, first = await lose_some(ear, stack, stream)
        ear.deaf = lambda offset: offset < first + 3 or first + 4 <= offset < first + 8
        while_reading(monkeypatch, lambda: publish(nc, 6, prefix="meanwhile"))
        names = (
            "beaconfire_gateway_holes_total",
            "beaconfire_gateway_messages_repaired_total",
            "beaconfire_gateway_hole_duration_seconds_count",
        )
        before = [figure(name) for name in names]
        await publish(nc, 4)
        await ear.reach(first + 9)
        holes, repaired, held = (figure(name) - was for name, was in zip(names, before, strict=True))

    ear.assert_whole(max(ear.offsets))
    assert holes >= 2
    assert repaired >= 7
    assert held >= 1


async def test_events_beyond_the_hold_are_read_with_the_hole_once_and_in_order(
    stream: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(stream) as ear, AsyncExitStack() as stack:
        nc, first = await lose_some(ear, stack, stream)
        ear.intake._sequence._max_held = 5
        while_reading(monkeypatch, lambda: publish(nc, 40, prefix="meanwhile"))
        await publish(nc, 4)
        await ear.reach(first + 43)

    ear.assert_whole(max(ear.offsets))


@pytest.mark.parametrize("gone", [(0,), (2,), (3,), (0, 1, 2, 3)], ids=["first", "last", "upto", "all"])
async def test_events_deleted_between_the_loss_and_the_read_are_not_waited_for(
    stream: NatsServer, monkeypatch: pytest.MonkeyPatch, gone: tuple[int, ...]
) -> None:
    async with listening(stream, reading=ReadingPolicy(heartbeat_s=0.1)) as ear, AsyncExitStack() as stack:
        setup = await stack.enter_async_context(connected(stream, "setup"))
        nc, first = await lose_some(ear, stack, stream)

        async def delete() -> None:
            for number in gone:
                request = json.dumps({"seq": first + number}).encode()
                assert b'"success":true' in (await setup.request("$JS.API.STREAM.MSG.DELETE.EVENTS", request)).data

        while_reading(monkeypatch, delete)
        await publish(nc, 4)
        await ear.reach(first + 3)
        end = await publish(nc, 2, prefix="after")
        await ear.reach(end)

    there = [offset for offset in range(first, first + 4) if offset - first not in gone]
    assert [offset for offset in ear.offsets if first <= offset < first + 3] == [
        one for one in there if one < first + 3
    ]
    assert set(there) <= set(ear.offsets)
    assert ear.offsets == sorted(set(ear.offsets))
    assert len(ear.epochs) == 1


async def test_read_without_an_answer_is_repeated_and_nothing_passes_the_hole(stream: NatsServer) -> None:
    async with AsyncExitStack() as stack:
        route = await stack.enter_async_context(Proxy(stream.port).running())
        ear = await stack.enter_async_context(
            listening(At(f"nats://127.0.0.1:{route.port}", stream.passwords), reading=ReadingPolicy(answer_s=0.2))
        )
        nc, first = await lose_some(ear, stack, stream)
        asked = 0

        def swallow(chunk: bytes) -> bool:
            nonlocal asked
            asked += b"MSG.GET" in chunk or b"CONSUMER.CREATE" in chunk
            return asked <= 4 and (b"MSG.GET" in chunk or b"CONSUMER.CREATE" in chunk)

        route.swallow = swallow
        await publish(nc, 4)
        await ear.reach(first + 3)

    assert asked > 4
    ear.assert_whole(max(ear.offsets))


async def test_position_at_an_expired_tick_goes_on_in_the_same_stream(stream: NatsServer) -> None:
    async with listening(stream) as ear, connected(stream, "setup") as setup, connected(stream, "publisher") as nc:
        await ear.reach(ear.intake.position + 2)
        answer = await setup.request("$JS.API.STREAM.PURGE.EVENTS", json.dumps({"filter": "tick"}).encode())
        ear.intake.reconnected()
        await ear.reach(ear.intake.position + 2)
        end = await publish(nc, 3)
        await ear.reach(end)

    assert json.loads(answer.data)["purged"] >= 2
    assert (len(ear.epochs), ear.gaps) == (1, [])
    ear.assert_whole(max(ear.offsets))


async def test_message_that_fails_in_delivery_stops_no_other(stream: NatsServer) -> None:
    async with listening(stream) as ear, AsyncExitStack() as stack:
        nc, first = await lose_some(ear, stack, stream)
        deliver = ear.intake._deliver

        def choke(offset: int, stored: Stored) -> None:
            deliver(offset, stored)
            if offset in (first + 1, first + 3):
                raise RuntimeError("a bug of ours")

        ear.intake._deliver = choke
        await publish(nc, 6)
        await ear.reach(first + 5)

    ear.assert_whole(max(ear.offsets))


class LossyLive:
    """While `is_deaf`, what the broker sends to gateways live is lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_deaf = False
        hear = Intake._hear

        def lossy(intake: Intake, *message: Any) -> None:
            if not self.is_deaf:
                hear(intake, *message)

        monkeypatch.setattr(Intake, "_hear", lossy)


def fail_on_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours: an event of the settlement `poison` can be neither delivered nor replayed."""
    check = Checker.check

    def choke(checker: Checker, epoch: str, offset: int, stored: Stored, route: Route | None = None) -> Entry:
        if stored.subject.endswith(".poison"):
            raise RuntimeError("a bug of ours")
        return check(checker, epoch, offset, stored, route)

    monkeypatch.setattr(Checker, "check", choke)


async def publish_around_poison(gateway: Gateway) -> list[int]:
    """Publish an event, an invalid message, an event that fails if our own bug is armed, and an event.

    Return the offsets of the valid events.
    """
    good = [await gateway.publish(settlement("before"))]
    await raw_publish(gateway, "campaign.c1.settlement.s1", b"garbage")
    poison = await gateway.publish(settlement("poison"))
    return [*good, poison, await gateway.publish(settlement("after"))]


@pytest.mark.parametrize("bug", [False, True], ids=["no event", "and a bug of ours"])
async def test_invalid_event_is_set_aside_once_wherever_it_is_read_and_its_neighbours_arrive(
    stream: NatsServer, auth: FakeAuth, monkeypatch: pytest.MonkeyPatch, bug: bool
) -> None:
    """Live, in a hole, and in a replay from the ring and from the stream.

    So does an event on which our own code fails.
    """
    live = LossyLive(monkeypatch)
    if bug:
        fail_on_poison(monkeypatch)
    holes, dropped = (
        figure("beaconfire_gateway_holes_total"),
        figure('beaconfire_gateway_events_set_aside_total{reason="not_json"}'),
    )
    async with running_gateway(stream, auth, ring_bytes=1_048_576) as gateway:

        async def resume() -> list[int]:
            """Return the offsets that a client hears if it resumes from the beginning. The last one is a fence of its
            own."""
            async with open_socket(gateway.url) as back:
                await back.connect(auth.token("viewer"), ["campaign:c1"], cursor=cursor)
                events = await fence(gateway, back)
                assert "resync" not in [frame["type"] for frame in back.frames]
            return [event["offset"] for event in events]

        async with open_socket(gateway.url) as client:
            cursor = (await client.connect(auth.token("viewer"), ["campaign:c1"]))["cursor"]
            rounds = [await publish_around_poison(gateway)]
            heard_live = [event["offset"] for event in await fence(gateway, client)]
            live.is_deaf = True
            rounds += [await publish_around_poison(gateway)]
            live.is_deaf = False
            heard_late = [event["offset"] for event in await fence(gateway, client)]
        from_memory = await resume()
        big = await push_out(gateway)
        from_stream = await resume()
        letters = await dead_letters(gateway, 2)

    good = [[first, last] if bug else [first, poison, last] for first, poison, last in rounds]
    everything = [*heard_live, *heard_late]
    assert [heard_live[:-1], heard_late[:-1]] == good
    assert from_memory[:-1] == everything
    assert from_stream[:-1] == [*from_memory, *big]
    assert figure("beaconfire_gateway_holes_total") > holes
    assert figure('beaconfire_gateway_events_set_aside_total{reason="not_json"}') == dropped + 2
    assert [int(letter.headers["Beaconfire-Offset"]) for letter in letters] == [first + 1 for first, *_ in rounds]


async def test_broker_lost_before_a_hole_was_read_loses_nothing_and_clients_are_told(stream: NatsServer) -> None:
    async with listening(stream, reading=ReadingPolicy(tick_s=0.2, heartbeat_s=0.1)) as ear, AsyncExitStack() as stack:
        nc, first = await lose_some(ear, stack, stream)
        ear.deaf = lambda _offset: True
        end = await publish(nc, 4)
        ear.intake._sequence.expect(end + 1)  # a tick that was acknowledged just before
        stream.kill()
        await ear.told(False)
        stream.start()
        await ear.told(True)
        await ear.reach(end + 1)

    assert ear.offsets[-1] >= end
    assert [offset for offset in ear.offsets if first <= offset <= end] == list(range(first, end + 1))
    assert (len(ear.epochs), ear.gaps) == (1, [])


async def test_gateway_with_a_hung_broker_tells_its_clients_keeps_them_and_recovers(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth
) -> None:
    """The gateway is not ready within 10 s, by its own constants. No event is missing after that."""
    async with (
        gateway_process(tmp_path, stream, auth) as process,
        open_socket(process.url) as client,
        connected(stream, "publisher") as nc,
    ):
        await client.connect(auth.token("viewer"), ["campaign:c1"])
        stream.freeze()
        await client.next("degraded")
        while (why_not := await asyncio.to_thread(process.why_not_ready)) is None:
            await asyncio.sleep(0.1)
        stream.thaw()
        await client.next("live")
        while await asyncio.to_thread(process.why_not_ready) is not None:
            await asyncio.sleep(0.1)
        one = Envelope(settlement(), Metadata(source="api"))
        offset = await broker.publish(nc, one.subject, one.encode(), message_id=one.id)
        event = await client.next("event")

    assert "the broker does not answer" in why_not
    assert event["offset"] == offset
    assert SILENCE_S + JITTER_S < FRESH_S < 10
