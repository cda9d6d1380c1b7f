"""Limits of one client, user or address: refused with the time to retry, never at the cost of others."""

import asyncio
import json
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.sessions.limits import PATIENCE, Doorkeeper, LimitReached, Limits, Rate, Users
from beaconfire_gateway.wire.websocket_frames import Opcode, decode_close
from beaconfire_kit.rates import remaining, spend
from tests.client import Closed, answering, open_socket
from tests.fakes import FakeAuth
from tests.forgery import Forger
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.events import fence
from tests.websocket import client_frame, handshake, raw_socket, status_of


def test_burst_of_a_minutes_worth_passes_and_a_refusal_says_when_to_retry() -> None:
    rate = Rate(60)
    burst = [rate.spend(1, 1000.0) for _ in range(60)]
    refused = rate.spend(1, 1000.0)

    assert set(burst) == {0.0}
    assert refused == pytest.approx(1.0)
    assert rate.spend(1, 1000.0 + refused) == 0.0
    assert rate.spend(1, 1000.0 + refused) > 0


def test_request_larger_than_a_minutes_worth_passes_with_a_full_allowance() -> None:
    rate = Rate(10)

    assert rate.spend(50, 5.0) == 0.0
    assert rate.spend(1, 5.0) == pytest.approx(6.0)


@given(st.integers(1, 200), st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5)), max_size=100))
def test_allowance_never_grants_more_than_a_burst_and_what_flows_in(
    per_minute: int, steps: list[tuple[float, int]]
) -> None:
    """A client that waits as long as the refusal says is let in."""
    rate, now, granted = Rate(per_minute), 100.0, 0
    for pause, count in steps:
        now += pause
        wait = rate.spend(count, now)
        if wait:
            now += wait + 1e-6
            assert rate.spend(count, now) == 0.0
        granted += min(count, per_minute)

    assert granted <= per_minute + (now - 100.0) * per_minute / 60 + 1


@given(st.integers(1, 200), st.integers(0, 300), st.floats(0, 70))
def test_what_remains_is_what_is_granted_before_the_next_refusal(per_minute: int, spent: int, pause: float) -> None:
    empty_at = 0.0
    for _ in range(spent):
        empty_at, _wait_s = spend(empty_at, 1, per_minute, 1000.0)
    now = 1000.0 + pause
    told = remaining(empty_at, per_minute, now)
    granted = 0
    while True:
        empty_at, wait_s = spend(empty_at, 1, per_minute, now)
        if wait_s:
            break
        granted += 1

    assert told == granted


async def test_eleventh_invalid_token_of_an_address_in_a_minute_is_refused_with_a_retry_time(gateway: Gateway) -> None:
    """Good tokens of the address are accepted meanwhile, and tokens that have expired are told so."""
    closes = [await _refusal(gateway, "nonsense") for _ in range(10)]
    told, end = await _refusal(gateway, "nonsense")
    async with open_socket(gateway.url) as client:
        accepted = await client.connect(gateway.auth.token("viewer"))
    now = int(time.time())
    old = Forger(gateway.auth.key, "k1").forged(claims={"iat": now - 1000, "exp": now - 60})
    expired = [await _refusal(gateway, old) for _ in range(2)]

    assert [(error, close.code) for error, close in closes] == [(None, 4401)] * 10
    assert told is not None
    assert (told["id"], told["code"], end.code) == (1, "too_many", 4429)
    assert told["message"] == "one address may send 10 invalid tokens a minute"
    assert 0 < told["retryAfterMs"] <= 6001
    assert accepted["type"] == "connection.ack"
    assert [(error, close.code) for error, close in expired] == [(None, 4401)] * 2


async def test_number_of_invalid_tokens_is_a_setting(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth, attempts_per_minute_address=2) as gateway:
        codes = [(await _refusal(gateway, "nonsense"))[1].code for _ in range(3)]

    assert codes == [4401, 4401, 4429]


