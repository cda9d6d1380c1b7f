"""Rooms that a client did not ask for, and events that a service sends, on every way into a gateway."""

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.sent_events import SentEvent, session_room
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.transports.ways import ROOM, WAYS, Visitor, Way
from tests.sending import push_notices

AUTOMATIC = ["campaign:*"]
every_way = pytest.mark.parametrize("way", WAYS, ids=str)
every_way_that_stays = pytest.mark.parametrize("way", [way for way in WAYS if way.over.stays], ids=str)
"""Without long polls: their clients have no session between two polls, and another one in the next."""


@pytest.fixture(name="gateway")
async def _gateway(stream: NatsServer, auth: FakeAuth, way: Way) -> AsyncIterator[Gateway]:
    """A gateway on which every dialect joins the user's campaigns."""
    await push_notices(stream)
    rooms = dict.fromkeys(("beaconfire.v1", "beaconfire.v1.msgpack", "plain", "socketio"), AUTOMATIC)
    async with running_gateway(stream, auth, transport=way.transport, automatic_rooms=rooms) as gateway:
        yield gateway


async def send(gateway: Gateway, type_: str, text: str, *to: str) -> None:
    """Send an event as the publisher service does."""
    metadata = {"timestamp": "2026-11-21T10:00:00Z", "source": "api"}
    event = {"id": text, "type": type_, "version": 1, "payload": {"text": text}, "metadata": metadata}
    await gateway.publisher.publish(broker.SENT, SentEvent(to, json.dumps(event).encode()).encode())


async def session_of(gateway: Gateway, user: str) -> str:
    """The id of the only session of a user."""
    url = f"{gateway.ops_url}/api/v1/ws/users/{user}/clients"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        [client] = (await answer.json())["clients"]
    return str(client["sessionId"])


async def texts(visitor: Visitor, count: int) -> list[str]:
    return [(await visitor.next()).body["payload"]["text"] for _ in range(count)]


@every_way
async def test_client_hears_a_room_that_it_joined_automatically(gateway: Gateway, way: Way) -> None:
    async with way.open(gateway.url, gateway.auth.token("viewer"), ["user:viewer"]) as visitor:
        await gateway.publish(settlement("s1"))
        heard = await visitor.settlements(1)

    assert heard == ["s1"]


@every_way_that_stays
async def test_client_is_sent_an_event_for_several_of_its_rooms_once_and_one_for_its_session_alone(
    gateway: Gateway, way: Way
) -> None:
    async with way.open(gateway.url, gateway.auth.token("viewer"), ["user:viewer"]) as visitor:
        cursor = visitor.cursor
        session = session_room("viewer", await session_of(gateway, "viewer"))
        await send(gateway, "notice", "both", "user:viewer", session)
        await send(gateway, "notice", "other", session_room("viewer", "f" * 16), "user:editor")
        await send(gateway, "notice", "session", session)
        heard = await texts(visitor, 2)

    assert heard == ["both", "session"]
    assert visitor.cursor == cursor


async def test_client_of_the_plain_protocol_has_automatic_rooms_and_is_sent_events(
    stream: NatsServer, auth: FakeAuth
) -> None:
    await push_notices(stream)
    async with (
        running_gateway(stream, auth, automatic_rooms={"plain": [*AUTOMATIC, "user:{sub}"]}) as gateway,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{gateway.url}/ws?token={auth.token('viewer')}") as socket,
    ):
        ack = await socket.receive_json()
        await send(gateway, "notice", "sent", "user:viewer")
        sent = await socket.receive_json()
        await gateway.publish(settlement("s1"))
        event = await socket.receive_json()

    assert set(ack["payload"]["rooms"]) == {ROOM, "user:viewer"}
    assert (sent["type"], sent["payload"]) == ("notice", {"text": "sent"})
    assert event["type"] == "settlement_updated"
