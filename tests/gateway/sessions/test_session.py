"""Sessions and membership through a real gateway: commands, rooms, tokens, roles, resuming, catching up."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.events.user import AccessRevoked
from beaconfire_kit.roles import Role
from beaconfire_kit.stream_setup import declare_stream
from tests.client import Closed, open_socket
from tests.conftest import connected
from tests.cursors import cursor_of
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, on_both_transports, running_gateway, settlement
from tests.gateway.events import fence, member, publish_as_auth
from tests.websocket import client_frame, raw_socket


@on_both_transports
async def test_subscribe_and_unsubscribe_answer_each_room_and_can_be_repeated(gateway: Gateway) -> None:
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


async def test_ack_names_the_gateway_only_if_it_has_a_name(stream: NatsServer, auth: FakeAuth) -> None:
    acks = []
    for name in ("", "north-1"):
        async with running_gateway(stream, auth, gateway_name=name) as gateway, open_socket(gateway.url) as client:
            acks.append(await client.connect(auth.token("viewer")))

    assert [ack.get("gateway") for ack in acks] == [None, "north-1"]


async def test_resume_from_a_replys_cursor_skips_events_from_before_the_subscription(gateway: Gateway) -> None:
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


async def test_leaving_one_name_of_a_room_keeps_the_other_and_events_come_once(gateway: Gateway) -> None:
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
async def test_malformed_message_gets_an_error_with_its_id_and_the_session_stays(
    gateway: Gateway, text: str, code: str, echoed: Any
) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"))
        await client.socket.send_str(text)
        error = await client.next("error")
        pong = await client.ask("ping")

    assert (error["code"], error.get("id")) == (code, echoed)
    assert pong["success"] is True


@on_both_transports
async def test_ping_behind_a_slow_subscribe_is_answered_behind_it(gateway: Gateway) -> None:
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


async def test_more_than_a_hundred_messages_behind_a_question_to_auth_close_the_session_with_4429(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with running_gateway(stream, auth, messages_per_minute=1000) as gateway, open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"))
        gateway.auth.answer = lambda _question: None
        await client.send("subscribe", rooms=["campaign:c1"])
        for _ in range(101):
            await client.send("ping")
        end = await client.closed()

    assert end.code == 4429


async def test_messages_over_64_kib_behind_a_question_to_auth_close_the_session(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"))
        gateway.auth.answer = lambda _question: None
        for _ in range(6):
            await client.send("subscribe", rooms=[f"campaign:{'x' * 64}/settlement:{'x' * 64}"] * 100)
        end = await client.closed()

    assert (end.code, end.reason) == (4429, "over 65536 bytes sent without an answer")


async def test_rooms_beyond_the_limit_are_refused_one_by_one_and_the_first_stay(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with running_gateway(stream, auth, max_rooms=2) as gateway, open_socket(gateway.url) as client:
        rooms = [f"campaign:c1/settlement:s{number}" for number in range(3)]
        ack = await client.connect(auth.token("viewer"), rooms)

    assert [ack["rooms"][room]["success"] for room in rooms] == [True, True, False]
    assert ack["rooms"][rooms[2]]["error"]["code"] == "too_many"


async def test_new_room_gets_a_retryable_error_while_auth_is_silent_and_open_rooms_go_on(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        gateway.auth.answer = lambda _question: None
        refused = await client.ask("subscribe", rooms=["campaign:c1/settlement:s1"])
        events = await fence(gateway, client)

    assert refused["success"] is False
    assert refused["error"]["code"] == "unavailable"
    assert refused["error"]["retryAfterMs"] > 0
    assert len(events) == 1


async def test_connect_is_closed_with_4503_while_auth_is_silent(gateway: Gateway) -> None:
    gateway.auth.answer = lambda _question: None
    async with open_socket(gateway.url) as client:
        with pytest.raises(Closed) as end:
            await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])

    assert end.value.code == 4503


@on_both_transports
async def test_removed_member_leaves_every_room_of_the_root_at_once_with_a_reason(gateway: Gateway) -> None:
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


async def test_changed_role_is_told_keeps_the_rooms_and_decides_what_is_heard_next(gateway: Gateway) -> None:
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


async def test_permission_overtaken_by_a_removal_is_asked_again_and_refused(gateway: Gateway) -> None:
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
async def test_remembered_permission_overtaken_by_a_removal_is_not_used(gateway: Gateway, kind: str) -> None:
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
async def test_signing_out_everywhere_closes_sockets_with_4401_and_refuses_their_token(gateway: Gateway) -> None:
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


async def test_token_that_auth_calls_revoked_is_refused_despite_its_good_signature(gateway: Gateway) -> None:
    gateway.auth.revoked.add("viewer")
    async with open_socket(gateway.url) as client:
        with pytest.raises(Closed) as refused:
            await client.connect(gateway.auth.token("viewer"))

    assert refused.value.code == 4401


@on_both_transports
async def test_session_is_warned_before_its_token_expires_and_closed_with_4401_after(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer", ttl_s=10))
        warning = await client.next("token.expiring")
        end = await client.closed()

    assert 0 < warning["inS"] <= 5
    assert end.code == 4401


async def test_refreshed_token_keeps_rooms_and_events_beyond_the_old_tokens_end(gateway: Gateway) -> None:
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


async def test_position_of_an_idle_session_rises_with_the_heartbeat(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth, heartbeat_s=1) as gateway, open_socket(gateway.url) as client:
        ack = await client.connect(auth.token("viewer"), ["campaign:c1"])
        first, second = await client.next("position"), await client.next("position")

    offsets = [cursor_of(frame["cursor"]).offset for frame in (ack, first, second)]
    assert offsets == sorted(offsets)
    assert offsets[2] > offsets[0]


@on_both_transports
async def test_resuming_client_gets_what_it_missed_once_and_in_order_and_then_live_events(gateway: Gateway) -> None:
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


async def test_requests_of_a_session_that_catches_up_are_answered_behind_what_it_missed(gateway: Gateway) -> None:
    token = gateway.auth.token("viewer")
    async with open_socket(gateway.url) as client:
        cursor = (await client.connect(token, ["campaign:c1"]))["cursor"]
        missed = [await gateway.publish(settlement(f"s{number}")) for number in range(3)]
        await client.events(3)  # so the gateway has them
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
async def test_unusable_cursor_is_answered_with_resync_and_never_skips_events_silently(
    gateway: Gateway, cursor: str, reason: str
) -> None:
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
async def test_slow_client_catches_up_with_every_event_once_and_in_order_and_delays_no_other(
    stream: NatsServer, auth: FakeAuth
) -> None:
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


async def test_sockets_stay_through_a_broker_outage_are_told_and_miss_nothing(gateway: Gateway) -> None:
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


async def test_client_that_connects_during_a_broker_outage_is_told_in_its_ack_and_when_it_ends(
    gateway: Gateway,
) -> None:
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


async def test_sessions_get_resync_and_go_on_in_the_new_epoch_of_a_recreated_stream(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as client, connected(gateway.server, "setup") as setup:
        await client.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        for _ in range(10):
            await gateway.publish(settlement())
        await setup.request("$JS.API.STREAM.DELETE.EVENTS", b"")
        epoch = await declare_stream(setup)
        resync = await client.next("resync")
        offset = await gateway.publish(settlement())
        while (event := await client.next("event"))["offset"] != offset:
            pass

    assert resync["reason"] == "epoch_changed"
    assert resync["rooms"] == ["campaign:c1"]
    assert cursor_of(resync["cursor"]).epoch == epoch
    assert event["rooms"] == ["campaign:c1", "campaign:c1/settlement:s1"]


async def test_stopping_gateway_tells_sessions_when_to_go_serves_them_and_closes_the_rest_with_4503(
    stream: NatsServer, auth: FakeAuth
) -> None:
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


async def test_gateway_without_clients_and_load_balancer_stops_at_once(stream: NatsServer, auth: FakeAuth) -> None:
    async with (
        running_gateway(stream, auth, stop_timeout_s=300, stop_accept_s=0) as gateway,
        open_socket(gateway.url) as client,
    ):
        await client.connect(auth.token("viewer"))
        await client.socket.close()
        while (await gateway.stats())["clients"]:
            pass