async def test_invalid_token_of_a_refresh_counts_for_the_address_too(stream: NatsServer, auth: FakeAuth) -> None:
    """The session stays, with its token. An expired token does not count."""
    now = int(time.time())
    async with running_gateway(stream, auth, attempts_per_minute_address=2) as gateway, open_socket(gateway.url) as one:
        old = Forger(gateway.auth.key, "k1").forged(claims={"iat": now - 1000, "exp": now - 60})
        await one.connect(auth.token("viewer"))
        answers = [await one.ask("refresh", token=token) for token in (old, "bad", "bad", "bad", auth.token("viewer"))]
        _, elsewhere = await _refusal(gateway, "nonsense")

    codes = [answer.get("error", {}).get("code") for answer in answers]
    assert codes == ["token_invalid", "token_invalid", "token_invalid", "too_many", None]
    assert answers[3]["error"]["retryAfterMs"] > 0
    assert elsewhere.code == 4429


async def test_operators_reset_all_clients_of_a_user_and_the_invalid_tokens_of_an_address(
    stream: NatsServer, auth: FakeAuth
) -> None:
    low = {"messages_per_minute": 3, "messages_per_minute_per_user": 4, "attempts_per_minute_address": 1}
    async with (
        running_gateway(stream, auth, **low) as gateway,
        open_socket(gateway.url) as one,
        open_socket(gateway.url) as two,
        aiohttp.ClientSession(f"{gateway.ops_url}/api/v1/ws/") as http,
    ):
        for client in (one, two):
            await client.connect(auth.token("viewer"))
        for _ in range(2):
            await one.ask("ping")
        over = await two.ask("ping")
        codes = [(await _refusal(gateway, "nonsense"))[1].code for _ in range(2)]
        async with http.post("reset-limits", params={"user": "viewer", "address": "127.0.0.1"}) as answer:
            reset = await answer.json()
        refused = []
        for params in ({}, {"address": "nonsense"}, {"user": ""}):
            async with http.post("reset-limits", params=params) as answer:
                refused.append((answer.status, (await answer.json())["error"]["message"]))
        again = [await client.ask("ping") for client in (one, two)]
        codes.append((await _refusal(gateway, "nonsense"))[1].code)

    assert over["code"] == "too_many"
    assert reset == {"clients": 2}
    assert [one["success"] for one in again] == [True, True]
    assert codes == [4401, 4429, 4401]
    assert [status for status, _ in refused] == [400] * 3
    assert "'nonsense' is no IP address" in refused[1][1]


async def _refusal(gateway: Gateway, token: str) -> tuple[dict[str, Any] | None, Closed]:
    """Connect with this token. Returns the error message, if one came, and the end."""
    async with open_socket(gateway.url) as client:
        await client.send("connect", token=token)
        end = await client.closed()
        return (client.frames[0] if client.frames else None), end


async def test_client_and_operators_can_ask_what_remains_of_the_limits_per_minute(
    stream: NatsServer, auth: FakeAuth
) -> None:
    """The limits are so low that nothing of them is given back while this runs."""
    low = {
        "messages_per_minute": 5,
        "messages_per_minute_per_user": 6,
        "rooms_per_minute": 5,
        "rooms_per_minute_per_user": 4,
        "typing_per_minute_per_user": 3,
    }
    async with (
        running_gateway(stream, auth, **low) as gateway,
        open_socket(gateway.url) as client,
        aiohttp.ClientSession() as http,
    ):
        await client.connect(auth.token("viewer"), ["campaign:c1"])
        await client.ask("subscribe", rooms=["campaign:c1/settlement:s1", "campaign:c1/settlement:s2"])
        await client.ask("typing", room="campaign:c1")
        told = await client.ask("ping", remaining=True)
        async with http.get(f"{gateway.ops_url}/api/v1/ws/users/viewer/clients") as answer:
            [for_operators] = (await answer.json())["clients"]

    left = {
        "messagesPerMinute": 1,
        "messagesPerMinutePerUser": 2,
        "roomsPerMinute": 3,
        "roomsPerMinutePerUser": 1,
        "typingPerMinutePerUser": 2,
        "statusesPerMinutePerUser": 30,
        "selectionsPerMinutePerUser": 120,
    }
    assert told["remaining"] == left
    assert for_operators["remaining"] == left


