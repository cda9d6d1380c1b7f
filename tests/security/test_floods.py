"""T14 and T15: too many connections, messages and rooms are clearly refused while others are served."""

import asyncio
import json
from contextlib import AsyncExitStack

import aiohttp

from beaconfire.nats_server import NatsServer
from tests.client import SUBPROTOCOL, Closed, SocketClient, answering, open_socket
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.websocket import handshake, status_of

OTHER_ADDRESS = "127.0.0.2"


async def _elsewhere(stack: AsyncExitStack, gateway: Gateway, user: str) -> SocketClient:
    """A well-behaved client at another address."""
    connector = aiohttp.TCPConnector(local_addr=(OTHER_ADDRESS, 0))
    http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    socket = await stack.enter_async_context(http.ws_connect(f"{gateway.url}/ws", protocols=[SUBPROTOCOL]))
    client = SocketClient(socket)
    await client.connect(gateway.auth.token(user), ["campaign:c1"])
    return client


async def test_twenty_first_connection_of_a_user_is_closed_with_4429(gateway: Gateway) -> None:
    """T14: another user still gets in."""
    async with AsyncExitStack() as stack:
        codes = []
        for _ in range(25):
            client = await stack.enter_async_context(open_socket(gateway.url))
            try:
                await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
                await stack.enter_async_context(answering(client))
                codes.append(0)
            except Closed as end:
                codes.append(end.code or 1006)
        other = await stack.enter_async_context(open_socket(gateway.url))
        ack = await other.connect(gateway.auth.token("owner"), ["campaign:c1"])

    assert codes == [0] * 20 + [4429] * 5
    assert ack["type"] == "connection.ack"


async def test_connections_of_an_address_are_limited_with_4429_and_429(stream: NatsServer, auth: FakeAuth) -> None:
    """T14: sockets without `connect` have a limit of their own.

    Another address gets in all the while, and hears events.
    """
    limits = {"max_sessions_per_address": 5, "max_connecting_per_address": 4}
    async with running_gateway(stream, auth, **limits) as gateway, AsyncExitStack() as stack:
        watching = await _elsewhere(stack, gateway, "viewer")
        codes = []
        for number in range(8):
            client = await stack.enter_async_context(open_socket(gateway.url))
            try:
                await client.connect(auth.token(f"user{number}"))
                await stack.enter_async_context(answering(client))
                codes.append(0)
            except Closed as end:
                codes.append(end.code or 1006)
        silent = [await stack.enter_async_context(open_socket(gateway.url)) for _ in range(4)]
        refused = await status_of(gateway.url, handshake(gateway.url))
        late = await _elsewhere(stack, gateway, "owner")
        offset = await gateway.publish(settlement())
        heard = [(await client.next("event"))["offset"] for client in (watching, late)]

    assert codes == [0] * 5 + [4429] * 3
    assert len(silent) == 4
    assert refused == 429
    assert heard == [offset, offset]


async def test_sockets_that_never_send_connect_are_closed_with_4408_and_freed(
    stream: NatsServer, auth: FakeAuth
) -> None:
    """T14: their places are free again."""
    limits = {"max_connecting_per_address": 5, "connect_timeout_s": 1}
    async with running_gateway(stream, auth, **limits) as gateway:
        for _ in range(3):
            async with AsyncExitStack() as stack:
                silent = [await stack.enter_async_context(open_socket(gateway.url)) for _ in range(5)]
                ends = [(await client.closed()).code for client in silent]
            assert ends == [4408] * 5


async def test_flood_of_messages_is_refused_and_then_closed_with_4429(gateway: Gateway) -> None:
    """T15: other clients hear and send as before."""
    async with open_socket(gateway.url) as flooding, open_socket(gateway.url) as other:
        await other.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        await flooding.connect(gateway.auth.token("editor"), ["campaign:c1"])
        for number in range(300):
            await flooding.socket.send_str(json.dumps({"type": "ping", "id": number}))
        offsets = [await gateway.publish(settlement(f"s{number}")) for number in range(5)]
        heard = [(await other.next("event"))["offset"] for _ in offsets]
        pong = await other.ask("ping")
        end = await flooding.closed()
    refused = [frame for frame in flooding.frames if frame["type"] == "error"]
    answered = [frame for frame in flooding.frames if frame["type"] == "reply"]

    assert end.code == 4429
    assert len(answered) == 99  # connect was the first of a hundred
    assert {frame["code"] for frame in refused} == {"too_many"}
    assert all(frame["retryAfterMs"] > 0 and "id" in frame for frame in refused)
    assert heard == offsets
    assert pong["success"] is True


async def test_ten_thousand_rooms_give_a_session_a_hundred_and_refusals(gateway: Gateway) -> None:
    """T15: the rest is refused room by room, then as a whole with a retry time.

    The broker hears of none, and the session's rooms keep working.
    """
    rooms = [f"campaign:c1/settlement:s{number}" for number in range(10_000)]
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"))
        asked = len(gateway.auth.asked)
        answers = [await client.ask("subscribe", rooms=rooms[start : start + 100]) for start in range(0, 9_000, 100)]
        await gateway.publish(settlement("s7"))
        event = await client.next("event")
    whole = [answer for answer in answers if answer["success"]]
    refused = [answer for answer in answers if not answer["success"]]
    joined = [name for answer in whole for name, room in answer["rooms"].items() if room["success"]]
    codes = {room["error"]["code"] for answer in whole for room in answer["rooms"].values() if not room["success"]}

    assert joined == rooms[:100]
    assert codes == {"too_many"}
    assert len(whole) == 6  # six hundred a minute
    assert all(answer["error"]["code"] == "too_many" and answer["error"]["retryAfterMs"] > 0 for answer in refused)
    assert len(gateway.auth.asked) - asked <= len(whole)
    assert event["event"]["payload"]["settlementId"] == "s7"


async def test_joining_a_room_twice_and_leaving_an_unknown_one_have_no_effect(gateway: Gateway) -> None:
    """T15: the room's events come once."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"] * 50)
        again = await client.ask("subscribe", rooms=["campaign:c1"] * 100)
        unknown = await client.ask("unsubscribe", rooms=["campaign:c9", "nonsense", "", "*"])
        too_many = await client.ask("unsubscribe", rooms=["x:y"] * 101)
        first, second = await gateway.publish(settlement("a")), await gateway.publish(settlement("b"))
        heard = [(await client.next("event"))["offset"] for _ in range(2)]

    assert again["rooms"] == {"campaign:c1": {"success": True}}
    assert unknown["success"] is True
    assert too_many["code"] == "bad_request"
    assert heard == [first, second]


async def test_sockets_that_come_and_go_quickly_leave_nothing_behind(gateway: Gateway) -> None:
    """T14: no session, no room and no place stays taken."""

    async def come_and_go() -> None:
        async with open_socket(gateway.url) as client:
            await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])

    for _ in range(10):
        await asyncio.gather(*(come_and_go() for _ in range(15)))
    async with asyncio.timeout(15), aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{gateway.ops_url}/api/v1/ws/stats") as answer:
                stats = await answer.json()
            if not stats["clients"]:
                break

    assert (stats["clients"], stats["users"], stats["rooms"]) == (0, 0, 0)
