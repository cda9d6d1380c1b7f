"""Sessions and membership through a real gateway: commands, rooms, tokens, roles, resuming, lagging."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit import broker
from beaconfire_kit.events.user import AccessRevoked
from beaconfire_kit.roles import Role
from tests.client import Closed, open_socket
from tests.conftest import connected
from tests.cursors import cursor_of
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, on_both_transports, running_gateway, settlement
from tests.gateway.events import fence, member, publish_as_auth
from tests.websocket import client_frame, raw_socket


@on_both_transports
async def test_subscribe_and_unsubscribe(gateway: Gateway) -> None:
    """Each room is answered by itself; joining twice and leaving what was not joined are success."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"))
        joined = await client.ask("subscribe", rooms=["campaign:c1", "campaign:c1", "campaign:c2", "nonsense"])
        again = await client.ask("subscribe", rooms=["campaign:c1"])
        left = await client.ask("unsubscribe", rooms=["campaign:c1", "campaign:c7"])
        await gateway.publish(settlement())
        await client.ask("subscribe", rooms=["campaign:c1"])
        events = await fence(gateway, client)

    assert {room: answer["success"] for room, answer in joined["rooms"].items()} == {
        "campaign:c1": True,
        "campaign:c2": False,
        "nonsense": False,
    }
    assert again["rooms"] == {"campaign:c1": {"success": True}}
    assert left["rooms"] == {"campaign:c1": {"success": True}, "campaign:c7": {"success": True}}
    assert len(events) == 1


async def test_reply_moves_the_cursor(gateway: Gateway) -> None:
    """What was published before a room was joined does not come when the client resumes from the reply's cursor."""
    async with open_socket(gateway.url) as client, open_socket(gateway.url) as witness:
        await witness.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        ack = await client.connect(gateway.auth.token("viewer"))
        await gateway.publish(settlement())
        await witness.next("event")
        reply = await client.ask("subscribe", rooms=["campaign:c1"])
        after = await gateway.publish(settlement())
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"], cursor=reply["cursor"])
        event = await client.next("event")

    assert ack["cursor"] != reply["cursor"]
    assert event["offset"] == after


async def test_two_names_of_one_room(gateway: Gateway) -> None:
    """Leaving one name of a room keeps the other; the event comes once."""
    gateway.auth.answer = lambda question: {
        "version": 1,
        "rooms": {name: {"allowed": True, "root": "campaign:c1", "role": "viewer"} for name in question["rooms"]},
    }
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["settlement:fence", "campaign:c1/settlement:fence"])
        both = await fence(gateway, client)
        await client.ask("unsubscribe", rooms=["settlement:fence"])
        one = await fence(gateway, client)

    assert (len(both), len(one)) == (1, 1)


@pytest.mark.parametrize(
    ("text", "code", "echoed"),
    [
        ("{", "bad_request", None),
        ("[]", "bad_request", None),
        ('"x"', "bad_request", None),
        ("null", "bad_request", None),
        ("{}", "bad_request", None),
        ('{"id":7}', "bad_request", 7),
        ('{"type":"nonsense","id":"a"}', "unknown_type", "a"),
        ('{"type":"subscribe","id":3}', "bad_request", 3),
        ('{"type":"subscribe","id":3,"rooms":"campaign:c1"}', "bad_request", 3),
        ('{"type":"subscribe","id":3,"rooms":[1]}', "bad_request", 3),
        ('{"type":"ping","id":{}}', "bad_request", None),
        ('{"type":"ping","id":1e400}', "bad_request", None),
        ('{"type":["ping"],"id":4}', "bad_request", 4),
        ('{"type":"connect","id":5,"token":"x"}', "bad_request", 5),
        ("[" * 10_000, "bad_request", None),
        ('{"type":"subscribe","id":6,"rooms":' + json.dumps(["campaign:c1"] * 101) + "}", "bad_request", 6),
    ],
)
async def test_malformed_message(gateway: Gateway, text: str, code: str, echoed: Any) -> None:
    """A malformed message is answered with an error that names it, and the connection stays."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"))
        await client.socket.send_str(text)
        error = await client.next("error")
        pong = await client.ask("ping")

    assert (error["code"], error.get("id")) == (code, echoed)
    assert pong["success"] is True


@on_both_transports
async def test_answers_keep_their_order(gateway: Gateway) -> None:
    """A ping behind a subscribe that auth is slow to answer is answered behind it."""
    slow = asyncio.Event()
    gateway.auth.before_answer = None
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"))
        gateway.auth.before_answer = lambda: slow.wait()  # type: ignore[assignment]
        subscribe = await client.send("subscribe", rooms=["campaign:c1"])
        ping = await client.send("ping")
        leave = await client.send("unsubscribe", rooms=["campaign:c1"])
        slow.set()
        answers = [(await client.next("reply"))["id"] for _ in range(3)]

    assert answers == [subscribe, ping, leave]


async def test_flood_behind_a_question(stream: NatsServer, auth: FakeAuth) -> None:
    """More than a hundred messages behind one that waits for auth close the session with 4429."""
    async with running_gateway(stream, auth, messages_per_minute=1000) as gateway, open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"))
        gateway.auth.answer = lambda _question: None
        await client.send("subscribe", rooms=["campaign:c1"])
        for _ in range(101):
            await client.send("ping")
        end = await client.closed()

    assert end.code == 4429


async def test_large_messages_behind_a_question(gateway: Gateway) -> None:
    """Nor may those that wait be larger than 64 KiB together: a client's own messages are no way into our memory."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"))
        gateway.auth.answer = lambda _question: None
        for _ in range(6):
            await client.send("subscribe", rooms=[f"campaign:{'x' * 64}/settlement:{'x' * 64}"] * 100)
        end = await client.closed()

    assert (end.code, end.reason) == (4429, "over 65536 bytes sent without an answer")


