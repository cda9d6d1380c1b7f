"""The Python client against a real gateway, over each way in."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_client import (
    Client,
    ConnectionFailed,
    Event,
    NotSeen,
    RequestRefused,
    Resync,
    RoleChanged,
    Room,
    RoomLeft,
    RoomRefused,
    State,
    TokenReason,
    TokenRefused,
    Transport,
    connect,
)
from beaconfire_kit.roles import Role
from tests.clients.python.taking import ROOM, WAIT_S, Diary, ids, take
from tests.fakes import FakeAuth
from tests.forgery import Forger
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.events import member, publish_as_auth
from tests.proxy import Proxy

each_way = pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])


@pytest.fixture(name="front")
async def _front(gateway: Gateway) -> AsyncIterator[Proxy]:
    """A proxy before the gateway."""
    async with Proxy(port_of(gateway)).running() as proxy:
        yield proxy


def port_of(gateway: Gateway) -> int:
    return int(gateway.url.rpartition(":")[2])


def at(proxy: Proxy) -> str:
    return f"ws://127.0.0.1:{proxy.port}/ws"


# Events.


@each_way
async def test_client_hears_the_events_of_its_room_and_no_others(gateway: Gateway, transport: Transport) -> None:
    async with connect(gateway.url, gateway.auth.token("viewer"), transport=transport) as client:
        room = client.room(ROOM)
        await room.ready()
        await gateway.publish(settlement("s1"))
        await gateway.publish(settlement("elsewhere", "c2"))
        await gateway.publish(settlement("s2"))
        events = await take(room, 2)

    assert ids(events) == ["s1", "s2"]
    assert (events[0].type, events[0].version) == ("settlement_updated", 1)
    assert events[0].rooms == ("campaign:c1", "campaign:c1/settlement:s1")
    assert events[0].metadata["source"] == "api"


@each_way
async def test_client_that_lost_its_connection_gets_what_it_missed_once_and_in_order(
    gateway: Gateway, front: Proxy, transport: Transport
) -> None:
    diary = Diary()
    async with connect(at(front), gateway.auth.token("viewer"), transport=transport, on_notice=diary) as client:
        room = client.room(ROOM)
        await room.ready()
        await gateway.publish(settlement("before"))
        before = await take(room, 1)
        with front.cut_off():
            await diary.until(State.CONNECTING, times=2)
            for number in range(5):
                await gateway.publish(settlement(f"missed{number}"))
        missed = await take(room, 5)
        await gateway.publish(settlement("after"))
        after = await take(room, 1)

    assert ids([*before, *missed, *after]) == ["before", *(f"missed{number}" for number in range(5)), "after"]
    assert diary.states[-2].is_reconnect


@each_way
async def test_client_in_a_quiet_room_is_connected_again_soon_after_it_lost_its_connection(
    gateway: Gateway, front: Proxy, transport: Transport
) -> None:
    """A gateway lets a poll wait if it has the same rooms as the one before. The ack comes all the same."""
    diary = Diary()
    async with connect(at(front), gateway.auth.token("viewer"), transport=transport, on_notice=diary) as client:
        await client.room(ROOM).ready()
        with front.cut_off():
            await diary.until(State.CONNECTING, times=2)
        await diary.until(State.CONNECTED, times=2)


@each_way
async def test_room_of_a_snapshot_begins_with_what_happened_since(gateway: Gateway, transport: Transport) -> None:
    async with connect(gateway.url, gateway.auth.token("viewer"), transport=transport) as client:
        everything = client.room(ROOM)
        await everything.ready()
        for number in range(4):
            await gateway.publish(settlement(f"s{number}"))
        first, *_ = await take(everything, 4)
        since = client.room(ROOM, cursor=first.cursor)
        await since.ready()
        await gateway.publish(settlement("live"))
        restored, live = await take(since, 4), await take(everything, 1)

    assert ids(restored) == ["s1", "s2", "s3", "live"]
    assert ids(live) == ["live"]


async def test_consumer_that_joins_a_room_later_gets_nothing_from_before(gateway: Gateway) -> None:
    """Although the room is restored for another consumer at the same time."""
    async with connect(gateway.url, gateway.auth.token("viewer")) as client:
        first = client.room(ROOM)
        await first.ready()
        await gateway.publish(settlement("early"))
        early = await take(first, 1)
        second = client.room(ROOM)
        await second.ready()
        third = client.room(ROOM, cursor=f"{str(early[0].cursor).partition(':')[0]}:0")
        await third.ready()
        await gateway.publish(settlement("late"))
        heard = await take(second, 1)
        all_of_it = await take(third, 2)

    assert ids(heard) == ["late"]
    assert ids(all_of_it) == ["early", "late"]


@each_way
async def test_program_resumes_from_a_stored_cursor(gateway: Gateway, transport: Transport) -> None:
    token = gateway.auth.token("viewer")
    async with connect(gateway.url, token, transport=transport) as client:
        room = client.room(ROOM)
        await room.ready()
        await gateway.publish(settlement("handled"))
        (handled,) = await take(room, 1)
    await gateway.publish(settlement("missed"))
    async with connect(gateway.url, token, transport=transport) as client:
        events = await take(client.room(ROOM, cursor=handled.cursor), 1)

    assert ids(events) == ["missed"]


async def test_consumers_share_a_room_and_each_gets_its_own_types(gateway: Gateway) -> None:
    async with connect(gateway.url, gateway.auth.token("viewer")) as client:
        every = client.room(ROOM)
        settlements = client.room(ROOM, types=["settlement_updated"])
        times = client.room(ROOM, types=["world_time_changed"])
        await asyncio.gather(every.ready(), settlements.ready(), times.ready())
        await gateway.publish(settlement("s1"))
        heard = [ids(await take(room, 1)) for room in (every, settlements)]
        await every.close()
        await gateway.publish(settlement("s2"))
        heard.append(ids(await take(settlements, 1)))

    assert heard == [["s1"], ["s1"], ["s2"]]


async def test_room_is_left_with_its_last_consumer(gateway: Gateway) -> None:
    async with connect(gateway.url, gateway.auth.token("viewer")) as client:
        async with client.room(ROOM) as one, client.room(ROOM) as other:
            await asyncio.gather(one.ready(), other.ready())
            await one.close()
            during = (await gateway.stats())["rooms"]
        async with asyncio.timeout(WAIT_S):
            while (await gateway.stats())["rooms"]:
                pass
        remaining = [event async for event in one]

    assert during == 1
    assert remaining == []


async def test_iteration_ends_when_the_client_is_closed(gateway: Gateway) -> None:
    async def listen(room: Room) -> list[Event]:
        return [event async for event in room]

    async with connect(gateway.url, gateway.auth.token("viewer")) as client:
        room = client.room(ROOM)
        listening = asyncio.create_task(listen(room))
        await room.ready()
    async with asyncio.timeout(WAIT_S):
        heard = await listening

    assert heard == []


# Rooms that are refused or left.


@each_way
async def test_foreign_room_is_refused_with_an_exception(gateway: Gateway, transport: Transport) -> None:
    async with connect(gateway.url, gateway.auth.token("viewer"), transport=transport) as client:
        with pytest.raises(RoomRefused) as refused:
            await take(client.room("campaign:c9"), 1)

    assert (refused.value.code, refused.value.room) == ("forbidden", "campaign:c9")


async def test_refused_types_of_one_consumer_do_not_harm_the_others_of_its_room(gateway: Gateway) -> None:
    async with connect(gateway.url, gateway.auth.token("viewer")) as client:
        settlements = client.room(ROOM, types=["settlement_updated"])
        await settlements.ready()
        with pytest.raises(RoomRefused) as refused:
            await client.room(ROOM, types=["no_such_type"]).ready()
        await gateway.publish(settlement("s1"))
        events = await take(settlements, 1)

    assert refused.value.code == "unknown_type"
    assert ids(events) == ["s1"]


@each_way
async def test_removed_member_is_told(gateway: Gateway, transport: Transport) -> None:
    auth = gateway.auth
    async with connect(gateway.url, auth.token("viewer"), transport=transport) as client:
        room = client.room(ROOM)
        await room.ready()
        auth.members["viewer"], auth.version = {}, 2
        await publish_as_auth(gateway, member("viewer", None))
        with pytest.raises(RoomLeft) as left:
            await take(room, 1)

    assert left.value.code == "membership_removed"


async def test_changed_role_is_told(gateway: Gateway) -> None:
    diary = Diary()
    auth = gateway.auth
    async with connect(gateway.url, auth.token("viewer"), on_notice=diary) as client:
        await client.room(ROOM).ready()
        auth.members["viewer"][ROOM], auth.version = "editor", 2
        await publish_as_auth(gateway, member("viewer", Role.EDITOR))
        async with asyncio.timeout(WAIT_S):
            while RoleChanged(ROOM, "editor") not in diary.notices:
                await asyncio.sleep(0)


@each_way
async def test_events_missed_for_good_are_told_in_their_place(
    stream: NatsServer, gateway: Gateway, transport: Transport
) -> None:
    told: list[Resync] = []
    async with connect(gateway.url, gateway.auth.token("viewer"), transport=transport) as client:
        room = client.room(ROOM, cursor="gone:7", on_resync=told.append)
        await room.ready()
        await gateway.publish(settlement("s1"))
        events = await take(room, 1)

    assert [(resync.rooms, resync.reason) for resync in told] == [((ROOM,), "epoch_changed")]
    assert ids(events) == ["s1"]


# Tokens.


async def test_invalid_token_is_refused_when_the_client_is_entered(gateway: Gateway) -> None:
    with pytest.raises(ConnectionFailed) as failed:
        async with Client(gateway.url, "nonsense"):
            pass

    assert failed.value.code == "token_invalid"


@each_way
async def test_token_is_renewed_without_a_reconnect(stream: NatsServer, auth: FakeAuth, transport: Transport) -> None:
    """Events flow beyond the end of the first token."""
    reasons: list[TokenReason] = []
    diary = Diary()

    async def get_token(reason: TokenReason) -> str:
        reasons.append(reason)
        return auth.token("viewer", ttl_s=4)

    async with (
        running_gateway(stream, auth, heartbeat_s=1) as gateway,
        connect(gateway.url, get_token, transport=transport, on_notice=diary) as client,
    ):
        room = client.room(ROOM)
        await room.ready()
        while len(reasons) < 3:
            await gateway.publish(settlement("s1"))
            await take(room, 1)
        states = [status.state for status in diary.states]

    assert reasons[:3] == ["connect", "expiring", "expiring"]
    assert states == [State.CONNECTING, State.CONNECTED]


async def test_token_is_renewed_although_its_endpoint_fails_and_hangs_once(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway warns of the end of the first token at once, and there is time for a machine that freezes."""
    reasons: list[TokenReason] = []
    diary = Diary()
    renewed = asyncio.Event()

    async def get_token(reason: TokenReason) -> str:
        reasons.append(reason)
        if len(reasons) == 1:
            now = int(time.time())
            return Forger(gateway.auth.key, "k1").forged(claims={"sub": "viewer", "iat": now - 840, "exp": now + 55})
        if len(reasons) == 2:
            raise ConnectionError("the token endpoint is away")
        if len(reasons) == 3:
            await asyncio.Event().wait()
        renewed.set()
        return gateway.auth.token("viewer")

    async with connect(gateway.url, get_token, token_timeout_s=0.2, on_notice=diary) as client:
        room = client.room(ROOM)
        await room.ready()
        async with asyncio.timeout(WAIT_S):
            await renewed.wait()
        await gateway.publish(settlement("s1"))
        events = await take(room, 1)
        states = [status.state for status in diary.states]

    assert reasons[:4] == ["connect", "expiring", "expiring", "expiring"]
    assert "get_token failed: ConnectionError: the token endpoint is away" in caplog.text
    assert ids(events) == ["s1"]
    assert states == [State.CONNECTING, State.CONNECTED]


