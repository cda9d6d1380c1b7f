"""Connection state recovery of unmodified Socket.IO clients: on any gateway, and never with a hidden gap."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_gateway.transports.socketio.namespaces import Namespaces, SocketIOConnection
from beaconfire_gateway.transports.socketio.recovery import Recovery
from beaconfire_gateway.wire.engineio import Packet, PacketType
from beaconfire_kit import broker
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.gateway_buckets import BUCKETS, SOCKETIO_SESSIONS
from beaconfire_kit.key_value import KeyValue
from beaconfire_kit.stream_setup import declare_stream
from beaconfire_kit.tokens import Claims
from tests.client import open_socket
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.front import Front
from tests.gateway.conftest import Gateway, on_both_transports, running_gateway, settlement
from tests.gateway.core import Open, build_core, spawning
from tests.gateway.engines import HeldCarrier
from tests.gateway.processes import gateway_process
from tests.gateway.streams import push_out
from tests.socketio.clients import Driver, NpmClient, RawClient, npm_clients, raw_client

EVENT = "settlement_updated"


@pytest.fixture(name="driver")
async def _driver() -> AsyncIterator[Driver]:
    async with npm_clients() as driver:
        yield driver


async def member(gateway: Gateway, driver: Driver, user: str = "viewer", url: str = "", **options: Any) -> NpmClient:
    """A client in campaign c1."""
    client = driver.open(url or gateway.url, auth={"token": gateway.auth.token(user)}, **options)
    await client.next("connect", recovered=False)
    assert (await client.ask("subscribe_campaign", "c1"))["success"]
    return client


async def offset_of_next(client: NpmClient) -> int:
    _payload, cursor = await client.event(EVENT)
    return int(cursor.partition(":")[2])


@on_both_transports
async def test_client_that_lost_its_connection_has_its_sid_its_rooms_and_every_event_again(
    gateway: Gateway, driver: Driver
) -> None:
    client = await member(gateway, driver)
    sid = next(one["sid"] for one in client.seen if one["got"] == "connect")
    first = await gateway.publish(settlement())
    assert await offset_of_next(client) == first
    client.drop()
    await client.next("disconnect")
    missed = [await gateway.publish(settlement()) for _ in range(3)]
    back = await client.next("connect")
    live = await gateway.publish(settlement())

    assert back["recovered"]
    assert back["sid"] == sid
    assert [await offset_of_next(client) for _ in range(4)] == [*missed, live]


async def test_client_is_recovered_before_it_has_heard_any_event(gateway: Gateway, driver: Driver) -> None:
    client = await member(gateway, driver)
    client.drop()
    await client.next("disconnect")
    missed = await gateway.publish(settlement())

    assert (await client.next("connect"))["recovered"]
    assert await offset_of_next(client) == missed


async def test_client_is_recovered_without_rooms_right_after_it_connected(gateway: Gateway, driver: Driver) -> None:
    client = driver.open(gateway.url, auth={"token": gateway.auth.token("viewer")})
    await client.next("connect", recovered=False)
    client.drop()

    assert (await client.next("connect"))["recovered"]


async def test_rooms_that_a_client_joined_when_it_connected_are_recovered(
    stream: NatsServer, auth: FakeAuth, driver: Driver
) -> None:
    """They were automatic, and the client has not named a room since."""
    rooms = {"socketio:/realtime": ["user:{sub}", "campaign:*"]}
    async with running_gateway(stream, auth, automatic_rooms=rooms) as gateway:
        client = driver.open(gateway.url, namespace="/realtime", auth={"token": auth.token("viewer")})
        await client.next("connect", recovered=False)
        client.drop()
        await client.next("disconnect")
        missed = await gateway.publish(settlement())

        assert (await client.next("connect"))["recovered"]
        assert await offset_of_next(client) == missed


async def test_user_over_its_limit_stores_no_more_records(stream: NatsServer, auth: FakeAuth) -> None:
    """They would outlive its connections, and the bucket has a bound."""
    async with running_gateway(stream, auth, messages_per_minute_per_user=3) as gateway:
        for _ in range(6):
            async with raw_client(gateway.url) as client:
                await client.hear_that("0")
                await client.say("40" + json.dumps({"token": auth.token("viewer")}))
                await client.hear_that("4")
        async with connected(stream, "setup") as setup:
            info = await broker.call_api(setup, f"STREAM.INFO.{BUCKETS[SOCKETIO_SESSIONS].stream}", {})
            assert info is not None

    assert info["state"]["messages"] == 3


async def test_client_is_recovered_again_and_again(gateway: Gateway, driver: Driver) -> None:
    client = await member(gateway, driver)
    for _ in range(4):
        client.drop()
        await client.next("disconnect")
        missed = await gateway.publish(settlement())

        assert (await client.next("connect"))["recovered"]
        assert await offset_of_next(client) == missed


async def test_rooms_and_types_that_were_changed_later_are_recovered(gateway: Gateway, driver: Driver) -> None:
    client = await member(gateway, driver)
    await client.ask("unsubscribe_campaign", "c1")
    await client.ask("subscribe", {"rooms": ["campaign:c1/settlement:s2"], "types": [EVENT]})
    client.drop()
    await client.next("disconnect")
    await gateway.publish(settlement("s1"))
    missed = await gateway.publish(settlement("s2"))

    assert (await client.next("connect"))["recovered"]
    assert await offset_of_next(client) == missed
    assert len(client.events(EVENT)) == 1


async def test_new_room_brings_no_event_from_before_it_when_its_client_recovers(
    gateway: Gateway, driver: Driver
) -> None:
    """Its offset was that of an event in another room."""
    client = driver.open(gateway.url, auth={"token": gateway.auth.token("viewer")})
    await client.next("connect")
    await gateway.publish(settlement("s1"))
    await client.ask("subscribe", {"rooms": ["campaign:c1/settlement:s1"]})
    client.drop()
    await client.next("disconnect")
    missed = await gateway.publish(settlement("s1"))

    assert (await client.next("connect"))["recovered"]
    assert await offset_of_next(client) == missed
    assert len(client.events(EVENT)) == 1


async def test_each_namespace_of_a_connection_is_recovered(gateway: Gateway, driver: Driver) -> None:
    token = gateway.auth.token("viewer")
    clients = [
        driver.open(gateway.url, namespace=name, auth={"token": token}, multiplex=True) for name in ("/", "/realtime")
    ]
    for client in clients:
        await client.next("connect", recovered=False)
        await client.ask("subscribe_campaign", "c1")
    clients[0].drop()
    for client in clients:
        await client.next("disconnect")
    missed = await gateway.publish(settlement())

    for client in clients:
        assert (await client.next("connect"))["recovered"]
        assert await offset_of_next(client) == missed


async def test_client_is_recovered_at_another_gateway_after_its_own_was_killed(
    stream: NatsServer, auth: FakeAuth, gateway: Gateway, driver: Driver, tmp_path: Path
) -> None:
    """`gateway` is the one that stays. Its address is not the one that the client knows: a load balancer has both."""
    async with gateway_process(tmp_path, stream, auth) as doomed:
        front = Front([doomed.port, int(gateway.url.rpartition(":")[2])])
        async with front.running():
            front.left_out = {1}
            client = await member(gateway, driver, url=front.url)
            front.left_out = {0}
            doomed.kill()
            missed = await gateway.publish(settlement())

            assert (await client.next("connect"))["recovered"]
            assert await offset_of_next(client) == missed


async def test_client_is_recovered_while_its_old_connection_is_still_open_elsewhere(
    stream: NatsServer, auth: FakeAuth, gateway: Gateway
) -> None:
    """The other gateway's session cannot bring the old state back."""
    async with running_gateway(stream, auth) as other, raw_client(gateway.url) as old, raw_client(other.url) as new:
        pid, offset = await connect(old, auth)
        await old.say('421["subscribe_campaign","c1"]')
        await old.hear_that("431")
        missed = await gateway.publish(settlement())
        again, _ = await connect(new, auth, pid=pid, offset=offset)
        event = await new.hear_that(f'42["{EVENT}"')

    assert again == pid
    assert event.endswith(f':{missed}"]')


