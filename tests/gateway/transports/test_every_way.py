"""One table of cases on every way into a gateway: who is let in, what is limited, and what a client is sent."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.sessions.limits import PATIENCE
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.campaign import WorldTimeChanged
from beaconfire_kit.events.workspace import UserTyping
from tests.cursors import cursor_of
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, running_gateway, settlement
from tests.gateway.events import member, publish_as_auth
from tests.gateway.slow_clients import slow_sessions
from tests.gateway.transports.ways import ROOM, WAYS, Heard, Refused, Visitor, Way

OURS, FOREIGN = "https://app.example", "https://evil.example"
every_way = pytest.mark.parametrize("way", WAYS, ids=str)
every_speaking_way = pytest.mark.parametrize("way", [way for way in WAYS if way.over.speaks], ids=str)
every_way_with_cors = pytest.mark.parametrize("way", [way for way in WAYS if way.over.crosses_origins], ids=str)
every_way_with_a_body = pytest.mark.parametrize("way", [way for way in WAYS if way.over.takes_body], ids=str)
TIME = WorldTimeChanged.model_validate(
    {
        "campaignId": "c1",
        "previousTime": "2026-11-21T10:00:00Z",
        "newTime": "2026-11-21T11:00:00Z",
        "elapsedSeconds": 3600,
    }
)


@pytest.fixture(name="gateway")
async def _gateway(stream: NatsServer, auth: FakeAuth, way: Way) -> AsyncIterator[Gateway]:
    """A gateway with the settings it is shipped with, for pages of one origin."""
    async with running_gateway(stream, auth, transport=way.transport, allowed_origins=(OURS,)) as gateway:
        yield gateway


async def there(gateway: Gateway) -> None:
    """Wait until one client is there. A client that polls is there while it waits."""
    while (await gateway.stats())["clients"] != 1:
        pass


async def waiting_for(gateway: Gateway, visitor: Visitor, kind: str) -> "asyncio.Task[Heard]":
    """Let the only client wait for a message of a kind."""
    task = asyncio.create_task(visitor.next(kind))
    await there(gateway)
    return task


# Origin and CORS.


@every_way
async def test_page_of_a_foreign_origin_is_refused_with_403(gateway: Gateway, way: Way) -> None:
    """A good token does not help it."""
    for origin in (FOREIGN, "null", OURS + ".evil.example", OURS.replace("https", "http")):
        with pytest.raises(Refused) as refused:
            async with way.open(gateway.url, gateway.auth.token("viewer"), headers={"Origin": origin}):
                pass
        assert refused.value.said == 403

    assert (await gateway.stats())["clients"] == 0


@every_way
async def test_own_page_the_page_of_a_configured_origin_and_a_program_are_let_in(gateway: Gateway, way: Way) -> None:
    for headers in ({}, {"Origin": OURS}, {"Origin": gateway.url}):
        async with way.open(gateway.url, gateway.auth.token("viewer"), headers=headers) as visitor:
            await gateway.publish(settlement("s1"))
            assert await visitor.settlements(1) == ["s1"]


@every_way_with_cors
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_browser_that_asks_first_is_told_what_the_page_may_do(gateway: Gateway, way: Way, method: str) -> None:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization,content-type"}
    async with aiohttp.ClientSession() as http:
        async with http.options(gateway.url + way.path, headers={"Origin": OURS, **asked}) as answer:
            allowed = answer.headers
        async with http.options(gateway.url + way.path, headers={"Origin": FOREIGN, **asked}) as answer:
            refused = answer.headers

    assert allowed["Access-Control-Allow-Origin"] == OURS
    assert allowed["Access-Control-Allow-Credentials"] == "true"
    assert method in allowed["Access-Control-Allow-Methods"]
    assert {"authorization", "content-type"} <= set(allowed["Access-Control-Allow-Headers"].lower().split(", "))
    assert "Access-Control-Allow-Origin" not in refused


@every_way_with_cors
async def test_page_may_read_answers_and_refusals_of_the_gateway(gateway: Gateway, way: Way) -> None:
    query, headers = {**way.query, "rooms": ROOM}, {"Origin": OURS}
    async with aiohttp.ClientSession() as http, http.get(gateway.url + way.path, params=query, headers=headers) as one:
        seen = one.headers

    assert seen["Access-Control-Allow-Origin"] == OURS
    assert seen["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in seen["Vary"]


# Tokens.


@every_way
@pytest.mark.parametrize(
    "token", ["", "nonsense-token", "eyJhbGciOiJub25lIn0.e30."], ids=["none", "nonsense", "alg none"]
)
async def test_client_without_a_valid_token_is_refused_and_its_token_is_logged_nowhere(
    gateway: Gateway, way: Way, token: str
) -> None:
    with capture_logs() as lines, pytest.raises(Refused) as refused:
        async with way.open(gateway.url, token):
            pass
    stats, metrics = await gateway.stats(), await gateway.metrics()

    assert refused.value.said == way.says["token_invalid"]
    assert (stats["clients"], stats["rooms"]) == (0, 0)
    if token:
        assert token not in f"{lines}{metrics}{refused.value}"


@every_way
async def test_client_whose_access_was_revoked_is_refused_and_logged_with_its_session_user_code_and_reason(
    gateway: Gateway, way: Way
) -> None:
    gateway.auth.revoked.add("viewer")
    try:
        with capture_logs() as lines, pytest.raises(Refused):
            async with way.open(gateway.url, gateway.auth.token("viewer")):
                pass
    finally:
        gateway.auth.revoked.discard("viewer")

    [logged] = [line for line in lines if line["event"] == "closing session"]
    assert (logged["user"], logged["code"]) == ("viewer", 4401)
    assert logged["reason"] == "access was revoked: sign in again"
    assert logged["session"]


@every_way
async def test_connection_ends_when_its_token_does(gateway: Gateway, way: Way) -> None:
    async with way.open(gateway.url, gateway.auth.token("viewer", ttl_s=2)) as visitor:
        assert await visitor.ended() == way.ends["token_invalid"]


@every_way
async def test_removed_member_is_told_and_hears_nothing_more(gateway: Gateway, way: Way) -> None:
    gateway.auth.members["viewer"]["campaign:c2"] = "viewer"
    async with way.open(gateway.url, gateway.auth.token("viewer"), [ROOM, "campaign:c2"]) as visitor:
        leaving = await waiting_for(gateway, visitor, "room.left")
        gateway.auth.members["viewer"], gateway.auth.version = {"campaign:c2": "viewer"}, 2
        await publish_as_auth(gateway, member("viewer", None))
        left = await leaving
        await gateway.publish(settlement("secret"))
        await gateway.publish(settlement("open", "c2"))
        heard = await visitor.settlements(1)

    assert (left.body["room"], left.body["reason"]) == (ROOM, "membership_removed")
    assert heard == ["open"]


@every_way
async def test_room_of_a_stranger_is_refused_in_the_ack_and_not_heard(gateway: Gateway, way: Way) -> None:
    async with way.open(gateway.url, gateway.auth.token("viewer"), [ROOM, "campaign:c2", "nonsense"]) as visitor:
        rooms = visitor.ack["rooms"]
        await gateway.publish(settlement("secret", "c2"))
        await gateway.publish(settlement("open"))
        heard = await visitor.settlements(1)

    assert rooms[ROOM] == {"success": True}
    assert (rooms["campaign:c2"]["error"]["code"], rooms["nonsense"]["error"]["code"]) == ("forbidden", "bad_room")
    assert heard == ["open"]


@every_way
async def test_event_for_editors_reaches_no_viewer_live_or_resumed(gateway: Gateway, way: Way) -> None:
    async with way.open(gateway.url, gateway.auth.token("viewer")) as visitor:
        cursor = visitor.cursor
        await gateway.publish(settlement("secret"), audience=("editor",))
        await gateway.publish(settlement("open"))
        live = await visitor.settlements(1)
    async with way.open(gateway.url, gateway.auth.token("viewer"), cursor=cursor) as visitor:
        resumed = await visitor.settlements(1)
    async with way.open(gateway.url, gateway.auth.token("editor"), cursor=cursor) as visitor:
        by_editor = await visitor.settlements(2)

    assert (live, resumed, by_editor) == (["open"], ["open"], ["secret", "open"])


@every_way
async def test_operators_see_by_which_way_a_client_is_there(gateway: Gateway, way: Way) -> None:
    """In the statistics and in the log."""
    with capture_logs() as lines:
        async with way.open(gateway.url, gateway.auth.token("viewer")) as visitor, visitor.reading():
            await there(gateway)
            stats = await gateway.stats()
    connected = next(line for line in lines if line["event"] == "connected")

    assert stats["clientsPerTransport"] == {way.over.name: 1}
    assert stats["clientsPerDialect"] == {way.dialect: 1}
    assert (connected["transport"], connected["dialect"]) == (way.over.name, way.dialect)


@every_way
async def test_nothing_of_a_client_stays_when_it_has_left(gateway: Gateway, way: Way) -> None:
    async with way.open(gateway.url, gateway.auth.token("viewer")):
        pass
    while (stats := await gateway.stats())["clients"] or stats["addresses"]:
        pass

    assert (stats["rooms"], stats["users"], stats["connecting"]) == (0, 0, 0)


# Limits.


@every_way
async def test_room_beyond_the_limit_is_refused_in_the_ack(stream: NatsServer, auth: FakeAuth, way: Way) -> None:
    rooms = [f"{ROOM}/settlement:s{number}" for number in range(3)]
    async with (
        running_gateway(stream, auth, transport=way.transport, max_rooms=2) as gateway,
        way.open(gateway.url, auth.token("viewer"), rooms) as visitor,
    ):
        answers = visitor.ack["rooms"]

    assert [answers[room]["success"] for room in rooms] == [True, True, False]
    assert answers[rooms[2]]["error"] == {"code": "too_many", "message": "a connection may be in 2 rooms"}


@every_way
async def test_connection_beyond_a_users_limit_is_refused(stream: NatsServer, auth: FakeAuth, way: Way) -> None:
    """As soon as another one has left, there is room again."""
    few = {"transport": way.transport, "max_sessions_per_user": 1, "max_sessions_per_address": 100}
    async with running_gateway(stream, auth, **few) as gateway:
        async with way.open(gateway.url, auth.token("viewer")) as first, first.reading():
            await there(gateway)
            with pytest.raises(Refused) as refused:
                async with way.open(gateway.url, auth.token("viewer")):
                    pass
            async with way.open(gateway.url, auth.token("owner")):
                pass
        while (await gateway.stats())["clients"]:
            pass
        async with way.open(gateway.url, auth.token("viewer")):
            pass

    assert refused.value.said == way.says["too_many"]


@every_way
async def test_user_that_connects_too_often_is_refused(stream: NatsServer, auth: FakeAuth, way: Way) -> None:
    few = {"transport": way.transport, "messages_per_minute_per_user": 3}
    async with running_gateway(stream, auth, **few) as gateway:
        for number in range(3):
            async with way.open(gateway.url, auth.token("viewer"), [f"{ROOM}/settlement:s{number}"]):
                pass
        with pytest.raises(Refused) as refused:
            async with way.open(gateway.url, auth.token("viewer")):
                pass
        async with way.open(gateway.url, auth.token("owner")):
            pass

    assert refused.value.said == way.says["too_many"]


@every_way
async def test_address_that_sends_invalid_tokens_is_told_to_wait_and_its_good_tokens_are_accepted(
    stream: NatsServer, auth: FakeAuth, way: Way
) -> None:
    few = {"transport": way.transport, "attempts_per_minute_address": 2}
    said = []
    async with running_gateway(stream, auth, **few) as gateway:
        for _ in range(3):
            with pytest.raises(Refused) as refused:
                async with way.open(gateway.url, "nonsense"):
                    pass
            said.append(refused.value.said)
        async with way.open(gateway.url, auth.token("viewer")):
            pass

    assert said == [way.says["token_invalid"], way.says["token_invalid"], way.says["too_many"]]


@every_speaking_way
async def test_client_that_floods_is_answered_first_and_then_cut_off_and_others_go_on(
    stream: NatsServer, auth: FakeAuth, way: Way
) -> None:
    few = {"transport": way.transport, "messages_per_minute": 5}
    async with (
        running_gateway(stream, auth, **few) as gateway,
        way.open(gateway.url, auth.token("viewer")) as flooding,
        way.open(gateway.url, auth.token("owner")) as other,
    ):
        for number in range(5 + PATIENCE + 20):
            try:
                await flooding.send(way.ping(number + 2))
            except (Refused, ConnectionError):
                break
        end = await flooding.ended()
        await gateway.publish(settlement("after"))
        heard = await other.settlements(1)

    assert end == way.ends["too_many"]
    assert heard == ["after"]


@every_speaking_way
async def test_message_that_is_too_large_ends_no_other_connection(gateway: Gateway, way: Way) -> None:
    async with (
        way.open(gateway.url, gateway.auth.token("viewer")) as large,
        way.open(gateway.url, gateway.auth.token("owner")) as other,
    ):
        try:
            await large.send(way.padded(16_384))
            end: Any = await large.ended()
        except Refused as refused:
            end = refused.said
        await gateway.publish(settlement("after"))
        heard = await other.settlements(1)

    assert end == way.ends["too_large"]
    assert heard == ["after"]


@every_way_with_a_body
async def test_first_request_that_is_too_large_is_refused_with_413(gateway: Gateway, way: Way) -> None:
    body = {"rooms": [ROOM], "padding": "x" * 900_000}
    headers = {"Authorization": f"Bearer {gateway.auth.token('viewer')}"}
    async with aiohttp.ClientSession(headers=headers) as http, http.post(gateway.url + way.path, json=body) as answer:
        error = (await answer.json())["error"]

    assert (answer.status, error["code"]) == (413, "too_large")
    assert (await gateway.stats())["clients"] == 0


@every_speaking_way
async def test_unknown_message_is_answered_logged_and_counted_and_the_connection_goes_on(
    gateway: Gateway, way: Way
) -> None:
    async with way.open(gateway.url, gateway.auth.token("viewer")) as visitor:
        before = await unknown_messages(gateway)
        with capture_logs() as lines:
            await visitor.send(way.ping(7, "wave"))
            told = await visitor.find(lambda heard: heard.body.get("code") == "unknown_type")
        after = await unknown_messages(gateway)
        await gateway.publish(settlement("after"))
        heard = await visitor.settlements(1)

    assert "wave" in str(told.body)
    assert after == before + 1
    assert [(one["user"], one["code"]) for one in lines if one["event"] == "invalid message"] == [
        ("viewer", "unknown_type")
    ]
    assert heard == ["after"]


async def unknown_messages(gateway: Gateway) -> float:
    """How many messages of unknown types this process has refused."""
    name = 'beaconfire_gateway_invalid_messages_total{code="unknown_type"}'
    lines = (await gateway.metrics()).splitlines()
    return float(next((line.split()[-1] for line in lines if line.startswith(name)), "0"))


# Delivery.


@every_way
async def test_client_that_does_not_read_gets_everything_later_and_delays_no_other(
    stream: NatsServer, auth: FakeAuth, way: Way
) -> None:
    small = {"transport": way.transport, "max_buffer_bytes": 16_384}
    names = [f"s{number}" for number in range(200)]
    async with running_gateway(stream, auth, **small) as gateway:
        before = await slow_sessions(gateway)
        async with (
            way.open(gateway.url, auth.token("viewer")) as slow,
            way.open(gateway.url, auth.token("owner"), ["campaign:c1/settlement:s199"]) as quick,
        ):
            for name in names:
                await gateway.publish(settlement(name, "c1", *["x" * 1000] * 60))
            first = await quick.settlements(1)
            lagging = await slow_sessions(gateway)
            heard = await slow.settlements(len(names))

    assert first == ["s199"]
    assert (lagging != before) is way.over.stays
    assert heard == names


@every_way
async def test_client_that_resumes_gets_what_it_missed_once_in_order_and_then_live_events(
    stream: NatsServer, auth: FakeAuth, way: Way
) -> None:
    """At the gateway that it left, and at another one."""
    async with (
        running_gateway(stream, auth, transport=way.transport) as first,
        running_gateway(stream, auth, transport=way.transport) as second,
    ):
        async with way.open(first.url, auth.token("viewer")) as visitor:
            for name in ("a", "b", "c"):
                await first.publish(settlement(name))
            heard = await visitor.settlements(1)
            cursor = visitor.cursor
        await first.publish(settlement("elsewhere", "c2"))
        await first.publish(settlement("d"))
        resumed = []
        for gateway in (second, first):
            async with way.open(gateway.url, auth.token("viewer"), cursor=cursor) as visitor:
                missed = await visitor.settlements(3)
                await gateway.publish(settlement("live"))
                resumed.append([*missed, *await visitor.settlements(1)])
                cursor = visitor.cursor
            if gateway is second:
                for name in ("e", "f", "g"):
                    await first.publish(settlement(name))

    assert heard == ["a"]
    assert resumed == [["b", "c", "d", "live"], ["e", "f", "g", "live"]]


@every_way
async def test_client_that_never_heard_an_event_resumes_from_its_ack(gateway: Gateway, way: Way) -> None:
    async with way.open(gateway.url, gateway.auth.token("viewer")) as visitor:
        cursor = visitor.cursor
    await gateway.publish(settlement("missed"))
    async with way.open(gateway.url, gateway.auth.token("viewer"), cursor=cursor) as visitor:
        heard = await visitor.settlements(1)

    assert heard == ["missed"]


@every_way
@pytest.mark.parametrize(
    ("cursor", "reason"),
    [("another:5", "epoch_changed"), ("nonsense", "epoch_changed"), ("{epoch}:99999999", "ahead")],
)
async def test_client_with_an_unusable_cursor_is_told_and_goes_on_live(
    gateway: Gateway, way: Way, cursor: str, reason: str
) -> None:
    async with way.open(gateway.url, gateway.auth.token("viewer")) as visitor:
        epoch = cursor_of(visitor.cursor).epoch
    wanted = cursor.replace("{epoch}", epoch)
    async with way.open(gateway.url, gateway.auth.token("viewer"), cursor=wanted) as visitor:
        resync = await visitor.next("resync")
        after = visitor.cursor
        await gateway.publish(settlement("live"))
        heard = await visitor.settlements(1)

    assert resync.body["reason"] == reason
    assert cursor_of(after).epoch == epoch
    assert heard == ["live"]


@every_way
async def test_client_gets_only_the_types_it_asked_for_live_and_resumed(gateway: Gateway, way: Way) -> None:
    wanted = ["settlement_updated"]
    async with way.open(gateway.url, gateway.auth.token("viewer"), types=wanted) as visitor:
        cursor = visitor.cursor
        await gateway.publish(TIME)
        await gateway.publish(settlement("one"))
        live = await visitor.settlements(1)
    async with way.open(gateway.url, gateway.auth.token("viewer"), types=wanted, cursor=cursor) as visitor:
        resumed = await visitor.settlements(1)

    assert (live, resumed) == (["one"], ["one"])


@every_way
async def test_ephemeral_event_leaves_the_cursor_where_it_is(gateway: Gateway, way: Way) -> None:
    gateway.auth.members["viewer"]["workspace:w1"] = "viewer"
    typing = UserTyping(workspace_id="w1", target_kind="chat", target_id="h1", user_id="u1")
    async with way.open(gateway.url, gateway.auth.token("viewer"), [ROOM, "workspace:w1"]) as visitor:
        await gateway.publish(settlement("one"))
        await visitor.settlements(1)
        before = visitor.cursor
        hearing = await waiting_for(gateway, visitor, "event")
        envelope = Envelope(typing, Metadata(source="api"))
        await gateway.publisher.publish(envelope.subject, envelope.encode())
        heard = await hearing
        after = visitor.cursor
    await gateway.publish(settlement("two"))
    async with way.open(gateway.url, gateway.auth.token("viewer"), cursor=after) as visitor:
        resumed = await visitor.settlements(1)

    assert heard.body["type"] == "user.typing"
    assert cursor_of(after).offset >= cursor_of(before).offset
    assert resumed == ["two"]


# The end.


@every_way
async def test_gateway_that_stops_ends_the_connection_and_its_client_resumes_elsewhere(
    stream: NatsServer, auth: FakeAuth, way: Way
) -> None:
    running = running_gateway(stream, auth, transport=way.transport, stop_timeout_s=1)
    async with running_gateway(stream, auth, transport=way.transport) as other:
        gateway = await running.__aenter__()
        async with way.open(gateway.url, auth.token("viewer")) as visitor:
            await gateway.publish(settlement("one"))
            await visitor.settlements(1)
            stopping = asyncio.create_task(running.__aexit__(None, None, None))
            end = await visitor.ended()
            cursor = visitor.cursor
        await stopping
        await other.publish(settlement("two"))
        async with way.open(other.url, auth.token("viewer"), cursor=cursor) as visitor:
            heard = await visitor.settlements(1)

    assert end == way.ends["unavailable"]
    assert heard == ["two"]


REMAINING = {
    "beaconfire.v1": '{"type": "ping", "id": 9, "remaining": true}',
    "beaconfire.v1.msgpack": '{"type": "ping", "id": 9, "remaining": true}',
    "plain": '{"type": "ping", "payload": {"remaining": true}}',
    "socketio": '429["ping", {"remaining": true}]',
}


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_client_can_ask_what_remains_of_its_limits(stream: NatsServer, auth: FakeAuth, way: Way) -> None:
    async with (
        running_gateway(stream, auth, transport=way.transport) as gateway,
        way.open(gateway.url, auth.token("viewer")) as visitor,
    ):
        await visitor.send(REMAINING[way.dialect])
        heard = await visitor.find(lambda one: "remaining" in one.body)

    per_minute = {name for name in visitor.ack["limits"] if "PerMinute" in name}
    assert heard.body["remaining"].keys() == per_minute