async def test_token_function_that_returns_no_token_is_a_failed_attempt(gateway: Gateway) -> None:
    async def get_token(_reason: TokenReason) -> str:
        return None  # type: ignore[return-value]

    with pytest.raises(ConnectionFailed, match="expected a token, got NoneType"):
        async with connect(gateway.url, get_token, max_attempts=1):
            pass


async def test_token_that_is_refused_for_good_ends_the_connection(gateway: Gateway) -> None:
    async def get_token(_reason: TokenReason) -> str:
        raise TokenRefused("signed out")

    with pytest.raises(ConnectionFailed) as failed:
        async with connect(gateway.url, get_token):
            pass

    assert (failed.value.code, str(failed.value)) == ("unusable", "No token: signed out")


async def test_first_token_may_fail_once(gateway: Gateway) -> None:
    reasons: list[TokenReason] = []

    async def get_token(reason: TokenReason) -> str:
        reasons.append(reason)
        if len(reasons) == 1:
            raise ConnectionError("the token endpoint is away")
        return gateway.auth.token("viewer")

    async with connect(gateway.url, get_token, max_pause_s=1) as client:
        await client.room(ROOM).ready()

    assert reasons == ["connect", "reconnect"]


# States.


async def test_client_stops_after_its_attempts_and_goes_on_when_it_is_told(gateway: Gateway, front: Proxy) -> None:
    diary = Diary()
    token = gateway.auth.token("viewer")
    async with connect(at(front), token, max_attempts=2, max_pause_s=1, on_notice=diary) as client:
        room = client.room(ROOM)
        await room.ready()
        front.refusing = True
        front.cut()
        with pytest.raises(ConnectionFailed) as failed:
            await take(room, 1)
        stopped = client.status
        with pytest.raises(NotSeen):
            await client.seen(10**9)
        front.refusing = False
        await gateway.publish(settlement("missed"))
        client.retry()
        events = await take(room, 1)

    assert failed.value.code == "unreachable"
    assert (stopped.state, stopped.attempt) == (State.ERROR, 2)
    assert ids(events) == ["missed"]
    assert [status.attempt for status in diary.states if status.state is State.CONNECTING][:3] == [1, 2, 2]