@pytest.mark.parametrize("asks", ["when it connects", "later"])
async def test_client_that_is_told_who_is_in_a_room_is_told_so_after_it_came_back(
    stream: NatsServer, auth: FakeAuth, gateway: Gateway, asks: str
) -> None:
    """At another gateway, without asking again. And not about the room for which it has not asked."""
    rooms = ["campaign:c1", "campaign:c1/settlement:s1"]
    auth_of: dict[str, Any] = {"rooms": rooms[:1], "presence": True} if asks == "when it connects" else {}
    async with running_gateway(stream, auth) as other, raw_client(gateway.url) as old, raw_client(other.url) as new:
        pid, offset = await connect(old, auth, **auth_of)
        if asks == "later":
            await old.say(f'421["subscribe",{json.dumps({"rooms": rooms[:1], "presence": True})}]')
            await old.hear_that("431")
        await old.say(f'422["subscribe",{json.dumps({"rooms": rooms[1:]})}]')
        await old.hear_that("432")
        await new.hear_that("0")
        await new.say("40" + json.dumps({"token": auth.token("viewer"), "pid": pid, "offset": offset}))
        ack = json.loads((await new.hear_that('42["beaconfire:ack"'))[2:])[1]
        async with open_socket(gateway.url) as third:
            await third.connect(auth.token("owner"), ["campaign:c1"])
            while '"owner"' not in await new.hear_that('42["beaconfire:presence"'):
                pass

    assert {name: "presence" in answer for name, answer in ack["rooms"].items()} == dict(
        zip(rooms, (True, False), strict=True)
    )