async def test_too_many_rooms(stream: NatsServer, auth: FakeAuth) -> None:
    """Rooms beyond the limit are refused one by one; the first ones stay."""
    async with running_gateway(stream, auth, max_rooms=2) as gateway, open_socket(gateway.url) as client:
        rooms = [f"campaign:c1/settlement:s{number}" for number in range(3)]
        ack = await client.connect(auth.token("viewer"), rooms)

    assert [ack["rooms"][room]["success"] for room in rooms] == [True, True, False]
    assert ack["rooms"][rooms[2]]["error"]["code"] == "too_many"


async def test_auth_away(gateway: Gateway) -> None:
    """With auth silent a new room is refused with a retryable error; rooms already open go on."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        gateway.auth.answer = lambda _question: None
        refused = await client.ask("subscribe", rooms=["campaign:c1/settlement:s1"])
        events = await fence(gateway, client)

    assert refused["success"] is False
    assert refused["error"]["code"] == "unavailable"
    assert refused["error"]["retryAfterMs"] > 0
    assert len(events) == 1


async def test_connect_with_auth_away(gateway: Gateway) -> None:
    """Who connects while auth is silent is told to come back: 4503."""
    gateway.auth.answer = lambda _question: None
    async with open_socket(gateway.url) as client:
        with pytest.raises(Closed) as end:
            await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])

    assert end.value.code == 4503


@on_both_transports
async def test_member_removed(gateway: Gateway) -> None:
    """A member taken out leaves every room of the root at once, hears why, and nothing that came after."""
    async with open_socket(gateway.url) as client, open_socket(gateway.url) as owner:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1", "campaign:c1/settlement:s1", "user:viewer"])
        await owner.connect(gateway.auth.token("owner"), ["campaign:c1"])
        before = await gateway.publish(settlement())
        gateway.auth.members["viewer"], gateway.auth.version = {}, 2
        removed = await publish_as_auth(gateway, member("viewer", None))
        after = await gateway.publish(settlement())
        left = [await client.next("room.left") for _ in range(2)]
        again = await client.ask("subscribe", rooms=["campaign:c1"])
        await owner.next("event")
        heard_by_owner = [(await owner.next("event"))["offset"] for _ in range(2)]

    assert [(frame["room"], frame["reason"]) for frame in left] == [
        ("campaign:c1", "membership_removed"),
        ("campaign:c1/settlement:s1", "membership_removed"),
    ]
    assert [frame["offset"] for frame in client.frames if frame["type"] == "event"] == [before]
    assert again["rooms"]["campaign:c1"]["error"]["code"] == "forbidden"
    assert heard_by_owner == [removed, after]


async def test_role_changed(gateway: Gateway) -> None:
    """A new role is told, keeps the rooms, and decides from then on what is heard."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        hidden = await gateway.publish(settlement(), audience=("editor",))
        await publish_as_auth(gateway, member("viewer", Role.EDITOR))
        shown = await gateway.publish(settlement(), audience=("editor",))
        changed = await client.next("role.changed")
        offsets = [event["offset"] for event in await fence(gateway, client)]

    assert changed == {"type": "role.changed", "root": "campaign:c1", "role": "editor"}
    assert hidden not in offsets
    assert shown in offsets