async def test_gateway_that_answers_at_no_attempt_is_an_error_when_the_client_is_entered(unused_tcp_port: int) -> None:
    with pytest.raises(ConnectionFailed) as failed:
        async with connect(f"http://127.0.0.1:{unused_tcp_port}", "token", max_attempts=1):
            pass

    assert failed.value.code == "unreachable"
    assert "1 attempts" in str(failed.value)


@pytest.mark.parametrize("url", ["ftp://live.example/ws", "live.example", "ws://", ""])
def test_useless_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="expected an address such as"):
        connect(url, "token")


def test_useless_options_are_refused_at_once() -> None:
    for options in ({"max_pause_s": 0.5}, {"max_attempts": 0}, {"transport": "pigeon"}, {"cursor": "12"}):
        with pytest.raises(ValueError, match=r"expected|Expected"):
            connect("ws://live.example", "token", **options)


async def test_client_that_is_not_entered_says_how_to(gateway: Gateway) -> None:
    client = connect(gateway.url, "token")
    with pytest.raises(ConnectionFailed, match="async with"):
        client.room(ROOM)


# Its own changes.


@each_way
async def test_change_is_seen_when_its_event_or_its_place_was_received(gateway: Gateway, transport: Transport) -> None:
    async with connect(gateway.url, gateway.auth.token("viewer"), transport=transport) as client:
        room = client.room(ROOM)
        await room.ready()
        offset = await gateway.publish(settlement("s1"))
        await client.seen(offset, timeout_s=WAIT_S)
        (event,) = await take(room, 1)
        await client.seen(event.id)
        await client.seen(event.cursor)
        await client.seen(None)
        with pytest.raises(NotSeen) as late:
            await client.seen(offset + 1000, timeout_s=0.05)

    assert late.value.code == "timeout"
    with pytest.raises(NotSeen) as closed:
        await client.seen(offset)
    assert closed.value.code == "closed"