async def connect(client: RawClient, auth: FakeAuth, user: str = "viewer", **more: Any) -> tuple[str, str]:
    """Connect a raw client to the main namespace. Returns its secret, and its first offset."""
    await client.hear_that("0")
    await client.say("40" + json.dumps({"token": auth.token(user), **more}))
    pid = json.loads((await client.hear_that("40"))[2:])["pid"]
    offset = json.loads((await client.hear_that('42["beaconfire:ack"'))[2:])[-1]
    return pid, offset


async def lost_client(gateway: Gateway, auth: FakeAuth) -> tuple[str, str]:
    """A client in campaign c1 that has lost its connection. Returns what it comes back with."""
    async with raw_client(gateway.url) as client:
        pid, offset = await connect(client, auth)
        await client.say('421["subscribe_campaign","c1"]')
        await client.hear_that("431")
    return pid, offset


async def came_back(gateway: Gateway, auth: FakeAuth, pid: str, offset: str, user: str = "viewer") -> str:
    """Connect with what a client had. Returns the secret that it has then: the same if it was recovered."""
    async with raw_client(gateway.url) as client:
        return (await connect(client, auth, user, pid=pid, offset=offset))[0]


async def test_secret_of_another_user_recovers_nothing(gateway: Gateway, auth: FakeAuth) -> None:
    pid, offset = await lost_client(gateway, auth)

    assert await came_back(gateway, auth, pid, offset, "editor") != pid
    assert await came_back(gateway, auth, pid, offset) == pid


@pytest.mark.parametrize("offset", ["", "nonsense", "0:7", "a" * 2_000])
async def test_client_without_a_good_offset_starts_over(gateway: Gateway, auth: FakeAuth, offset: str) -> None:
    pid, _ = await lost_client(gateway, auth)

    assert await came_back(gateway, auth, pid, offset) != pid


