"""Long polls over real sockets: when they are answered, and with what."""

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.transports.poll import PACE_S, Poll
from beaconfire_kit.events.workspace import UserTyping
from tests.cursors import cursor_of
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, on_both_transports, running_gateway, settlement
from tests.gateway.events import BODY, member, publish_as_auth, raw_publish
from tests.gateway.workers import running_workers
from tests.polling import PollClient, Refused, polling, read, waiting

ROOM = "campaign:c1"


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [one["type"] for one in messages]


async def is_waiting(gateway: Gateway, count: int = 1) -> None:
    """Wait until so many polls are sessions of the gateway."""
    async with asyncio.timeout(15):
        while (await gateway.stats())["clients"] != count:
            await asyncio.sleep(0.01)


@on_both_transports
async def test_first_poll_is_answered_at_once_with_the_ack_and_a_cursor(gateway: Gateway) -> None:
    async with aiohttp.ClientSession() as http:
        client = PollClient(http, [gateway.url], gateway.auth.token("owner"), [ROOM, "campaign:c2", "settlement:"])
        (ack,) = await client.poll(waitS=60)

    assert ack["type"] == "connection.ack"
    assert ack["userId"] == "owner"
    assert cursor_of(str(client.cursor)).offset >= 0
    codes = {name: room.get("error", {}).get("code") for name, room in ack["rooms"].items()}
    assert codes == {ROOM: None, "campaign:c2": "forbidden", "settlement:": "bad_room"}


@on_both_transports
async def test_waiting_poll_is_answered_with_the_event_and_the_next_one_goes_on_behind_it(gateway: Gateway) -> None:
    async with polling(gateway.url, gateway.auth.token("viewer")) as client:
        async with waiting(client) as answer:
            await is_waiting(gateway)
            await gateway.publish(settlement("s1"))
            messages = await answer
        await gateway.publish(settlement("s2"))
        await client.poll_for(2)

    assert kinds(messages) == ["connection.ack", "event"]
    assert messages[1]["rooms"] == [ROOM, "campaign:c1/settlement:s1"]
    assert client.ids == ["s1", "s2"]
    assert cursor_of(str(client.cursor)).offset >= client.events[-1]["offset"]


async def test_poll_without_news_is_answered_when_its_time_is_up(gateway: Gateway) -> None:
    async with polling(gateway.url, gateway.auth.token("viewer")) as client:
        before = client.cursor
        messages = await client.poll(waitS=1)

    assert kinds(messages) == ["connection.ack"]
    assert client.cursor == before


async def test_query_of_a_url_asks_for_the_same_as_a_json_body(gateway: Gateway) -> None:
    async with polling(gateway.url, gateway.auth.token("viewer")) as client:
        await gateway.publish(settlement("s1"))
        wanted = {"types": "settlement_updated,structure_updated", "waitS": 30, "lastClose": 1006}
        (ack, event) = await client.get(**wanted)

    assert ack["rooms"] == {ROOM: {"success": True}}
    assert event["event"]["payload"]["settlementId"] == "s1"


async def test_polls_name_a_hundred_rooms_each_with_its_types(gateway: Gateway) -> None:
    rooms = [f"{ROOM}/settlement:{'x' * 50}{number}" for number in range(100)]
    types = {rooms[0]: ["structure_updated"], rooms[1]: ["settlement_updated"]}
    async with polling(gateway.url, gateway.auth.token("viewer"), rooms) as client:
        await client.poll(types=types)
        for room in rooms[:2]:
            await gateway.publish(settlement(room.rpartition(":")[2]))
        await client.poll_for(1, types=types)

    assert client.ids == [rooms[1].rpartition(":")[2]]


async def test_a_list_of_types_is_for_all_rooms_and_an_unknown_one_refuses_each(gateway: Gateway) -> None:
    async with polling(gateway.url, gateway.auth.token("viewer"), [ROOM, "user:viewer"]) as client:
        (ack,) = await client.poll(types=["setlement_updated"])

    assert [room["error"]["code"] for room in ack["rooms"].values()] == ["unknown_type"] * 2
    assert "settlement_updated" in ack["rooms"][ROOM]["error"]["message"]