# Users.


@each_way
async def test_users_in_a_room_are_told_with_their_status(gateway: Gateway, transport: Transport) -> None:
    url, auth = gateway.url, gateway.auth
    async with (
        connect(url, auth.token("viewer"), transport=transport) as viewer,
        connect(url, auth.token("owner"), transport=transport) as owner,
    ):
        watched = viewer.room(ROOM, presence=True)
        await watched.ready()
        other = owner.room(ROOM)
        await other.ready()
        await owner.set_presence("busy")
        async with asyncio.timeout(WAIT_S):
            async for here in watched.here_changes():
                if "owner" in here.users and here.users["owner"].status == "busy":
                    break
        await other.close()
        async with asyncio.timeout(WAIT_S):
            async for here in watched.here_changes():
                if "owner" not in here.users:
                    break

    assert here.count == 1
    assert set(here.users) == {"viewer"}


@each_way
async def test_users_who_type_are_told_until_they_stop(gateway: Gateway, transport: Transport) -> None:
    url, auth = gateway.url, gateway.auth
    async with (
        connect(url, auth.token("viewer"), transport=transport) as viewer,
        connect(url, auth.token("owner"), transport=transport) as owner,
    ):
        watched, other = viewer.room(ROOM), owner.room(ROOM)
        await asyncio.gather(watched.ready(), other.ready())
        changes = watched.typing_changes()
        async with asyncio.timeout(WAIT_S):
            nobody = await anext(changes)
            async with other.typing():
                somebody = await anext(changes)
            again = await anext(changes)

    assert (nobody, somebody, again) == (frozenset(), frozenset({"owner"}), frozenset())


