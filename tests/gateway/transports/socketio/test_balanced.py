"""Unmodified Socket.IO clients at gateways behind a load balancer that sends each connection to the next one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.transports.relay import QUESTIONS
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.workers import running_workers
from tests.proxy import Proxy
from tests.socketio.clients import Driver, NpmClient

EVENTS = 300


@dataclass
class Balanced:
    """Two gateways and the load balancer, which sends each connection to the next one until a test decides."""

    gateways: list[Gateway]
    proxy: Proxy

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    def send_to(self, gateway: int) -> None:
        """Have new connections go to this gateway."""
        self.proxy.send_to(port_of(self.gateways[gateway]))

    async def publish_all(self) -> list[str]:
        """Publish events one after the other. Return their ids in this order."""
        names = [f"s{number}" for number in range(EVENTS)]
        for name in names:
            await self.gateways[0].publish(settlement(name))
        return names


def port_of(gateway: Gateway) -> int:
    port = urlsplit(gateway.url).port
    assert port is not None
    return port


@asynccontextmanager
async def balanced(stream: NatsServer, auth: FakeAuth) -> AsyncIterator[Balanced]:
    async with (
        running_gateway(stream, auth) as first,
        running_gateway(stream, auth) as second,
        Proxy(port_of(first), port_of(second)).running() as proxy,
    ):
        yield Balanced([first, second], proxy)


@pytest.fixture(name="site", params=["handover", "aiohttp"])
async def _site(
    request: pytest.FixtureRequest, stream: NatsServer, auth: FakeAuth, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Balanced]:
    monkeypatch.setenv("BEACONFIRE_TRANSPORT", request.param)
    async with balanced(stream, auth) as site:
        yield site


async def heard(client: NpmClient, count: int = EVENTS) -> list[str]:
    """The settlements of the events that a client has heard, once it has heard so many."""
    return [payload["settlementId"] for payload, _ in await client.all_events("settlement_updated", count)]


def asked(call: str) -> float:
    """How many questions of this kind processes have asked each other."""
    return float(QUESTIONS.labels(call, "answered")._value.get())


async def test_client_that_only_polls_needs_no_sticky_sessions(site: Balanced, auth: FakeAuth, driver: Driver) -> None:
    """Its requests go to both gateways in turn, and it hears every event once, in order."""
    before = asked("poll")
    client = driver.open(site.url, auth={"token": auth.token("viewer")}, transports=("polling",))
    assert (await client.next("open"))["transport"] == "polling"
    await client.next("connect")
    answer = await client.ask("subscribe_campaign", "c1")
    published = await site.publish_all()

    assert answer["success"] is True
    assert await heard(client) == published
    assert asked("poll") > before
    assert not [one for one in client.seen if one["got"] in ("disconnect", "upgrade")]


@pytest.mark.parametrize("at", [0, 1], ids=["at its gateway", "at another gateway"])
async def test_client_goes_over_to_a_websocket_in_the_middle_of_a_burst(
    site: Balanced, auth: FakeAuth, driver: Driver, at: int
) -> None:
    """It hears every event once, in order, and its connection is never lost."""
    moved_before = asked("move")
    site.send_to(0)
    clients = [
        driver.open(site.url, auth={"token": auth.token("viewer")}, transports=("polling", "websocket"), upgrade=False)
        for _ in range(4)
    ]
    for client in clients:
        await client.next("connect")
        assert (await client.ask("subscribe_campaign", "c1"))["success"]
    publishing = asyncio.create_task(site.publish_all())
    site.send_to(at)
    for client in clients:
        await client.event("settlement_updated")
        client.upgrade()
        assert (await client.saw("upgrade"))["transport"] == "websocket"
    assert not publishing.done()
    published = await publishing

    for client in clients:
        assert await heard(client) == published
        assert not [one for one in client.seen if one["got"] == "disconnect"]
    assert asked("move") - moved_before == at * len(clients)


async def test_client_is_the_same_after_it_went_over_to_another_gateway(
    site: Balanced, auth: FakeAuth, driver: Driver
) -> None:
    """It keeps its rooms, and its emits are answered there. Its old gateway has nothing of it left."""
    auth.members["viewer"]["campaign:c2"] = "viewer"
    moved_before = asked("move")
    site.send_to(0)
    client = driver.open(
        site.url, auth={"token": auth.token("viewer")}, transports=("polling", "websocket"), upgrade=False
    )
    await client.next("connect")
    assert (await client.ask("subscribe_campaign", "c1"))["success"]
    site.send_to(1)
    client.upgrade()
    await client.saw("upgrade")
    assert (await client.ask("subscribe_campaign", "c2"))["success"]
    published = await site.publish_all()

    assert await heard(client) == published
    assert asked("move") - moved_before == 1
    assert [(await one.stats())["clients"] for one in site.gateways] == [0, 1]
    assert (await client.ask("unsubscribe_campaign", "c1"))["success"]


async def test_client_that_went_over_to_another_gateway_recovers_after_a_lost_connection(
    site: Balanced, auth: FakeAuth, driver: Driver
) -> None:
    """Its record is the one that the first gateway made."""
    auth.members["viewer"]["campaign:c2"] = "viewer"
    site.send_to(0)
    client = driver.open(
        site.url, auth={"token": auth.token("viewer")}, transports=("polling", "websocket"), upgrade=False
    )
    sid = (await client.next("connect"))["sid"]
    assert (await client.ask("subscribe_campaign", "c1"))["success"]
    site.send_to(1)
    client.upgrade()
    await client.saw("upgrade")
    assert (await client.ask("subscribe_campaign", "c2"))["success"]
    first = await site.publish_all()
    client.drop()
    await client.next("disconnect")
    second = await site.publish_all()
    connected = await client.next("connect")

    assert (connected["recovered"], connected["sid"]) == (True, sid)
    assert await heard(client, 2 * EVENTS) == first + second


async def test_client_that_goes_over_as_soon_as_it_can_keeps_its_connection(
    site: Balanced, auth: FakeAuth, driver: Driver
) -> None:
    """It sends its `auth` while it tries out a WebSocket, here at another gateway with every second client."""
    clients = []
    for number in range(6):
        site.send_to(0)
        clients.append(driver.open(site.url, auth={"token": auth.token("viewer")}, transports=("polling", "websocket")))
        if number % 2:
            await clients[-1].saw("open")
            site.send_to(1)
        await clients[-1].saw("upgrade")
        await clients[-1].saw("connect")
        assert (await clients[-1].ask("subscribe_campaign", "c1"))["success"]
    published = await site.publish_all()

    for client in clients:
        assert await heard(client) == published
        assert not [one for one in client.seen if one["got"] == "disconnect"]


async def test_polling_client_of_a_stopping_gateway_goes_on_at_the_other_one(
    stream: NatsServer, auth: FakeAuth, driver: Driver
) -> None:
    """Its connection ends, and it connects again by itself."""
    async with running_gateway(stream, auth) as staying, AsyncExitStack() as stack:
        async with running_gateway(stream, auth) as stopping:
            proxy = await stack.enter_async_context(Proxy(port_of(stopping), port_of(staying)).running())
            client = driver.open(
                f"http://127.0.0.1:{proxy.port}", auth={"token": auth.token("viewer")}, transports=("polling",)
            )
            await client.next("connect")
        await client.next("disconnect")
        await client.next("connect")
        assert (await client.ask("subscribe_campaign", "c1"))["success"]
        await staying.publish(settlement())
        await client.event("settlement_updated")


async def test_polling_client_misses_nothing_when_the_broker_is_killed(
    stream: NatsServer, auth: FakeAuth, driver: Driver
) -> None:
    """Its gateways cannot ask each other then. It connects again until they can, and goes on at its cursor."""
    async with balanced(stream, auth) as site:
        client = driver.open(site.url, auth={"token": auth.token("viewer")}, transports=("polling",))
        await client.next("connect")
        cursor = (await client.ask("subscribe_campaign", "c1"))["cursor"]
        staying = asyncio.create_task(stay_subscribed(client, cursor))
        first = await site.publish_all()
        assert await heard(client) == first
        stream.kill()
        await client.next("disconnect")
        await asyncio.to_thread(stream.start)
        second = await site.publish_all()
        assert await heard(client, 2 * EVENTS) == first + second
        staying.cancel()


async def stay_subscribed(client: NpmClient, cursor: str) -> None:
    """Subscribe after each connection that was not recovered, from the last cursor on, as an application does."""
    connections = 1
    while True:
        connected = await client.nth("connect", connections)
        connections += 1
        if not connected["recovered"]:
            events = client.events("settlement_updated")
            last = events[-1][-1] if events else cursor
            with suppress(TimeoutError):  # the connection was lost again
                await client.ask("subscribe", {"rooms": ["campaign:c1"], "cursor": last})


async def test_polling_client_is_served_by_all_workers_of_a_gateway(
    stream: NatsServer, auth: FakeAuth, driver: Driver, tmp_path: Path
) -> None:
    """The kernel gives each of its requests to any worker."""
    async with running_workers(stream, auth, tmp_path) as workers:
        client = driver.open(workers.process.url, auth={"token": auth.token("viewer")}, transports=("polling",))
        await client.next("connect")
        assert (await client.ask("subscribe_campaign", "c1"))["success"]
        published = [f"s{number}" for number in range(EVENTS)]
        for name in published:
            await workers.publish(name)
        assert await heard(client) == published
        relayed = await workers.samples("beaconfire_gateway_relayed_questions_total")

    assert any(relayed.values())
    assert not [one for one in client.seen if one["got"] == "disconnect"]


async def test_clients_go_over_to_a_websocket_at_any_worker_of_a_gateway(
    stream: NatsServer, auth: FakeAuth, driver: Driver, tmp_path: Path
) -> None:
    """Until one of them has moved from one worker to another."""
    clients: list[NpmClient] = []
    async with running_workers(stream, auth, tmp_path) as workers:
        while not clients or 'call="move",result="answered"' not in (await workers.ask("/metrics"))[1]:
            token = auth.token(f"user{len(clients)}")
            client = driver.open(workers.process.url, auth={"token": token}, transports=("polling", "websocket"))
            clients.append(client)
            await client.saw("upgrade")
            await client.saw("connect")
            assert (await client.ask("subscribe_campaign", "c1"))["success"]
        published = [f"s{number}" for number in range(EVENTS)]
        for name in published:
            await workers.publish(name)
        for client in clients:
            assert await heard(client) == published

    assert not [one for client in clients for one in client.seen if one["got"] == "connect_error"]
