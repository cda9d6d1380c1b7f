"""Every way into a gateway with events that are conflated: of a burst a client gets the first, and then the latest."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.catalogue_store import CatalogueStore
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.catalogues import couriers
from tests.gateway.conftest import Gateway, running_gateway
from tests.gateway.events import BODY
from tests.gateway.transports.ways import WAYS, Visitor, Way

BURST = 30
every_way = pytest.mark.parametrize("way", WAYS, ids=str)


async def there(gateway: Gateway) -> None:
    """Wait until one client is there. A client that polls is there while it waits."""
    while (await gateway.stats())["clients"] != 1:
        pass


@pytest.fixture(name="gateway")
async def _gateway(stream: NatsServer, auth: FakeAuth, way: Way) -> AsyncIterator[Gateway]:
    """A gateway that knows the events of couriers. Their window is so long that a burst falls into one."""
    async with connected(stream, "catalogue") as nc:
        await CatalogueStore(nc).push([couriers(window_ms=1_500)], by="test")
    async with running_gateway(stream, auth, transport=way.transport) as gateway:
        yield gateway


async def move(
    gateway: Gateway,
    courier: str,
    *steps: int,
    type_: str = "courier.moved",
) -> None:
    """Publish events of a courier, all at once."""
    stream = gateway.publisher.jetstream()
    bodies = [{**BODY, "type": type_, "payload": {"courierId": courier, "step": step}} for step in steps]
    await asyncio.gather(
        *(stream.publish(f"campaign.c1.courier.{courier}", json.dumps(one).encode()) for one in bodies)
    )


async def heard_all(visitor: Visitor, *wanted: int) -> list[int]:
    """The steps of all events until these steps have come, in any order."""
    steps: list[int] = []
    while not set(wanted) <= set(steps):
        steps.append((await visitor.next()).body["payload"]["step"])
    return steps


@every_way
async def test_of_a_burst_of_one_key_a_client_gets_the_first_and_the_latest(gateway: Gateway, way: Way) -> None:
    """An event of another key may come before the latest one. Between two polls, a client gets every event."""
    async with way.open(gateway.url, gateway.auth.token("viewer")) as visitor:
        hearing = asyncio.create_task(heard_all(visitor, BURST - 1, BURST))
        await there(gateway)
        await move(gateway, "k1", *range(BURST))
        await move(gateway, "k2", BURST)
        steps = await hearing

    moves = [step for step in steps if step != BURST]
    assert moves[0] == 0
    assert moves == sorted(set(moves))
    assert len(moves) < BURST // 2 or not way.over.stays


@every_way
async def test_client_that_comes_back_gets_what_was_held_and_every_event_since_its_cursor(
    gateway: Gateway, way: Way
) -> None:
    async with way.open(gateway.url, gateway.auth.token("viewer")) as visitor:
        start = visitor.cursor
        await move(gateway, "k1", 1)
        await move(gateway, "k1", 2)
        await move(gateway, "k1", 3, type_="courier.called")
        before = await heard_all(visitor, 3)
        cursor = visitor.cursor
    await move(gateway, "k1", 4, type_="courier.called")
    async with way.open(gateway.url, gateway.auth.token("viewer"), cursor=cursor) as visitor:
        back = await heard_all(visitor, 4)
    async with way.open(gateway.url, gateway.auth.token("viewer"), cursor=start) as visitor:
        complete = await heard_all(visitor, 4)

    assert 2 in [*before, *back]
    assert complete == [1, 2, 3, 4]