async def test_unknown_status_is_refused(gateway: Gateway) -> None:
    async with connect(gateway.url, gateway.auth.token("viewer")) as client:
        with pytest.raises(ValueError, match="status: expected 'online', 'away' or 'busy', got 'asleep'"):
            await client.set_presence("asleep")  # type: ignore[arg-type]


async def test_request_over_a_limit_is_refused(stream: NatsServer, auth: FakeAuth) -> None:
    async with (
        running_gateway(stream, auth, messages_per_minute=2) as gateway,
        connect(gateway.url, auth.token("viewer")) as client,
    ):
        await client.set_presence("away")
        with pytest.raises(RequestRefused) as refused:
            await client.set_presence("busy")

    assert refused.value.code == "too_many"


# Gateways that stop.


async def test_client_moves_from_a_gateway_that_stops_without_a_gap(stream: NatsServer, auth: FakeAuth) -> None:
    """The state stays `connected`: the old connection is used until the new one is acknowledged."""
    diary = Diary()
    async with AsyncExitStack() as stack, running_gateway(stream, auth) as other:
        first = await stack.enter_async_context(running_gateway(stream, auth, stop_timeout_s=5, stop_accept_s=0))
        async with (
            Proxy(port_of(first)).running() as front,
            connect(at(front), auth.token("viewer"), on_notice=diary) as client,
        ):
            room = client.room(ROOM)
            await room.ready()
            session = client.session_id
            front.send_to(port_of(other))
            stopping = asyncio.create_task(stack.aclose())
            published = 0
            async with asyncio.timeout(WAIT_S):
                while client.session_id == session:
                    await other.publish(settlement(f"s{published}"))
                    published += 1
            await stopping
            await other.publish(settlement("after"))
            events = await take(room, published + 1)

    assert ids(events) == [*(f"s{number}" for number in range(published)), "after"]
    assert [status.state for status in diary.states[:2]] == [State.CONNECTING, State.CONNECTED]
    assert State.CONNECTING not in [status.state for status in diary.states[2:]]