async def test_allow_overtaken_by_a_removal(gateway: Gateway) -> None:
    """An allow that was on its way while the member was removed is asked again, and refused."""
    on_its_way, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        gateway.auth.before_answer = None
        on_its_way.set()
        await go_on.wait()

    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"))
        gateway.auth.before_answer = hold
        asked = await client.send("subscribe", rooms=["campaign:c1"])
        await on_its_way.wait()
        gateway.auth.members["viewer"], gateway.auth.version = {}, 2
        removed = await publish_as_auth(gateway, member("viewer", None))
        while f"beaconfire_gateway_position {float(removed)}" not in await gateway.metrics():
            pass
        go_on.set()
        answer = await client.next("reply")

    assert answer["id"] == asked
    assert answer["rooms"]["campaign:c1"]["error"]["code"] == "forbidden"


@pytest.mark.parametrize("kind", ["connect", "subscribe"])
async def test_a_remembered_allow_overtaken_by_a_removal(gateway: Gateway, kind: str) -> None:
    """A member who was removed while auth was asked about another room does not join by what was remembered before."""
    token = gateway.auth.token("viewer")
    on_its_way, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        gateway.auth.before_answer = None
        on_its_way.set()
        await go_on.wait()

    async with open_socket(gateway.url) as first, open_socket(gateway.url) as client:
        await first.connect(token, ["campaign:c1"])
        if kind == "subscribe":
            await client.connect(token)
        gateway.auth.before_answer = hold
        rooms = ["campaign:c1", "campaign:unknown"]
        await client.send(kind, rooms=rooms, **({"token": token} if kind == "connect" else {}))
        await on_its_way.wait()
        gateway.auth.members["viewer"], gateway.auth.version = {}, 2
        removed = await publish_as_auth(gateway, member("viewer", None))
        while f"beaconfire_gateway_position {float(removed)}" not in await gateway.metrics():
            pass
        go_on.set()
        answer = await client.next("connection.ack" if kind == "connect" else "reply")

    assert answer["rooms"]["campaign:c1"]["error"]["code"] == "forbidden"


@on_both_transports
async def test_access_revoked(gateway: Gateway) -> None:
    """Signed out everywhere: sockets on an older token end with 4401, and that token opens no new one."""
    token = gateway.auth.token("viewer")
    async with open_socket(gateway.url) as client:
        await client.connect(token, ["campaign:c1"])
        await publish_as_auth(
            gateway,
            AccessRevoked(
                user_id="viewer",
                issued_before="2100-01-01T00:00:00Z",  # type: ignore[arg-type]
                reason="signed_out_everywhere",
                membership_version=2,
            ),
        )
        end = await client.closed()
    async with open_socket(gateway.url) as client:
        with pytest.raises(Closed) as refused:
            await client.connect(token, ["campaign:c1"])

    assert (end.code, refused.value.code) == (4401, 4401)


async def test_revoked_in_auth_only(gateway: Gateway) -> None:
    """A token that auth calls revoked opens no connection, though its signature is good."""
    gateway.auth.revoked.add("viewer")
    async with open_socket(gateway.url) as client:
        with pytest.raises(Closed) as refused:
            await client.connect(gateway.auth.token("viewer"))

    assert refused.value.code == 4401


@on_both_transports
async def test_token_runs_out(gateway: Gateway) -> None:
    """A session is warned before its token ends, and closed with 4401 within 5 s of its end."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer", ttl_s=10))
        warning = await client.next("token.expiring")
        end = await client.closed()

    assert 0 < warning["inS"] <= 5
    assert end.code == 4401


async def test_refresh_in_place(gateway: Gateway) -> None:
    """A fresh token is taken over with rooms and events untouched; the old one's end no longer matters."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer", ttl_s=3), ["campaign:c1"])
        await client.next("token.expiring")
        answer = await client.ask("refresh", token=gateway.auth.token("viewer", ttl_s=14))
        foreign = await client.ask("refresh", token=gateway.auth.token("owner"))
        bad = await client.ask("refresh", token="nonsense")
        warning = await client.next("token.expiring")  # the new one's: the old one has ended long before
        events = await fence(gateway, client)

    assert answer["success"] is True
    assert 0 < warning["inS"] <= 7
    assert (foreign["error"]["code"], bad["error"]["code"]) == ("token_invalid", "token_invalid")
    assert len(events) == 1