async def test_page_in_an_operators_browser_resets_nothing(stream: NatsServer, auth: FakeAuth) -> None:
    """Any page may send such a request, also one whose host name leads to the operations port."""
    async with (
        running_gateway(stream, auth, messages_per_minute_per_user=2) as gateway,
        open_socket(gateway.url) as client,
        aiohttp.ClientSession() as http,
    ):
        session_id = (await client.connect(auth.token("viewer")))["sessionId"]
        for _ in range(2):
            await client.ask("ping")
        refused = []
        for path in ("reset-limits?user=viewer", f"clients/{session_id}/reset-limits"):
            for origin in ("https://evil.example", gateway.ops_url):
                headers = {"Origin": origin}
                async with http.post(f"{gateway.ops_url}/api/v1/ws/{path}", headers=headers) as answer:
                    refused.append((answer.status, (await answer.json())["error"]["code"]))
        over = await client.ask("ping")

    assert refused == [(403, "forbidden")] * 4
    assert over["code"] == "too_many"


async def test_messages_over_the_rate_get_too_many_while_events_go_on(stream: NatsServer, auth: FakeAuth) -> None:
    """An operator may reset the client's allowance."""
    async with running_gateway(stream, auth, messages_per_minute=5) as gateway, open_socket(gateway.url) as client:
        ack = await client.connect(auth.token("viewer"), ["campaign:c1"])
        answers = [await client.ask("ping") for _ in range(5)]
        events = await fence(gateway, client)
        async with aiohttp.ClientSession() as http:
            reset = await http.post(f"{gateway.ops_url}/api/v1/ws/clients/{ack['sessionId']}/reset-limits")
            nobody = await http.post(f"{gateway.ops_url}/api/v1/ws/clients/nobody/reset-limits")
        afresh = await client.ask("ping")

    assert [answer["type"] for answer in answers] == ["reply"] * 4 + ["error"]
    assert answers[4]["code"] == "too_many"
    assert 0 < answers[4]["retryAfterMs"] <= 12_001
    assert len(events) == 1
    assert (reset.status, nobody.status, afresh["type"]) == (204, 404, "reply")


async def test_client_that_keeps_sending_over_the_rate_is_closed_with_4429(stream: NatsServer, auth: FakeAuth) -> None:
    hello = {"type": "connect", "id": 1, "token": auth.token("viewer")}
    async with running_gateway(stream, auth, messages_per_minute=5) as gateway, raw_socket(gateway.url) as raw:
        raw.write(client_frame(json.dumps(hello).encode()))
        await raw.frame()
        raw.write(client_frame(b'{"type":"ping","id":2}') * 2 * PATIENCE)

        assert await raw.close_code() == 4429


async def test_leaving_sixty_rooms_one_by_one_is_never_refused(gateway: Gateway) -> None:
    rooms = [f"campaign:c1/settlement:s{number}" for number in range(60)]
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("viewer"))
        joined = [await client.ask("subscribe", rooms=[room]) for room in rooms]
        left = [await client.ask("unsubscribe", rooms=[room]) for room in rooms]
        again = [await client.ask("subscribe", rooms=[room]) for room in rooms[:30]]
        await client.ask("unsubscribe", rooms=rooms[:30])
        stats = await gateway.stats()

    assert [answer.get("success") for answer in joined + left + again] == [True] * 150
    assert stats["rooms"] == 0


async def test_client_without_messages_left_can_still_leave_its_rooms(stream: NatsServer, auth: FakeAuth) -> None:
    """It can also leave rooms that it is no longer in."""
    rooms = [f"campaign:c1/settlement:s{number}" for number in range(100)]
    async with running_gateway(stream, auth, messages_per_minute=3) as gateway, open_socket(gateway.url) as client:
        await client.connect(auth.token("viewer"), rooms)
        answers = [await client.ask("ping") for _ in range(3)]
        left = [await client.ask("unsubscribe", rooms=[room]) for room in (*rooms, *rooms)]
        stats = await gateway.stats()

    assert [answer["type"] for answer in answers] == ["reply", "reply", "error"]
    assert [answer["type"] for answer in left] == ["reply"] * 200
    assert stats["rooms"] == 0