async def test_missed_events_come_in_order_and_once_whichever_gateway_answers(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with (
        running_gateway(stream, auth) as one,
        running_gateway(stream, auth) as other,
        polling(one.url, auth.token("viewer")) as client,
    ):
        client.urls.append(other.url)
        for number in range(40):
            await one.publish(settlement(f"s{number}"))
            if number % 10 == 0:
                await client.poll(waitS=0)
        await client.poll_for(40, waitS=0)

    assert client.ids == [f"s{number}" for number in range(40)]


async def test_each_poll_may_reach_another_worker(stream: NatsServer, auth: FakeAuth, tmp_path: Path) -> None:
    """Each poll has a connection of its own, which the kernel gives to any worker."""
    async with (
        running_workers(stream, auth, tmp_path) as workers,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
    ):
        client = PollClient(http, [workers.process.url], auth.token("viewer"), [ROOM])
        await client.poll()
        offsets: list[int] = []
        while len(offsets) < 10 or len(await workers.samples("beaconfire_gateway_connections_opened_total")) < 2:
            offsets.append(await workers.publish())
            await client.poll_for(len(offsets))

    assert [one["offset"] for one in client.events] == offsets


async def test_answer_that_was_lost_comes_again(gateway: Gateway) -> None:
    async with polling(gateway.url, gateway.auth.token("viewer")) as client:
        before = client.cursor
        await gateway.publish(settlement("s1"))
        await client.poll()
        client.cursor = before
        await client.poll()

    assert client.ids == ["s1", "s1"]


async def test_large_catch_up_comes_in_several_bounded_answers(stream: NatsServer, auth: FakeAuth) -> None:
    async with (
        running_gateway(stream, auth, max_buffer_bytes=16_384) as gateway,
        polling(gateway.url, auth.token("viewer")) as client,
    ):
        for number in range(60):
            await gateway.publish(settlement(f"s{number}", "c1", "x" * 2_000))
        await client.poll_for(60)

    assert client.ids == [f"s{number}" for number in range(60)]
    assert client.answers > 3


async def test_events_of_one_moment_come_in_one_answer(gateway: Gateway) -> None:
    loop = asyncio.get_running_loop()
    async with polling(gateway.url, gateway.auth.token("viewer")) as client:
        began_at, answered = loop.time(), client.answers
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(client.poll_for(200))
            for number in range(200):
                await gateway.publish(settlement(f"s{number}"))
        took_s = loop.time() - began_at

    assert client.ids == [f"s{number}" for number in range(200)]
    assert client.answers - answered <= took_s / PACE_S + 1


async def test_ephemeral_events_reach_a_waiting_poll_and_do_not_move_its_cursor(gateway: Gateway) -> None:
    gateway.auth.members["viewer"]["workspace:w1"] = "viewer"
    typing = UserTyping(workspace_id="w1", target_kind="chat", target_id="h1", user_id="editor", typing=True)
    body = {**BODY, "type": "user.typing", "payload": typing.model_dump(mode="json")}
    async with polling(gateway.url, gateway.auth.token("viewer"), ["workspace:w1"]) as client:
        before = client.cursor
        async with waiting(client) as answer:
            await is_waiting(gateway)
            await raw_publish(gateway, typing.full_subject(), json.dumps(body).encode())
            messages = await answer

    assert kinds(messages) == ["connection.ack", "event"]
    assert "offset" not in messages[1]
    assert client.cursor == before


# Access.


async def test_membership_that_is_removed_ends_the_wait_with_room_left(gateway: Gateway) -> None:
    token = gateway.auth.token("viewer")
    async with polling(gateway.url, token, [ROOM, "user:viewer"]) as client, waiting(client, waitS=60) as answer:
        await is_waiting(gateway)
        gateway.auth.members["viewer"].clear()
        await publish_as_auth(gateway, member("viewer", None))
        messages = await answer

    assert messages[1:] == [{"type": "room.left", "room": ROOM, "reason": "membership_removed"}]


async def test_membership_that_is_removed_between_two_polls_is_told_at_once_and_then_not_again(
    gateway: Gateway,
) -> None:
    async with polling(gateway.url, gateway.auth.token("viewer"), [ROOM, "user:viewer"]) as client:
        gateway.auth.members["viewer"].clear()
        await publish_as_auth(gateway, member("viewer", None))
        async with asyncio.timeout(30):
            while (await client.poll(waitS=60))[0]["rooms"][ROOM]["success"]:
                pass
        (ack,) = await client.poll(waitS=1)

    assert ack["rooms"][ROOM]["error"]["code"] == "forbidden"
    assert ack["rooms"]["user:viewer"] == {"success": True}


@pytest.mark.parametrize("token", ["", "nonsense"])
async def test_poll_without_a_valid_token_is_refused_with_401(gateway: Gateway, token: str) -> None:
    async with aiohttp.ClientSession() as http:
        client = PollClient(http, [gateway.url], token, [ROOM])
        with pytest.raises(Refused) as refused:
            await client.poll()

    assert (refused.value.status, refused.value.code) == (401, "token_invalid")


async def test_token_that_runs_out_ends_the_wait_with_401(gateway: Gateway) -> None:
    async with polling(gateway.url, gateway.auth.token("viewer", ttl_s=2)) as client:
        with pytest.raises(Refused) as refused:
            await client.poll(waitS=60)

    assert (refused.value.status, refused.value.code) == (401, "token_invalid")


async def test_token_that_runs_out_soon_is_told_in_answers_and_causes_none(gateway: Gateway) -> None:
    async with polling(gateway.url, gateway.auth.token("viewer", ttl_s=4)) as client:
        told: list[str] = []
        with pytest.raises(Refused):
            await _poll_on(client, told)

    assert "token.expiring" in told
    assert client.answers <= 5


async def _poll_on(client: PollClient, told: list[str]) -> None:
    """Poll until the gateway refuses."""
    while True:
        told += kinds(await client.poll(waitS=2))


async def test_page_of_another_origin_is_refused(gateway: Gateway) -> None:
    headers = {"Origin": "https://evil.example"}
    async with aiohttp.ClientSession(headers=headers) as http:
        client = PollClient(http, [gateway.url], gateway.auth.token("viewer"), [ROOM])
        with pytest.raises(Refused) as refused:
            await client.poll()

    assert refused.value.status == 403


async def test_page_of_an_allowed_origin_may_read_answers_and_errors(stream: NatsServer, auth: FakeAuth) -> None:
    page = "https://app.example"
    async with (
        running_gateway(stream, auth, allowed_origins=page) as gateway,
        aiohttp.ClientSession(headers={"Origin": page}) as http,
    ):
        good = await http.get(f"{gateway.url}/poll", headers={"Authorization": f"Bearer {auth.token('viewer')}"})
        bad = await http.get(f"{gateway.url}/poll")

    assert (good.status, bad.status) == (200, 401)
    for answer in (good, bad):
        assert answer.headers["Access-Control-Allow-Origin"] == page


# Resync.


@pytest.mark.parametrize(
    ("cursor", "reason"), [("other:7", "epoch_changed"), ("unreadable", "epoch_changed"), ("ahead", "ahead")]
)
async def test_cursor_that_cannot_be_resumed_from_gets_resync(gateway: Gateway, cursor: str, reason: str) -> None:
    async with polling(gateway.url, gateway.auth.token("viewer")) as client:
        epoch = cursor_of(str(client.cursor)).epoch
        client.cursor = f"{epoch}:999999" if cursor == "ahead" else cursor
        (_, resync) = await client.poll(waitS=60)
        await gateway.publish(settlement("s1"))
        await client.poll()

    assert (resync["type"], resync["reason"], resync["rooms"]) == ("resync", reason, [ROOM])
    assert client.ids == ["s1"]


# Requests besides `connect`.


async def test_messages_of_a_poll_are_answered_in_its_answer(gateway: Gateway) -> None:
    async with polling(gateway.url, gateway.auth.token("viewer"), ["user:viewer"]) as client:
        start = client.cursor
        await gateway.publish(settlement("s1"))
        messages = [
            {"type": "subscribe", "id": 1, "rooms": [ROOM], "cursor": start},
            {"type": "ping", "id": 2},
            {"type": "nonsense", "id": 3},
            {"type": "unsubscribe", "id": 4, "rooms": ["user:viewer"]},
        ]
        answers = await client.poll(messages=messages)

    assert kinds(answers) == ["connection.ack", "restored", "reply", "reply", "error", "reply"]
    assert [one["id"] for one in answers[1:]] == [1, 1, 2, 3, 4]
    assert answers[1]["events"][0]["event"]["payload"]["settlementId"] == "s1"


async def test_restored_room_may_be_larger_than_one_answer_holds(stream: NatsServer, auth: FakeAuth) -> None:
    async with (
        running_gateway(stream, auth, max_buffer_bytes=16_384) as gateway,
        polling(gateway.url, auth.token("viewer"), ["user:viewer"]) as client,
    ):
        start = client.cursor
        for number in range(100):
            await gateway.publish(settlement(f"s{number}", "c1", "x" * 2_000))
        answers = await client.poll(messages=[{"type": "subscribe", "id": 1, "rooms": [ROOM], "cursor": start}])

    restored = [event for one in answers if one["type"] == "restored" for event in one["events"]]
    assert [one["event"]["payload"]["settlementId"] for one in restored] == [f"s{number}" for number in range(100)]
    assert answers[-1]["type"] == "reply"
    assert answers[-1]["rooms"][ROOM] == {"success": True, "recovered": True}


async def test_room_that_a_message_joined_counts_as_asked_for_in_the_next_poll(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with (
        running_gateway(stream, auth, rooms_per_minute_per_user=2) as gateway,
        polling(gateway.url, auth.token("viewer"), [ROOM]) as client,
    ):
        await client.poll(messages=[{"type": "subscribe", "id": 1, "rooms": ["user:viewer"]}])
        client.rooms.append("user:viewer")
        (ack,) = await client.poll(waitS=1)

    assert all(room["success"] for room in ack["rooms"].values())


# Limits.


async def test_poll_for_the_same_rooms_is_no_new_join_and_no_new_message(stream: NatsServer, auth: FakeAuth) -> None:
    limits = {"rooms_per_minute_per_user": 2, "messages_per_minute_per_user": 2}
    async with (
        running_gateway(stream, auth, **limits) as gateway,
        polling(gateway.url, auth.token("viewer"), [ROOM, "user:viewer"]) as client,
    ):
        for _ in range(5):
            await client.poll(waitS=0)
        client.rooms = [ROOM]
        with pytest.raises(Refused) as refused:
            await client.poll()

    assert (refused.value.status, refused.value.code) == (429, "too_many")
    assert int(str(refused.value.retry_after)) >= 1


async def test_waiting_poll_counts_as_a_connection_until_its_client_leaves(stream: NatsServer, auth: FakeAuth) -> None:
    async with (
        running_gateway(stream, auth, max_sessions_per_user=1) as gateway,
        polling(gateway.url, auth.token("viewer")) as client,
        polling(gateway.url, auth.token("viewer")) as other,
    ):
        async with waiting(client):
            await is_waiting(gateway)
            with pytest.raises(Refused) as refused:
                await other.poll()
        await is_waiting(gateway, 0)
        await other.poll(waitS=0)

    assert (refused.value.status, refused.value.code) == (429, "too_many")


async def test_poll_that_replaces_another_one_ends_it(stream: NatsServer, auth: FakeAuth) -> None:
    async with (
        running_gateway(stream, auth, max_sessions_per_user=1) as gateway,
        polling(gateway.url, auth.token("viewer")) as client,
        polling(gateway.url, auth.token("viewer")) as other,
        waiting(client) as replaced,
        aiohttp.ClientSession() as http,
    ):
        await is_waiting(gateway)
        answer = await http.get(f"{gateway.ops_url}/api/v1/ws/users/viewer/clients")
        (session,) = (await answer.json())["clients"]
        await other.poll(waitS=0, replaces=session["sessionId"])
        with pytest.raises(Refused) as refused:
            await replaced

    assert (refused.value.status, refused.value.message) == (409, "another poll of this client took over")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[]", "Input should be an object"),
        (b"{", "Invalid JSON"),
        (b'{"rooms": "campaign:c1"}', "rooms"),
        (b'{"rooms": ["campaign:c1"], "types": []}', "types"),
        (b'{"types": {"campaign:c1": ["x"]}}', "is not among `rooms`"),
        (b'{"waitS": 61}', "waitS: Input should be less than or equal to 60"),
        (b'{"waitS": -1}', "waitS: Input should be greater than or equal to 0"),
        (b'{"waitS": true}', "waitS: Input should be a valid integer"),
        (b'{"messages": {}}', "messages"),
        (b'{"cursor": 7}', "cursor"),
        (b'{"room": ["campaign:c1"]}', "room: Extra inputs are not permitted"),
    ],
)
async def test_invalid_poll_is_refused_with_what_is_wrong(gateway: Gateway, body: bytes, said: str) -> None:
    headers = {"Authorization": f"Bearer {gateway.auth.token('viewer')}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        response = await http.post(f"{gateway.url}/poll", data=body)
        error = (await response.json())["error"]

    assert (response.status, error["code"]) == (400, "bad_request")
    assert said in error["message"]


async def test_message_over_the_limit_is_refused(gateway: Gateway) -> None:
    async with polling(gateway.url, gateway.auth.token("viewer")) as client:
        with pytest.raises(Refused) as refused:
            await client.poll(messages=[{"type": "ping", "id": 1, "more": "x" * 20_000}])

    assert (refused.value.status, refused.value.code) == (413, "too_large")


# Costs.


async def test_waiting_polls_cost_no_task_besides_aiohttps(gateway: Gateway) -> None:
    count = 15
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        clients = [PollClient(http, [gateway.url], gateway.auth.token("viewer"), [ROOM]) for _ in range(count)]
        await asyncio.gather(*(client.poll() for client in clients))
        before = _tasks_of_the_gateway()
        polls = [asyncio.create_task(client.poll()) for client in clients]
        await is_waiting(gateway, count)
        during = _tasks_of_the_gateway()
        await gateway.publish(settlement("s1"))
        await asyncio.gather(*polls)

    assert during == before
    assert [client.ids for client in clients] == [["s1"]] * count


def _tasks_of_the_gateway() -> list[str]:
    """The coroutines of all tasks, except those of aiohttp's server and of the test itself."""
    names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]  # type: ignore[union-attr]
    return sorted(name for name in names if not name.startswith(("RequestHandler.", "PollClient.", "test_")))