async def test_position(stream: NatsServer, auth: FakeAuth) -> None:
    """An idle session's cursor moves with the heartbeat."""
    async with running_gateway(stream, auth, heartbeat_s=1) as gateway, open_socket(gateway.url) as client:
        ack = await client.connect(auth.token("viewer"), ["campaign:c1"])
        first, second = await client.next("position"), await client.next("position")

    offsets = [cursor_of(frame["cursor"]).offset for frame in (ack, first, second)]
    assert offsets == sorted(offsets)
    assert offsets[2] > offsets[0]


@on_both_transports
async def test_resume(gateway: Gateway) -> None:
    """A client that comes back with its cursor gets what it missed of its rooms, in order, once, then live events."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        cursor = str(replace(cursor_of(client.ack["cursor"]), offset=await gateway.publish(settlement())))
    missed = [await gateway.publish(settlement(f"s{number}")) for number in range(50)]
    await gateway.publish(settlement("s1", "c2"))
    async with open_socket(gateway.url) as client:
        ack = await client.connect(gateway.auth.token("viewer"), ["campaign:c1"], cursor=cursor)
        live = await gateway.publish(settlement())
        heard = [event["offset"] for event in await client.events(51)]

    assert ack["cursor"] == cursor
    assert heard == [*missed, live]
    assert "resync" not in [frame["type"] for frame in client.frames]


async def test_requests_behind_what_was_missed(gateway: Gateway) -> None:
    """What a client asks for while it is caught up is answered once it is level: behind everything it missed."""
    token = gateway.auth.token("viewer")
    async with open_socket(gateway.url) as client:
        cursor = (await client.connect(token, ["campaign:c1"]))["cursor"]
    missed = [await gateway.publish(settlement(f"s{number}")) for number in range(3)]
    async with open_socket(gateway.url) as client:
        await client.send("connect", token=token, rooms=["campaign:c1"], cursor=cursor)
        await client.send("ping")
        asked = await client.send("subscribe", rooms=["campaign:c1/settlement:s1"])
        while (reply := await client.next("reply"))["id"] != asked:
            pass

    heard = [frame.get("offset", frame["type"]) for frame in client.frames if frame["type"] != "position"]
    assert reply["success"] is True
    assert heard == ["connection.ack", *missed, "reply", "reply"]


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [
        ("otherepoch:5", "epoch_changed"),
        ("nonsense", "epoch_changed"),
        (":", "epoch_changed"),
        ("{epoch}:", "epoch_changed"),
        ("{epoch}:-1", "epoch_changed"),
        ("{epoch}:1e3", "epoch_changed"),
        ("{epoch}:999999999999999999999999", "ahead"),
    ],
)
async def test_cursor_of_no_use(gateway: Gateway, cursor: str, reason: str) -> None:
    """A cursor that cannot be resumed from is answered with `resync` for the rooms: never a silent skip."""
    async with open_socket(gateway.url) as client:
        epoch = cursor_of((await client.connect(gateway.auth.token("viewer")))["cursor"]).epoch
    async with open_socket(gateway.url) as client:
        ack = await client.connect(
            gateway.auth.token("viewer"), ["campaign:c1"], cursor=cursor.replace("{epoch}", epoch)
        )
        resync = await client.next("resync")
        events = await fence(gateway, client)

    assert (resync["rooms"], resync["reason"]) == (["campaign:c1"], reason)
    assert cursor_of(resync["cursor"]).epoch == cursor_of(ack["cursor"]).epoch == epoch
    assert len(events) == 1


@on_both_transports
async def test_slow_client(stream: NatsServer, auth: FakeAuth) -> None:
    """A client that does not read catches up from the ring when it does: every event, once, in order; the others
    notice nothing."""
    async with (
        running_gateway(stream, auth, max_buffer_bytes=16_384) as gateway,
        raw_socket(gateway.url) as slow,
        open_socket(gateway.url) as quick,
    ):
        await quick.connect(auth.token("owner"), ["campaign:c1"])
        hello = {"type": "connect", "id": 1, "token": auth.token("viewer"), "rooms": ["campaign:c1"]}
        slow.write(client_frame(json.dumps(hello).encode()))
        await slow.frame()
        fields = ["x" * 1000] * 60
        offsets = [await gateway.publish(settlement(f"s{number}", "c1", *fields)) for number in range(200)]
        heard = [event["offset"] for event in await quick.events(200)]
        lagging = await gateway.metrics()
        heard_slowly: list[int] = []
        while len(heard_slowly) < 200:
            frame = json.loads((await slow.frame())[1])
            if frame["type"] == "event":
                heard_slowly.append(frame["offset"])

    assert "beaconfire_gateway_slow_sessions_total 0.0" not in lagging
    assert heard == offsets
    assert heard_slowly == offsets


async def test_degraded(gateway: Gateway) -> None:
    """With the broker gone sockets stay and are told; with it back they are told, and miss nothing."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        gateway.server.kill()
        await client.next("degraded")
        gateway.server.start()
        offset = await gateway.publish(settlement())
        while {"event", "live"} - {frame["type"] for frame in client.frames}:
            await client.next("event", "live")
        heard = [frame["offset"] for frame in client.frames if frame["type"] == "event"]

    assert heard == [offset]


