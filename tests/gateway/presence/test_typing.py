"""Who is typing, through gateways on a real broker: who is told, who is not, and for how long."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.presence import typing_users
from beaconfire_gateway.presence.typing_users import RoomsTypingUsers
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.transports.websocket import WebSocket
from tests.client import SocketClient, open_plain, open_socket
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway
from tests.gateway.core import connect, written
from tests.gateway.events import member, publish_as_auth
from tests.gateway.transports.ways import ROOM, WAYS, Heard, Way

CHAT = "workspace:w1/chat:h1"


def told(user: str, *, typing: bool = True, room: str = ROOM) -> dict[str, Any]:
    """The message of the native protocol."""
    return {"type": "typing", "room": room, "userId": user, "typing": typing}


def typings(client: SocketClient) -> list[dict[str, Any]]:
    """What a client was told so far."""
    return [one for one in client.frames if one["type"] == "typing"]


@pytest.fixture(name="pair")
def _pair(pair: tuple[Gateway, Gateway], auth: FakeAuth) -> tuple[Gateway, Gateway]:
    """Everybody is also a member of a workspace with a chat."""
    for user in ("owner", "editor", "viewer"):
        auth.members[user]["workspace:w1"] = "viewer"
    return pair


async def test_others_in_the_room_are_told_on_every_gateway_and_the_sender_is_not(
    pair: tuple[Gateway, Gateway],
) -> None:
    """Another session of the same user is told, too."""
    first, second = pair
    token = first.auth.token
    async with (
        open_socket(first.url) as sender,
        open_socket(first.url) as same_user,
        open_socket(second.url) as far,
        open_socket(second.url) as elsewhere,
    ):
        for client, user, room in (
            (sender, "editor", ROOM),
            (same_user, "editor", ROOM),
            (far, "viewer", ROOM),
            (elsewhere, "viewer", "workspace:w1"),
        ):
            await client.connect(token(user), [room])
        answers = [await sender.ask("typing", room=ROOM), await sender.ask("typing", room=ROOM, typing=False)]
        heard = [[await client.next("typing") for _ in range(2)] for client in (same_user, far)]
        await elsewhere.ask("ping")
        await sender.ask("ping")

    assert [one["success"] for one in answers] == [True, True]
    assert heard == [[told("editor"), told("editor", typing=False)]] * 2
    assert (typings(sender), typings(elsewhere)) == ([], [])


async def test_user_who_says_nothing_more_stops_typing_on_every_gateway(pair: tuple[Gateway, Gateway]) -> None:
    """Even if the connection is lost."""
    first, second = pair
    async with open_socket(first.url) as near, open_socket(second.url) as far:
        await near.connect(first.auth.token("viewer"), [ROOM])
        await far.connect(first.auth.token("owner"), [ROOM])
        async with open_socket(first.url) as sender:
            await sender.connect(first.auth.token("editor"), [ROOM])
            await sender.ask("typing", room=ROOM)
        heard = [[await client.next("typing") for _ in range(2)] for client in (near, far)]

    assert heard == [[told("editor"), told("editor", typing=False)]] * 2


async def test_user_who_types_on_is_told_again_but_not_with_every_message(core: Core) -> None:
    """Clients that come later hear of it, and a client that says it all the time is no burden."""
    now = 100.0
    typing = RoomsTypingUsers(core, clock=lambda: now)
    sender, early = await connect(core, 2)
    room = sender.rooms[ROOM].room
    for _ in range(5):
        typing.set(sender, room, typing=True)
    (late,) = await connect(core, 1, prefix="late")
    typing.set(sender, room, typing=True)
    told_before = [count_typing(one) for one in (early, late)]
    now += typing_users.RENEW_S
    typing.set(sender, room, typing=True)

    assert told_before == [1, 0]
    assert [count_typing(one) for one in (sender, early, late)] == [0, 2, 1]


def count_typing(session: WebSocket) -> int:
    """How often it was told that somebody types."""
    return b"".join(written(session)).count(b'"type":"typing"')


async def test_only_a_session_in_the_room_can_type_there(pair: tuple[Gateway, Gateway]) -> None:
    """Also not one that has left it, or was removed. Membership alone is not enough."""
    first, second = pair
    async with open_socket(second.url) as listener, open_socket(first.url) as client:
        await listener.connect(first.auth.token("viewer"), [ROOM, CHAT])
        await client.connect(first.auth.token("editor"), [ROOM])
        refused = [await client.ask("typing", room=room) for room in (CHAT, "chat:h1", "campaign:c9", "nonsense")]
        await client.ask("unsubscribe", rooms=[ROOM])
        refused.append(await client.ask("typing", room=ROOM))
        await client.ask("subscribe", rooms=[ROOM])
        await publish_as_auth(first, member("editor", None))
        await client.next("room.left")
        refused.append(await client.ask("typing", room=ROOM))
        async with open_socket(first.url) as good:
            await good.connect(first.auth.token("owner"), [ROOM])
            await good.ask("typing", room=ROOM)
            await listener.next("typing")

    assert [one["error"]["code"] for one in refused] == ["forbidden"] * 6
    assert "subscribe to it first" in refused[0]["error"]["message"]
    assert typings(listener) == [told("owner")]


async def test_removed_member_is_not_told_who_types(pair: tuple[Gateway, Gateway]) -> None:
    first, second = pair
    async with open_socket(first.url) as sender, open_socket(second.url) as removed, open_socket(second.url) as stays:
        await sender.connect(first.auth.token("editor"), [ROOM])
        await removed.connect(first.auth.token("viewer"), [ROOM])
        await stays.connect(first.auth.token("owner"), [ROOM])
        await publish_as_auth(first, member("viewer", None))
        await removed.next("room.left")
        await sender.ask("typing", room=ROOM)
        await stays.next("typing")
        await removed.ask("ping")

    assert typings(removed) == []


async def test_room_may_be_named_in_short_unless_two_have_the_name(pair: tuple[Gateway, Gateway]) -> None:
    first, _ = pair
    first.auth.members["editor"]["workspace:w2"] = "viewer"
    async with open_socket(first.url) as sender, open_socket(first.url) as client:
        await sender.connect(first.auth.token("editor"), [CHAT])
        await client.connect(first.auth.token("viewer"), [CHAT])
        answer = await sender.ask("typing", room="chat:h1")
        heard = await client.next("typing")
        await sender.ask("subscribe", rooms=["workspace:w2/chat:h1"])
        ambiguous = await sender.ask("typing", room="chat:h1")

    assert answer["success"]
    assert heard == told("editor", room=CHAT)
    assert ambiguous["error"]["code"] == "bad_request"
    assert CHAT in ambiguous["error"]["message"]


async def test_user_over_the_rate_is_refused_in_all_sessions_until_it_resets(
    stream: NatsServer, auth: FakeAuth
) -> None:
    """Nobody is told of what was refused. Another user is not affected. An operator can give the user more."""
    async with (
        running_gateway(stream, auth, typing_per_minute_per_user=10) as gateway,
        aiohttp.ClientSession() as http,
        open_socket(gateway.url) as one,
        open_socket(gateway.url) as two,
        open_socket(gateway.url) as other,
    ):
        for client, user in ((one, "editor"), (two, "editor"), (other, "viewer")):
            await client.connect(auth.token(user), [ROOM])
        limit = one.frames[0]["limits"]["typingPerMinutePerUser"]
        granted = [await one.ask("typing", room=ROOM, typing=turn % 2 == 0) for turn in range(limit)]
        refused = [await client.ask("typing", room=ROOM) for client in (one, two)]
        not_affected = await other.ask("typing", room=ROOM)
        told = len(typings(other))
        async with http.post(f"{gateway.ops_url}/api/v1/ws/clients/{one.frames[0]['sessionId']}/reset-limits"):
            after_reset = await two.ask("typing", room=ROOM)

    assert all(answer["success"] for answer in granted)
    assert (limit, told) == (10, 10)
    for answer in refused:
        assert answer["error"]["code"] == "too_many"
        assert answer["error"]["retryAfterMs"] > 0
        assert "10 times a minute" in answer["error"]["message"]
    assert not_affected["success"]
    assert after_reset["success"]


async def test_of_a_crowd_only_some_are_told_to_be_typing(stream: NatsServer, auth: FakeAuth) -> None:
    """So a large room does not cost messages by pairs of users. When one stops, there is place for another."""
    users = [f"u{number}" for number in range(typing_users.MAX_SHOWN + 1)]
    auth.members |= {user: {ROOM: "viewer"} for user in users}
    async with (
        running_gateway(stream, auth) as gateway,
        open_socket(gateway.url) as client,
        AsyncExitStack() as stack,
    ):
        await client.connect(auth.token("owner"), [ROOM])
        crowd = []
        for user in users:
            crowd.append(await stack.enter_async_context(open_socket(gateway.url)))
            await crowd[-1].connect(auth.token(user), [ROOM])
        for one in crowd:
            assert (await one.ask("typing", room=ROOM))["success"]
        await client.ask("ping")
        shown = [one["userId"] for one in typings(client) if one["typing"]]
        await crowd[0].ask("typing", room=ROOM, typing=False)
        await crowd[-1].ask("typing", room=ROOM)
        await client.ask("ping")

    assert shown == users[:-1]
    assert typings(client)[-1] == told(users[-1])


async def test_client_that_wants_some_types_hears_of_typing_if_it_names_it(pair: tuple[Gateway, Gateway]) -> None:
    first, _ = pair
    async with open_socket(first.url) as sender, open_socket(first.url) as wants, open_socket(first.url) as other:
        await sender.connect(first.auth.token("editor"), [ROOM])
        await wants.connect(first.auth.token("viewer"), [ROOM], types={ROOM: ["user.typing"]})
        await other.connect(first.auth.token("owner"), [ROOM], types={ROOM: ["settlement_updated"]})
        await sender.ask("typing", room=ROOM)
        heard = await wants.next("typing")
        await other.ask("ping")

    assert heard == told("editor")
    assert typings(other) == []


async def test_messages_of_strangers_about_typing_are_dropped(
    pair: tuple[Gateway, Gateway], stream: NatsServer
) -> None:
    """Even with a gateway's password: of another shape, or with a reply as a consumer's has."""
    first, _ = pair
    liar = "f" * 16
    forged = b'{"room":"campaign:c1","user":"ghost","typing":true}'
    async with open_socket(first.url) as client, open_socket(first.url) as sender:
        await client.connect(first.auth.token("viewer"), [ROOM])
        await sender.connect(first.auth.token("editor"), [ROOM])
        async with connected(stream, "gateway") as stranger:
            for subject, body, reply in (
                (f"presence.{liar}.typing", forged, "reply"),
                ("presence.not-a-gateway.typing", forged, ""),
                (f"presence.{liar}.typing", forged.replace(b"true", b'"true"'), ""),
                (f"presence.{liar}.typing", forged.replace(b"campaign:c1", b"nonsense"), ""),
                (f"presence.{liar}.typing", b"[]", ""),
                (f"presence.{liar}.typing", b"nonsense", ""),
                (f"presence.{liar}.typing", forged.replace(b"ghost", b"real"), ""),
            ):
                await stranger.publish(subject, body, reply=reply)
            await stranger.flush()
            heard = await client.next("typing")

    assert heard == told("real")


@pytest.mark.parametrize("user", ["publisher", "auth", "operator", "setup", "rules-engine"])
async def test_only_gateways_can_say_that_a_user_types(stream: NatsServer, user: str) -> None:
    denied: list[str] = []

    async def note(problem: Exception) -> None:
        denied.append(str(problem).lower())

    async with connected(stream, user) as nc:
        nc._error_cb = note
        await nc.publish(f"presence.{'a' * 16}.typing", b"{}")
        while not denied:
            await nc.flush()

    assert "permissions violation" in denied[0]


# Every way in.


def is_typing(heard: Heard) -> bool:
    """In the words of any way."""
    return heard.kind == "typing" or heard.body.get("type") == "user.typing"


def fields_of(heard: Heard) -> dict[str, Any]:
    """What a client is told, without what differs between ways."""
    fields = heard.body if heard.kind == "typing" else heard.body["payload"]
    return {name: fields[name] for name in ("room", "userId", "typing")}


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_clients_of_every_way_are_told(stream: NatsServer, auth: FakeAuth, way: Way) -> None:
    async with (
        running_gateway(stream, auth, transport=way.transport) as gateway,
        running_gateway(stream, auth) as other,
        open_socket(other.url) as sender,
        way.open(gateway.url, auth.token("viewer")) as visitor,
    ):
        await sender.connect(auth.token("editor"), [ROOM])
        waiting = asyncio.create_task(visitor.find(is_typing))
        while not (await gateway.stats())["clients"]:
            pass
        await sender.ask("typing", room=ROOM)
        heard = await waiting

    assert fields_of(heard) == {"room": ROOM, "userId": "editor", "typing": True}


NATIVE = json.dumps({"type": "typing", "id": 9, "room": ROOM})
SAID = {
    "beaconfire.v1": NATIVE,
    "beaconfire.v1.msgpack": NATIVE,
    "plain": json.dumps({"type": "user.typing", "payload": {"room": ROOM, "typing": True}}),
    "socketio": f'42["typing.start",{json.dumps({"room": ROOM})}]',
}


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_clients_of_every_way_can_say_it(stream: NatsServer, auth: FakeAuth, way: Way) -> None:
    async with (
        running_gateway(stream, auth, transport=way.transport) as gateway,
        running_gateway(stream, auth) as other,
        open_socket(other.url) as client,
        way.open(gateway.url, auth.token("editor")) as visitor,
    ):
        await client.connect(auth.token("viewer"), [ROOM])
        await visitor.send(SAID[way.dialect])
        heard = await client.next("typing")

    assert heard == told("editor")


async def test_plain_clients_of_a_chat_speak_as_the_events_of_services_do(pair: tuple[Gateway, Gateway]) -> None:
    """They name the chat by its id, and are told its ids. The answer comes as others do."""
    first, second = pair
    token, query = first.auth.token, {"rooms": CHAT}
    async with (
        open_plain(first.url, token("editor"), query=query) as sender,
        open_plain(second.url, token("viewer"), query=query) as client,
    ):
        await client.next("connection.ack")
        await sender.next("connection.ack")
        for payload in (
            {"chatId": "h1"},
            {"targetKind": "chat", "targetId": "h1", "typing": False},
            {"room": CHAT, "userId": "forged"},
        ):
            await sender.socket.send_json({"type": "user.typing", "payload": payload, "userId": "forged"})
        answers = [await sender.next("typing.ack", "error") for _ in range(3)]
        heard = [await client.next("user.typing") for _ in range(3)]
        await sender.socket.send_json({"type": "user.typing", "payload": {"typing": True}, "id": 4})
        refused = await sender.next("error")

    assert [one["type"] for one in answers] == ["typing.ack"] * 3
    assert [one["payload"]["typing"] for one in heard] == [True, False, True]
    assert {one["userId"] for one in heard} == {"editor"}
    assert heard[0]["payload"] == {
        "workspaceId": "w1",
        "chatId": "h1",
        "targetKind": "chat",
        "targetId": "h1",
        "room": CHAT,
        "userId": "editor",
        "typing": True,
    }
    assert (refused["id"], refused["payload"]["code"]) == (4, "bad_request")