async def test_poll_that_is_over_keeps_neither_its_request_nor_its_answer(gateway: Gateway) -> None:
    """The timers know its session for up to a heartbeat, and a client makes five of them a second."""
    async with polling(gateway.url, gateway.auth.token("viewer")) as client:
        await gateway.publish(settlement("s1"))
        await client.poll_for(1)
        await client.poll(waitS=0)
        client.token = gateway.auth.token("viewer", ttl_s=1)
        with pytest.raises(Refused):
            await client.poll(waitS=60)
    await is_waiting(gateway, 0)
    polls = [one for one in gc.get_objects() if isinstance(one, Poll) and one.user_id == "viewer"]

    assert len(polls) >= 3
    assert {(one._request, one._error, one.claims) for one in polls} == {(None, None, None)}
    assert {len(kept) for one in polls for kept in (one._pieces, one._wanted, one.rooms)} == {0}


async def test_only_the_first_poll_of_a_subscription_is_logged(gateway: Gateway) -> None:
    with capture_logs() as lines:
        async with polling(gateway.url, gateway.auth.token("viewer"), [ROOM, "campaign:c2"]) as client:
            for _ in range(3):
                await client.poll(waitS=0)

    said = [line["event"] for line in lines if line["log_level"] == "info"]
    assert said == ["connected", "subscribed", "refused room"]


# The end of a gateway.


async def test_draining_gateway_answers_waiting_polls_and_closes_their_connections(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {auth.token('viewer')}"}) as http:
        async with running_gateway(stream, auth, stop_timeout_s=5) as gateway:
            first = await read(await http.get(f"{gateway.url}/poll", params={"rooms": ROOM}))
            asked = {"rooms": ROOM, "cursor": first["cursor"], "waitS": "60"}
            poll = asyncio.create_task(http.get(f"{gateway.url}/poll", params=asked))
            await is_waiting(gateway)
            await gateway.publish(settlement("s1"))
            answer = await poll
            poll = asyncio.create_task(
                http.get(f"{gateway.url}/poll", params={**asked, "cursor": (await read(answer))["cursor"]})
            )
            await is_waiting(gateway)
        last = await poll

    assert last.headers["Connection"] == "close"
    assert kinds((await read(last))["messages"]) == ["connection.ack"]