async def test_more_leaves_a_minute_than_possible_joins_are_refused_and_then_close_the_session(
    stream: NatsServer, auth: FakeAuth
) -> None:
    hello = {"type": "connect", "id": 1, "token": auth.token("viewer")}
    leave = json.dumps({"type": "unsubscribe", "id": 2, "rooms": ["campaign:c1"]}).encode()
    few = {"messages_per_minute": 5, "rooms_per_minute": 10, "max_rooms": 5}
    async with running_gateway(stream, auth, **few) as gateway, raw_socket(gateway.url) as raw:
        raw.write(client_frame(json.dumps(hello).encode()))
        await raw.frame()
        raw.write(client_frame(leave) * (20 + PATIENCE))
        answers = [json.loads((await raw.frame())[1]) for _ in range(21)]
        raw.write(client_frame(leave) * 2)
        end = await raw.close_code()

    assert [answer["type"] for answer in answers] == ["reply"] * 20 + ["error"]
    assert (answers[20]["id"], answers[20]["code"]) == (2, "too_many")
    assert answers[20]["retryAfterMs"] > 0
    assert end == 4429


@pytest.mark.parametrize(
    "text",
    [
        b'{"type":"ping","id":"unsubscribe"}',
        b'{"type":"subscribe","id":"unsubscribe","rooms":[]}',
        b'{"type":"unsubscribe","id":1}',
        b'"unsubscribe"',
    ],
)
async def test_message_that_only_looks_like_a_leave_counts_as_a_message(
    stream: NatsServer, auth: FakeAuth, text: bytes
) -> None:
    async with running_gateway(stream, auth, messages_per_minute=5) as gateway, open_socket(gateway.url) as client:
        await client.connect(auth.token("viewer"))
        for _ in range(5):
            await client.socket.send_str(text.decode())
        answers = [await client.next("reply", "error") for _ in range(5)]

    assert [answer.get("code") for answer in answers].count("too_many") == 1


async def test_subscribe_over_the_room_rate_is_refused_as_a_whole_with_a_retry_time(
    stream: NatsServer, auth: FakeAuth
) -> None:
    """Requirement A15."""
    async with running_gateway(stream, auth, rooms_per_minute=10) as gateway, open_socket(gateway.url) as client:
        await client.connect(auth.token("viewer"))
        rooms = [f"campaign:c1/settlement:s{number}" for number in range(8)]
        first = await client.ask("subscribe", rooms=rooms)
        second = await client.ask("subscribe", rooms=rooms)

    assert first["success"] is True
    assert (second["success"], second["error"]["code"]) == (False, "too_many")
    assert second["error"]["retryAfterMs"] > 0


async def test_connections_of_a_user_are_limited_except_for_replacements(stream: NatsServer, auth: FakeAuth) -> None:
    """Requirement A52."""
    async with (
        running_gateway(stream, auth, max_sessions_per_user=2) as gateway,
        open_socket(gateway.url) as one,
        open_socket(gateway.url) as two,
        open_socket(gateway.url) as three,
        open_socket(gateway.url) as other,
        open_socket(gateway.url) as replacing,
    ):
        first = await one.connect(auth.token("viewer"))
        await two.connect(auth.token("viewer"))
        async with answering(one, two):
            with pytest.raises(Closed) as refused:
                await three.connect(auth.token("viewer"), replaces="nonsense")
        await other.connect(auth.token("owner"))
        replaced = await replacing.connect(auth.token("viewer"), replaces=first["sessionId"])

    assert refused.value.code == 4429
    assert replaced["type"] == "connection.ack"