async def test_offset_beyond_the_end_of_the_stream_starts_over(gateway: Gateway, auth: FakeAuth) -> None:
    pid, offset = await lost_client(gateway, auth)
    epoch, _, number = offset.partition(":")

    assert await came_back(gateway, auth, pid, f"{epoch}:{int(number) + 1_000}") != pid


@pytest.mark.parametrize("pid", ["", "unknown", "x" * 22, "*", ">" * 22, "a.b", "\u0000"])
async def test_unknown_secret_starts_over(gateway: Gateway, auth: FakeAuth, pid: str) -> None:
    _, offset = await lost_client(gateway, auth)

    assert await came_back(gateway, auth, pid, offset) != pid


async def test_client_that_left_by_itself_is_not_recovered(gateway: Gateway, auth: FakeAuth) -> None:
    async with raw_client(gateway.url) as client:
        pid, offset = await connect(client, auth)
        await client.say("41")
        await client.closed()

    assert await came_back(gateway, auth, pid, offset) != pid


async def test_rooms_are_checked_again_for_access(stream: NatsServer, auth: FakeAuth, gateway: Gateway) -> None:
    """At another gateway: it has asked for no decision yet."""
    pid, offset = await lost_client(gateway, auth)
    del auth.members["viewer"]["campaign:c1"]
    async with running_gateway(stream, auth) as other, raw_client(other.url) as client:
        await client.hear_that("0")
        await client.say("40" + json.dumps({"token": auth.token("viewer"), "pid": pid, "offset": offset}))
        back = json.loads((await client.hear_that("40"))[2:])
        _, ack, _ = json.loads((await client.hear_that('42["beaconfire:ack"'))[2:])

    assert back["pid"] == pid
    assert ack["rooms"]["campaign:c1"]["success"] is False


async def test_without_the_bucket_clients_connect_and_subscribe_and_start_over(
    stream: NatsServer, auth: FakeAuth, gateway: Gateway, driver: Driver
) -> None:
    async with connected(stream, "setup") as setup:
        await broker.call_api(setup, f"STREAM.DELETE.{BUCKETS[SOCKETIO_SESSIONS].stream}", {})
        client = await member(gateway, driver)
        client.drop()
        await client.next("disconnect")
        lost = await client.next("connect")
        assert (await client.ask("subscribe_campaign", "c1"))["success"]
        await declare_stream(setup)
        await client.ask("subscribe", {"rooms": ["campaign:c1/settlement:s1"]})
        client.drop()
        await client.next("disconnect")
        back = await client.next("connect")

    assert not lost["recovered"]
    assert back["recovered"]


async def test_client_whose_stream_was_replaced_starts_over_on_a_new_connection(
    stream: NatsServer, auth: FakeAuth, gateway: Gateway, driver: Driver
) -> None:
    """An unmodified client does not know `resync`: it sees that it was not recovered."""
    client = await member(gateway, driver)
    async with connected(stream, "setup") as setup:
        await broker.renew_epoch(setup)
    await client.next("disconnect")
    back = await client.next("connect")

    assert not back["recovered"]
    assert client.events("beaconfire:resync")


async def test_client_that_was_away_for_longer_than_the_stream_keeps_events_starts_over(
    stream: NatsServer, auth: FakeAuth
) -> None:
    """A gateway notices when it reads the history. It ends the connection before the client hears a later event."""
    async with running_gateway(stream, auth, ring_bytes=1_048_576) as gateway:
        pid, offset = await lost_client(gateway, auth)
        await gateway.publish(settlement("lost"))
        kept = (await push_out(gateway))[0]
        async with connected(stream, "setup") as setup:
            await broker.call_api(setup, f"STREAM.PURGE.{broker.STREAM}", {"seq": kept})
        async with raw_client(gateway.url) as client:
            assert (await connect(client, auth, pid=pid, offset=offset))[0] == pid
            heard = [message.data async for message in client.socket]

        assert await came_back(gateway, auth, pid, offset) != pid
    assert [one[:22] for one in heard] == ['42["beaconfire:resync"']