async def test_connecting_while_degraded(gateway: Gateway) -> None:
    """A client that connects while the broker is gone is told so in its ack, and told when events flow again; one that
    connects before or after is told that all is well."""
    token = gateway.auth.token("viewer")
    async with (
        open_socket(gateway.url) as before,
        open_socket(gateway.url) as during,
        open_socket(gateway.url) as resuming,
        open_socket(gateway.url) as after,
    ):
        ack = await before.connect(token, ["campaign:c1"])
        gateway.server.kill()
        await before.next("degraded")
        acks = [
            ack,
            await during.connect(token, ["campaign:c1"]),
            await resuming.connect(token, ["campaign:c1"], cursor=ack["cursor"]),
        ]
        gateway.server.start()
        for client in (before, during, resuming):
            await client.next("live")
        acks.append(await after.connect(token, ["campaign:c1"]))
        offset = await gateway.publish(settlement())
        heard = [(await client.next("event"))["offset"] for client in (before, during, resuming, after)]

    assert [one["degraded"] for one in acks] == [False, True, True, False]
    assert heard == [offset] * 4
    assert "degraded" not in [frame["type"] for frame in (*during.frames, *resuming.frames, *after.frames)]


async def test_another_stream(gateway: Gateway) -> None:
    """A stream that was deleted and made again: every session is told to reload, and goes on in the new epoch."""
    async with open_socket(gateway.url) as client, connected(gateway.server, "setup") as setup:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        for _ in range(10):
            await gateway.publish(settlement())
        await setup.request("$JS.API.STREAM.DELETE.EVENTS", b"")
        epoch = await broker.declare_stream(setup)
        resync = await client.next("resync")
        offset = await gateway.publish(settlement())
        while (event := await client.next("event"))["offset"] != offset:
            pass

    assert resync["reason"] == "epoch_changed"
    assert resync["rooms"] == ["campaign:c1"]
    assert cursor_of(resync["cursor"]).epoch == epoch
    assert event["rooms"] == ["campaign:c1", "campaign:c1/settlement:s1"]


async def test_goaway(stream: NatsServer, auth: FakeAuth) -> None:
    """A gateway that stops tells each session when to go, serves it until it does, and closes who stays with 4503."""
    running = running_gateway(stream, auth, stop_timeout_s=2)
    gateway = await running.__aenter__()
    async with open_socket(gateway.url) as goes, open_socket(gateway.url) as stays:
        for client in (goes, stays):
            await client.connect(auth.token("viewer"), ["campaign:c1"])
        stopping = asyncio.create_task(running.__aexit__(None, None, None))
        told = [await client.next("goaway") for client in (goes, stays)]
        offset = await gateway.publish(settlement())
        heard = [(await client.next("event"))["offset"] for client in (goes, stays)]
        await goes.socket.close()
        end = await stays.closed()
        await stopping

    assert [frame["withinMs"] for frame in told] == [2000, 2000]
    assert sorted(frame["afterMs"] for frame in told) == [0, 500]
    assert heard == [offset, offset]
    assert end.code == 4503


async def test_an_empty_gateway_stops_at_once(stream: NatsServer, auth: FakeAuth) -> None:
    """With nobody connected, and no load balancer that goes on sending clients, there is nothing to wait for."""
    async with (
        running_gateway(stream, auth, stop_timeout_s=300, stop_accept_s=0) as gateway,
        open_socket(gateway.url) as client,
    ):
        await client.connect(auth.token("viewer"))
        await client.socket.close()
        while (await gateway.stats())["clients"]:
            pass