async def test_operators_see_clients_users_rooms_and_refusals_on_the_operations_port_only(gateway: Gateway) -> None:
    async with open_socket(gateway.url) as one, open_socket(gateway.url) as two, aiohttp.ClientSession() as http:
        await one.connect(gateway.auth.token("viewer"), ["campaign:c1", "campaign:c1/settlement:s1"])
        await two.connect(gateway.auth.token("viewer"), ["campaign:c1"])
        async with asyncio.timeout(10), http.get(f"{gateway.ops_url}/api/v1/ws/stats") as answer:
            stats = await answer.json()
        public = await http.get(f"{gateway.url}/api/v1/ws/stats")

    assert (stats["clients"], stats["users"], stats["rooms"]) == (2, 1, 2)
    assert stats["clientsPerRoom"] == {"campaign:c1": 2, "campaign:c1/settlement:s1": 1}
    assert (stats["connecting"], stats["addresses"], stats["clientsPerAddress"]) == (0, 1, {"127.0.0.1": 2})
    assert stats["limits"]["messagesPerMinute"] == 100
    assert isinstance(stats["refusedByLimit"], dict)
    assert public.status == 404


async def test_client_that_keeps_subscribing_over_the_room_rate_is_closed_with_4429(
    stream: NatsServer, auth: FakeAuth
) -> None:
    hello = {"type": "connect", "id": 1, "token": auth.token("viewer")}
    ask = json.dumps({"type": "subscribe", "id": 2, "rooms": ["campaign:c1"]}).encode()
    async with (
        running_gateway(stream, auth, rooms_per_minute=5, messages_per_minute=1000) as gateway,
        raw_socket(gateway.url) as raw,
    ):
        raw.write(client_frame(json.dumps(hello).encode()))
        await raw.frame()
        answered, end = 0, None
        while end is None:
            raw.write(client_frame(ask))
            opcode, payload = await raw.frame()
            answered += 1
            end = decode_close(payload)[0] if opcode == Opcode.CLOSE else None

    assert end == 4429
    assert answered > PATIENCE


async def test_connections_of_a_user_share_one_message_rate_that_reconnecting_does_not_renew(
    stream: NatsServer, auth: FakeAuth
) -> None:
    """An operator can renew it."""
    async with (
        running_gateway(stream, auth, messages_per_minute_per_user=5) as gateway,
        open_socket(gateway.url) as one,
        open_socket(gateway.url) as two,
        open_socket(gateway.url) as three,
        open_socket(gateway.url) as four,
        open_socket(gateway.url) as other,
        aiohttp.ClientSession() as http,
    ):
        ack = await one.connect(auth.token("viewer"))
        await two.connect(auth.token("viewer"))
        answers = [await client.ask("ping") for client in (one, two, one, two)]
        await two.socket.close()
        await three.send("connect", token=auth.token("viewer"))
        refused, end = await three.next("error"), await three.closed()
        await other.connect(auth.token("owner"))
        async with http.get(f"{gateway.ops_url}/api/v1/ws/users/viewer/clients") as answer:
            clients = (await answer.json())["clients"]
        await http.post(f"{gateway.ops_url}/api/v1/ws/clients/{ack['sessionId']}/reset-limits")
        await four.connect(auth.token("viewer"))

    assert [answer["type"] for answer in answers] == ["reply"] * 3 + ["error"]
    assert answers[3]["message"] == "a user may send 5 messages a minute"
    assert (refused["id"], refused["code"], end.code) == (1, "too_many", 4429)
    assert 0 < refused["retryAfterMs"] <= 12_001
    [only] = clients
    assert (only["sessionId"], only["address"], only["rooms"]) == (ack["sessionId"], "127.0.0.1", 0)


