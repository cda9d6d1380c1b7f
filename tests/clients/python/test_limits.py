"""The Python client keeps below the limits of a real gateway, and consumers that are slow lose nothing."""

import asyncio

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_client import MessageRefused, Room, State, Transport, connect
from tests.clients.python.taking import OTHER, ROOM, WAIT_S, Diary, ids, take
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.proxy import Proxy

TYPES = ["settlement_updated", "world_time_changed", "structure_updated"]


def room_of(number: int) -> str:
    return f"{ROOM}/settlement:s{number}"


async def test_hundred_rooms_with_types_survive_a_reconnect_although_messages_must_be_small(
    stream: NatsServer, auth: FakeAuth
) -> None:
    """No message is refused: they are split by the largest frame, and by the number of rooms in a minute."""
    diary = Diary()
    async with (
        running_gateway(stream, auth, max_frame_bytes=1_024) as gateway,
        Proxy(int(gateway.url.rpartition(":")[2])).running() as front,
        connect(f"http://127.0.0.1:{front.port}", auth.token("viewer"), on_notice=diary) as client,
    ):
        rooms = [client.room(room_of(number), types=TYPES) for number in range(100)]
        await asyncio.gather(*(room.ready() for room in rooms))
        front.cut()
        await diary.until(State.CONNECTED, times=2)
        for number in range(100):
            await gateway.publish(settlement(f"s{number}"))
        heard = [ids(await take(room, 1)) for room in rooms]

    assert heard == [[f"s{number}"] for number in range(100)]
    assert not [notice for notice in diary.notices if isinstance(notice, MessageRefused)]


async def test_joining_and_leaving_rooms_while_scrolling_strands_none(stream: NatsServer, auth: FakeAuth) -> None:
    """Each room that is shown is joined in the end, and no other one."""
    diary = Diary()
    async with (
        running_gateway(stream, auth, max_rooms=30) as gateway,
        connect(gateway.url, auth.token("viewer"), on_notice=diary) as client,
    ):
        shown: list[Room] = []
        for number in range(120):
            shown.append(client.room(room_of(number)))
            if len(shown) > 25:
                await shown.pop(0).close()
            await asyncio.sleep(0)
        await asyncio.gather(*(room.ready() for room in shown))
        async with asyncio.timeout(WAIT_S):
            while (await gateway.stats())["rooms"] != len(shown):
                pass
        for number in range(120):
            await gateway.publish(settlement(f"s{number}"))
        heard = [ids(await take(room, 1)) for room in shown]

    assert heard == [[room.name.rpartition(":")[2]] for room in shown]
    assert not [notice for notice in diary.notices if isinstance(notice, MessageRefused)]


async def test_room_beyond_the_limit_is_joined_when_another_is_left(stream: NatsServer, auth: FakeAuth) -> None:
    async with (
        running_gateway(stream, auth, max_rooms=2) as gateway,
        connect(gateway.url, auth.token("viewer")) as client,
    ):
        first, second, third = (client.room(room_of(number)) for number in range(3))
        await asyncio.gather(first.ready(), second.ready())
        await first.close()
        async with asyncio.timeout(WAIT_S):
            await third.ready()
        await gateway.publish(settlement("s2"))
        heard = await take(third, 1)

    assert ids(heard) == ["s2"]


async def test_more_rooms_than_a_minute_allows_are_asked_for_as_time_passes(stream: NatsServer, auth: FakeAuth) -> None:
    """None is asked for too soon, so none is refused."""
    diary = Diary()
    async with (
        running_gateway(stream, auth, rooms_per_minute=240, messages_per_minute=240) as gateway,
        connect(gateway.url, auth.token("viewer"), on_notice=diary) as client,
    ):
        for number in range(240):
            async with client.room(room_of(number)) as room:
                await room.ready()
        late = [client.room(room_of(number)) for number in range(4)]
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(*(room.ready() for room in late))

    assert not [notice for notice in diary.notices if isinstance(notice, MessageRefused)]


async def test_room_is_left_at_once_although_a_limit_per_minute_is_used_up(stream: NatsServer, auth: FakeAuth) -> None:
    """The gateway is asked for ten further rooms a minute later."""
    async with (
        running_gateway(stream, auth, rooms_per_minute=10) as gateway,
        connect(gateway.url, auth.token("viewer")) as client,
    ):
        joined = [client.room(room_of(number)) for number in range(10)]
        await asyncio.gather(*(room.ready() for room in joined))
        for number in range(10, 20):
            client.room(room_of(number))
        assert (await gateway.stats())["rooms"] == 10
        for room in joined:
            await room.close()
        async with asyncio.timeout(WAIT_S):
            while (await gateway.stats())["rooms"]:
                pass


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_consumer_that_takes_nothing_falls_behind_alone_and_gets_everything_later(
    gateway: Gateway, transport: Transport
) -> None:
    async with connect(gateway.url, gateway.auth.token("viewer"), transport=transport) as client:
        slow, quick = client.room(ROOM, queue_size=10), client.room(OTHER)
        await asyncio.gather(slow.ready(), quick.ready())
        for number in range(50):
            await gateway.publish(settlement(f"s{number}"))
        await gateway.publish(settlement("other", "c2"))
        elsewhere = await take(quick, 1)
        was_behind = slow.is_behind
        heard = await take(slow, 50)
        await gateway.publish(settlement("live"))
        heard += await take(slow, 1)

    assert ids(elsewhere) == ["other"]
    assert was_behind
    assert ids(heard) == [*(f"s{number}" for number in range(50)), "live"]


async def test_consumer_that_is_slower_than_events_come_gets_everything(gateway: Gateway) -> None:
    async with connect(gateway.url, gateway.auth.token("viewer")) as client:
        room = client.room(ROOM, queue_size=5)
        await room.ready()
        for number in range(100):
            await gateway.publish(settlement(f"s{number}"))
        heard = []
        for _ in range(100):
            heard += await take(room, 1)

    assert ids(heard) == [f"s{number}" for number in range(100)]
    assert not room.is_behind