async def test_client_that_went_over_to_a_websocket_at_another_gateway_is_recovered(
    stream: NatsServer, auth: FakeAuth, gateway: Gateway
) -> None:
    """Its session moved there, and its record with it."""
    async with running_gateway(stream, auth) as other:
        sid, pid, offset = await polling_member(gateway, auth)
        async with raw_client(other.url, f"EIO=4&transport=websocket&sid={sid}") as client:
            await client.say("2probe")
            await client.hear_that("3probe")
            await client.say("5", '422["subscribe",{"rooms":["user:viewer"]}]')
            await client.hear_that("432")
        async with raw_client(gateway.url) as client:
            await client.hear_that("0")
            await client.say("40" + json.dumps({"token": auth.token("viewer"), "pid": pid, "offset": offset}))
            back = json.loads((await client.hear_that("40"))[2:])
            _, ack, _ = json.loads((await client.hear_that('42["beaconfire:ack"'))[2:])

    assert back["pid"] == pid
    assert set(ack["rooms"]) == {"campaign:c1", "user:viewer"}


async def polling_member(gateway: Gateway, auth: FakeAuth) -> tuple[str, str, str]:
    """A client in campaign c1 that polls. Returns the id of its connection, its secret, and its first offset."""
    url = f"{gateway.url}/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession() as http:

        async def poll() -> list[str]:
            async with http.get(url) as answer:
                return (await answer.text()).split("\x1e")

        [opened] = await poll()
        sid = json.loads(opened[1:])["sid"]
        url += f"&sid={sid}"
        await http.post(url, data="40" + json.dumps({"token": auth.token("viewer")}))
        welcome, ack = await poll()
        await http.post(url, data='421["subscribe_campaign","c1"]')
        assert (await poll())[-1].startswith("431")
    return sid, json.loads(welcome[2:])["pid"], json.loads(ack[2:])[-1]


class Waiting(Open):
    """Answers about rooms only while it is not held back."""

    def __init__(self) -> None:
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
        self.answers.set()

    async def decide(self, claims: Claims, rooms: Sequence[str]) -> Mapping[str, Subscription | BeaconfireError]:
        self.asked.set()
        await self.answers.wait()
        return await super().decide(claims, rooms)


async def test_stream_that_is_replaced_while_a_client_is_recovered_makes_it_start_over(stream: NatsServer) -> None:
    """Its client was told that it is recovered, and then that it is not: on a new connection."""
    loop, access = asyncio.get_running_loop(), Waiting()
    core = build_core(call_soon=loop.call_soon, spawn=spawning(loop), access=access)
    core.begin("e", 10)
    async with connected(stream, "gateway") as nc:
        namespaces = Namespaces(core, Recovery(nc), ())

        async def open_client(**auth: str) -> HeldCarrier:
            core.door.enter("an address")
            carrier = HeldCarrier(core)
            connection = SocketIOConnection(core, carrier, namespaces, address="an address", offered_token="")
            connection.receive(Packet(PacketType.MESSAGE, b"0" + json.dumps({"token": "ann", **auth}).encode()))
            return carrier

        first = await open_client()
        while b"beaconfire:ack" not in (taken := first.take()):
            await asyncio.sleep(0)
        pid = taken.partition(b'"pid":"')[2][:22].decode()
        first.abort()
        access.asked.clear()
        access.answers.clear()
        second = await open_client(pid=pid, offset="e:10")
        await access.asked.wait()
        core.begin("f", 5)
        access.answers.set()
        while not core.is_empty:
            await asyncio.sleep(0)
        ended = await KeyValue(nc, SOCKETIO_SESSIONS).last(pid)

    written = second.take()
    assert written.index(pid.encode()) < written.index(b"beaconfire:resync")
    assert ended is not None
    assert ended.value == b""