async def test_connections_of_a_user_share_one_room_rate_except_for_replacements(
    stream: NatsServer, auth: FakeAuth
) -> None:
    rooms = [f"campaign:c1/settlement:s{number}" for number in range(4)]
    async with (
        running_gateway(stream, auth, rooms_per_minute_per_user=10) as gateway,
        open_socket(gateway.url) as one,
        open_socket(gateway.url) as two,
        open_socket(gateway.url) as three,
        open_socket(gateway.url) as replacing,
    ):
        first = await one.connect(auth.token("viewer"), rooms)
        await two.connect(auth.token("viewer"), rooms)
        answer = await two.ask("subscribe", rooms=rooms)
        await three.send("connect", token=auth.token("viewer"), rooms=rooms)
        refused, end = await three.next("error"), await three.closed()
        replaced = await replacing.connect(auth.token("viewer"), rooms, replaces=first["sessionId"])

    for error in (answer["error"], refused):
        assert error["message"] == "a user may ask for 10 rooms a minute"
        assert 0 < error["retryAfterMs"] <= 60_001
    assert end.code == 4429
    assert all(room["success"] for room in replaced["rooms"].values())


async def test_rooms_beyond_a_users_limit_are_refused_one_by_one_and_replaced_sessions_do_not_count(
    stream: NatsServer, auth: FakeAuth
) -> None:
    rooms = [f"campaign:c1/settlement:s{number}" for number in range(4)]
    async with (
        running_gateway(stream, auth, max_rooms_per_user=6) as gateway,
        open_socket(gateway.url) as one,
        open_socket(gateway.url) as two,
        open_socket(gateway.url) as replacing,
    ):
        first = await one.connect(auth.token("viewer"), rooms)
        async with answering(one):
            second = await two.connect(auth.token("viewer"), rooms)
        again = await two.ask("subscribe", rooms=rooms[:2])
        async with answering(two):
            replaced = await replacing.connect(auth.token("viewer"), rooms, replaces=first["sessionId"])

    assert [second["rooms"][room]["success"] for room in rooms] == [True, True, False, False]
    assert second["rooms"][rooms[3]]["error"] == {
        "code": "too_many",
        "message": "a user may be in 6 rooms, over all connections",
    }
    assert all(answer["success"] for answer in [*again["rooms"].values(), *replaced["rooms"].values()])


async def test_room_beyond_the_limit_is_refused_before_any_of_it_is_restored(
    stream: NatsServer, auth: FakeAuth
) -> None:
    rooms = [f"campaign:c1/settlement:s{number}" for number in range(2)]
    async with running_gateway(stream, auth, max_rooms=1) as gateway, open_socket(gateway.url) as client:
        ack = await client.connect(auth.token("viewer"))
        missed = [await gateway.publish(settlement(f"s{number}")) for number in range(2)]
        await client.send("subscribe", rooms=rooms, cursor=ack["cursor"])
        answer = await client.next("reply")
        restored = [frame for frame in client.frames if frame["type"] == "restored"]

    assert [answer["rooms"][room]["success"] for room in rooms] == [True, False]
    assert answer["rooms"][rooms[1]]["error"]["code"] == "too_many"
    assert {room for frame in restored for room in frame["rooms"]} == {rooms[0]}
    assert [event["offset"] for frame in restored for event in frame["events"]] == missed[:1]


async def test_connections_of_an_address_are_limited_except_for_replacements(
    stream: NatsServer, auth: FakeAuth
) -> None:
    """A forwarded header that the client sends itself has no effect."""
    async with (
        running_gateway(stream, auth, max_sessions_per_address=2) as gateway,
        open_socket(gateway.url) as one,
        open_socket(gateway.url) as two,
        open_socket(gateway.url) as three,
        open_socket(gateway.url, headers={"X-Forwarded-For": "192.0.2.7"}) as pretending,
        open_socket(gateway.url) as replacing,
    ):
        first = await one.connect(auth.token("viewer"))
        await two.connect(auth.token("editor"))
        ends = []
        async with answering(one, two):
            for client in (three, pretending):
                with pytest.raises(Closed) as refused:
                    await client.connect(auth.token("owner"))
                ends.append((refused.value.code, refused.value.reason))
        replaced = await replacing.connect(auth.token("viewer"), replaces=first["sessionId"])

    assert ends == [(4429, "one address may have 2 connections")] * 2
    assert replaced["type"] == "connection.ack"


async def test_address_named_by_a_trusted_proxy_is_limited_and_an_ipv6_64_counts_as_one(
    stream: NatsServer, auth: FakeAuth
) -> None:
    forwarded = ["192.0.2.7", "192.0.2.8", "192.0.2.99, 192.0.2.7", "2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"]
    outcomes: list[str | int | None] = []
    async with (
        running_gateway(stream, auth, max_sessions_per_address=1, trusted_proxies="127.0.0.0/8") as gateway,
        AsyncExitStack() as stack,
    ):
        for address in forwarded:
            client = await stack.enter_async_context(open_socket(gateway.url, headers={"X-Forwarded-For": address}))
            try:
                outcomes.append((await client.connect(auth.token("viewer")))["type"])
                await stack.enter_async_context(answering(client))
            except Closed as end:
                outcomes.append(end.code)

    assert outcomes == ["connection.ack", "connection.ack", 4429, "connection.ack", 4429, "connection.ack"]


@pytest.mark.parametrize(
    ("limits", "elsewhere"),
    [({"max_connecting_per_address": 3}, 101), ({"max_connecting": 3}, 429)],
    ids=["of an address", "in all"],
)
async def test_sockets_without_connect_are_limited_and_more_get_429_before_the_upgrade(
    stream: NatsServer, auth: FakeAuth, limits: dict[str, int], elsewhere: int
) -> None:
    async with (
        running_gateway(stream, auth, trusted_proxies="127.0.0.1/32", **limits) as gateway,
        raw_socket(gateway.url, X_Forwarded_For="192.0.2.7"),
        raw_socket(gateway.url, X_Forwarded_For="192.0.2.7") as going,
        open_socket(gateway.url, headers={"X-Forwarded-For": "192.0.2.7"}) as client,
        aiohttp.ClientSession() as http,
    ):
        mine, other = (handshake(gateway.url, X_Forwarded_For=address) for address in ("192.0.2.7", "192.0.2.8"))
        upgrade = dict(line.split(": ", 1) for line in mine.decode().split("\r\n")[1:] if line)
        async with http.get(f"{gateway.url}/ws", headers=upgrade) as refused:
            error = (await refused.json())["error"]
        from_elsewhere = await status_of(gateway.url, other)
        await client.connect(auth.token("viewer"))
        going.writer.close()
        async with asyncio.timeout(10):
            while await status_of(gateway.url, mine) != 101:
                pass

    assert (refused.status, refused.headers["Retry-After"], error["code"]) == (429, "11", "too_many")
    assert "have not sent connect yet" in error["message"]
    assert error["retryAfterMs"] == 10_001
    assert from_elsewhere == elsewhere


@given(st.lists(st.tuples(st.sampled_from(["enter", "connect", "leave"]), st.integers(0, 9), st.sampled_from("ab"))))
def test_socket_counts_are_exact_however_sockets_open_connect_and_close(steps: list[tuple[str, int, str]]) -> None:
    door = Doorkeeper(Limits(max_connecting=5, max_connecting_per_address=3))
    there: dict[int, tuple[str, bool]] = {}
    for step, number, address in steps:
        if step == "enter" and number not in there:
            connecting = [one for one, connected in there.values() if not connected]
            full = len(connecting) >= 5 or connecting.count(address) >= 3
            try:
                door.enter(address)
                there[number] = (address, False)
                assert not full
            except LimitReached:
                assert full
        elif step == "connect" and there.get(number, ("", True))[1] is False:
            door.connected(there[number][0])
            there[number] = (there[number][0], True)
        elif step == "leave" and number in there:
            gone, connected = there.pop(number)
            door.leave(gone, was_connected=connected)

        assert door.addresses == Counter(one for one, _ in there.values())
        assert door.connecting == sum(not connected for _, connected in there.values())


def test_rates_of_a_user_are_kept_until_they_are_full_again() -> None:
    users = Users(Limits(messages_per_minute_per_user=60))
    users.of("u1").spend_message(1000.0)
    users.forget(1000.5)
    kept = len(users)
    users.forget(1001.0)

    assert (kept, len(users)) == (1, 0)
