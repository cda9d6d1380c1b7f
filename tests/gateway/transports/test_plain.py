"""The plain protocol at a real gateway, on sockets of ours and on aiohttp's."""

import asyncio
import json
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.process.settings import Settings
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.session import State
from beaconfire_gateway.transports.any_websocket import PING_FRAME
from beaconfire_gateway.transports.plain import PlainWebSocket
from beaconfire_gateway.wire.framing import TextFrames
from beaconfire_gateway.wire.messages import Connect
from beaconfire_gateway.wire.plain import Plain
from beaconfire_gateway.wire.websocket_frames import Opcode
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit.events.campaign import StateInvalidated
from beaconfire_kit.roles import Role
from tests.client import SocketClient, open_plain
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, on_both_transports, running_gateway, settlement
from tests.gateway.core import ENDS, SOCKETS, heard_by, open_descriptor
from tests.gateway.events import BODY, member, publish_as_auth, raw_publish
from tests.gateway.processes import gateway_process
from tests.websocket import connection, handshake

EVENT = "settlement_updated"
S1, S2 = "campaign:c1/settlement:s1", "campaign:c1/settlement:s2"


async def subscribe(client: SocketClient, *rooms: str, **fields: Any) -> dict[str, Any]:
    await client.socket.send_json({"type": "subscribe", "payload": {"rooms": rooms, **fields}})
    return await client.next("subscribe.ack")


async def offsets(client: SocketClient, count: int) -> list[int]:
    return [(await client.next(EVENT))["offset"] for _ in range(count)]


@on_both_transports
async def test_client_without_a_subprotocol_is_let_in_by_the_token_of_its_address(gateway: Gateway) -> None:
    async with open_plain(gateway.url, gateway.auth.token("owner")) as client:
        ack = await client.next("connection.ack")

    assert client.socket.protocol is None
    assert ack.keys() == {"type", "payload", "timestamp", "userId", "cursor"}
    assert ack["userId"] == ack["payload"]["userId"] == "owner"
    assert ack["payload"]["heartbeatS"] == 30
    assert abs(datetime.fromisoformat(ack["timestamp"]).timestamp() - time.time()) < 60


@on_both_transports
async def test_client_may_send_its_token_in_the_authorization_header(gateway: Gateway) -> None:
    headers = {"Authorization": f"Bearer {gateway.auth.token('owner')}"}
    async with open_plain(gateway.url, None, headers=headers) as client:
        ack = await client.next("connection.ack")

    assert ack["userId"] == "owner"


@on_both_transports
@pytest.mark.parametrize("token", [None, "", "x.y.z"])
async def test_client_whose_token_is_missing_or_wrong_is_closed_with_1008_and_a_reason(
    gateway: Gateway, token: str | None
) -> None:
    async with open_plain(gateway.url, token) as client:
        end = await client.closed()

    assert end.code == 1008
    assert "token" in end.reason


@on_both_transports
async def test_session_whose_token_runs_out_is_warned_and_closed_with_1008_unless_it_is_refreshed(
    gateway: Gateway,
) -> None:
    async with open_plain(gateway.url, gateway.auth.token("owner", ttl_s=2)) as client:
        await client.next("connection.ack")
        warning = await client.next("token.expiring")
        await client.socket.send_json({"type": "refresh", "payload": {"token": gateway.auth.token("owner", ttl_s=3)}})
        await client.next("refresh.ack")
        end = await client.closed()

    assert warning["payload"].keys() == {"inS"}
    assert end.code == 1008


@on_both_transports
async def test_lists_of_rooms_are_joined_and_left_and_events_have_the_shape_of_the_protocol(gateway: Gateway) -> None:
    async with open_plain(gateway.url, gateway.auth.token("viewer")) as client:
        joined = await subscribe(client, S1, S2, "campaign:c9")
        offset = await gateway.publish(settlement("s1"), user_id="editor")
        event = await client.next(EVENT)
        await client.socket.send_json({"type": "unsubscribe", "payload": {"rooms": [S1]}, "id": 7})
        left = await client.next("unsubscribe.ack")
        await gateway.publish(settlement("s1"))
        last = await gateway.publish(settlement("s2"))
        heard = await offsets(client, 1)

    rooms = joined["payload"]["rooms"]
    assert {name: one["success"] for name, one in rooms.items()} == {S1: True, S2: True, "campaign:c9": False}
    assert event.keys() == {"type", "payload", "timestamp", "userId", "id", "offset", "cursor"}
    assert event["payload"]["settlementId"] == "s1"
    assert (event["userId"], event["offset"], event["cursor"].partition(":")[2]) == ("editor", offset, str(offset))
    assert (left["id"], left["payload"]["rooms"]) == (7, {S1: {"success": True}})
    assert heard == [last]


@on_both_transports
async def test_messages_sent_before_the_ack_are_answered_after_it_in_order(gateway: Gateway) -> None:
    """A client may send as soon as its socket is open, while the gateway still asks about its token."""
    asked, answers = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        asked.set()
        await answers.wait()

    gateway.auth.before_answer = hold
    async with open_plain(gateway.url, gateway.auth.token("viewer")) as client:
        await asked.wait()
        for message in ({"type": "subscribe", "payload": ["campaign:c1"]}, {"type": "ping"}, {"type": "connect"}):
            await client.socket.send_json(message)
        answers.set()
        await client.next("error")

    assert [one["type"] for one in client.frames] == ["connection.ack", "subscribe.ack", "pong", "error"]
    assert client.frames[-1]["payload"]["message"] == "already connected"


@on_both_transports
async def test_event_in_several_rooms_of_a_session_comes_once(gateway: Gateway) -> None:
    async with open_plain(gateway.url, gateway.auth.token("viewer")) as client:
        await subscribe(client, "campaign:c1", S1)
        sent = [await gateway.publish(settlement("s1")) for _ in range(3)]
        heard = await offsets(client, 3)

    assert heard == sent


@on_both_transports
async def test_client_that_returns_with_its_cursor_and_rooms_gets_what_it_missed_in_order_and_once(
    gateway: Gateway,
) -> None:
    token = gateway.auth.token("viewer")
    async with open_plain(gateway.url, token, query={"rooms": "campaign:c1", "cursor": ""}) as client:
        await client.next("connection.ack")
        first = await gateway.publish(settlement())
        cursor = (await client.next(EVENT))["cursor"]
    missed = [await gateway.publish(settlement(f"s{number}")) for number in range(5)]
    async with open_plain(gateway.url, token, query={"rooms": "campaign:c1,user:viewer", "cursor": cursor}) as client:
        ack = await client.next("connection.ack")
        caught_up = await offsets(client, 5)
        live = await gateway.publish(settlement())
        heard = await offsets(client, 1)

    assert ack["cursor"] == cursor
    assert first < missed[0]
    assert (caught_up, heard) == (missed, [live])


@on_both_transports
async def test_client_that_returns_with_its_cursor_gets_what_it_missed_when_it_subscribes(gateway: Gateway) -> None:
    """A client of the existing system subscribes after the ack. A later room starts at the present."""
    token = gateway.auth.token("viewer")
    async with open_plain(gateway.url, token, query={"cursor": ""}) as client:
        cursor = (await client.next("connection.ack"))["cursor"]
    missed = [await gateway.publish(settlement("s1")), await gateway.publish(settlement("s2"))]
    async with open_plain(gateway.url, token, query={"cursor": cursor}) as client:
        await client.next("connection.ack")
        joined = await subscribe(client, "campaign:c1")
        later = await subscribe(client, S1)
        live = await gateway.publish(settlement("s1"))
        await client.next(EVENT)
        heard = [frame["offset"] for frame in client.frames if frame["type"] == EVENT]

    assert joined["payload"]["rooms"]["campaign:c1"] == {"success": True, "recovered": True}
    assert later["payload"]["rooms"][S1] == {"success": True}
    assert heard == [*missed, live]


@on_both_transports
async def test_no_message_moves_the_cursor_of_a_returning_client_before_it_has_subscribed(
    stream: NatsServer, auth: FakeAuth
) -> None:
    """It may lose its connection just then, and comes back with the cursor of the last message."""
    async with running_gateway(stream, auth, plain_ping_s=1, plain_dead_after_s=20) as gateway:
        token = auth.token("viewer")
        async with open_plain(gateway.url, token, query={"cursor": ""}) as client:
            cursor = (await client.next("connection.ack"))["cursor"]
        missed = [await gateway.publish(settlement()) for _ in range(3)]
        async with open_plain(gateway.url, token, query={"cursor": cursor}, autoping=False) as client:
            before = await messages_until_pings(client, 2)
        async with open_plain(gateway.url, token, query={"cursor": before[-1]["cursor"]}, autoping=False) as client:
            await client.next("connection.ack")
            await client.socket.send_json({"type": "subscribe", "payload": ["campaign:c2"]})  # not a member
            before += await messages_until_pings(client, 2)
            await client.socket.send_json({"type": "subscribe", "payload": ["campaign:c1"]})
            after = await messages_until_pings(client, 2)

    assert {one["cursor"] for one in before if "cursor" in one} == {cursor}
    assert [one["offset"] for one in after if one["type"] == EVENT] == missed
    assert after[-1]["type"] == "position"


async def messages_until_pings(client: SocketClient, pings: int) -> list[dict[str, Any]]:
    """Everything that comes until so many pings came, which are answered, and what came with the last one."""
    found: list[dict[str, Any]] = []
    while pings:
        message = await client.socket.receive(15)
        if message.type is aiohttp.WSMsgType.PING:
            pings -= 1
            await client.socket.pong()
        else:
            assert message.type is aiohttp.WSMsgType.TEXT
            found.append(json.loads(message.data))
    return found


@on_both_transports
async def test_cursor_that_history_does_not_reach_is_answered_with_resync(gateway: Gateway) -> None:
    query = {"rooms": "campaign:c1", "cursor": "another:5"}
    async with open_plain(gateway.url, gateway.auth.token("viewer"), query=query) as client:
        resync = await client.next("resync")

    assert resync["payload"]["rooms"] == ["campaign:c1"]
    assert resync["cursor"]


@on_both_transports
@pytest.mark.parametrize(
    ("query", "expected"), [({"cursor": "", "rooms": "campaign:c1"}, True), ({"rooms": "campaign:c1"}, False)]
)
async def test_only_client_that_keeps_a_cursor_is_sent_positions(
    stream: NatsServer, auth: FakeAuth, query: dict[str, str], expected: bool
) -> None:
    async with (
        running_gateway(stream, auth, plain_ping_s=1, plain_dead_after_s=20) as gateway,
        open_plain(gateway.url, auth.token("viewer"), query=query, autoping=False) as client,
    ):
        await client.next("connection.ack")
        heard = [one["type"] for one in await messages_until_pings(client, 2)]

    assert ("position" in heard) == expected
    assert set(heard) <= {"position"}


@on_both_transports
async def test_events_may_be_narrowed_to_types(gateway: Gateway) -> None:
    query = {"rooms": "campaign:c1", "types": "state_invalidated"}
    async with open_plain(gateway.url, gateway.auth.token("viewer"), query=query) as client:
        await client.next("connection.ack")
        await gateway.publish(settlement())
        await gateway.publish(StateInvalidated(scope="campaign", campaign_id="c1", affected_fields=("food",)))
        await client.next("state_invalidated")
        await subscribe(client, "campaign:c1", types=[EVENT])
        last = await gateway.publish(settlement())
        heard = await offsets(client, 1)

    assert heard == [last]


@on_both_transports
@pytest.mark.parametrize("text", ["{", "[]", '"subscribe"', "{} {}", "\u0000", '{"type":5}', "{}"])
async def test_malformed_json_is_answered_with_an_error_and_the_connection_goes_on(gateway: Gateway, text: str) -> None:
    async with open_plain(gateway.url, gateway.auth.token("viewer")) as client:
        await client.next("connection.ack")
        await client.socket.send_str(text)
        error = await client.next("error")
        await client.socket.send_json({"type": "ping"})
        pong = await client.next("pong")

    assert error.keys() == pong.keys() == {"type", "payload", "timestamp", "userId"}
    assert error["payload"]["code"] == "bad_request"


@on_both_transports
async def test_unknown_message_type_is_answered_logged_and_counted(gateway: Gateway) -> None:
    name = 'beaconfire_gateway_invalid_messages_total{code="unknown_type"}'

    async def count() -> float:
        lines = (await gateway.metrics()).splitlines()
        return float(next((line.split()[-1] for line in lines if line.startswith(name)), "0"))

    before = await count()
    with capture_logs() as lines:
        async with open_plain(gateway.url, gateway.auth.token("viewer")) as client:
            await client.next("connection.ack")
            await client.socket.send_json({"type": "presence.wave", "payload": {}, "id": "m1"})
            error = await client.next("error")
    logged = [line for line in lines if line["event"] == "invalid message"]

    assert (error["id"], error["payload"]["code"]) == ("m1", "unknown_type")
    assert "presence.wave" in error["payload"]["message"]
    assert await count() == before + 1
    assert [(line["user"], line["dialect"], line["code"]) for line in logged] == [("viewer", "plain", "unknown_type")]


@on_both_transports
async def test_flood_of_messages_is_refused_with_the_time_to_wait_and_then_closed(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with (
        running_gateway(stream, auth, messages_per_minute=5) as gateway,
        open_plain(gateway.url, auth.token("viewer")) as client,
    ):
        await client.next("connection.ack")
        for _ in range(120):
            await client.socket.send_json({"type": "ping"})
        error = await client.next("error")
        end = await client.closed()

    assert error["payload"]["code"] == "too_many"
    assert error["payload"]["retryAfterMs"] > 0
    assert end.code == 4429


@on_both_transports
async def test_client_that_answers_no_ping_is_dropped_and_leaves_its_rooms(stream: NatsServer, auth: FakeAuth) -> None:
    async with (
        running_gateway(stream, auth, plain_ping_s=1, plain_dead_after_s=2) as gateway,
        connection(gateway.url) as raw,
    ):
        query = urlencode({"token": auth.token("owner"), "rooms": "campaign:c1"})
        raw.write(handshake(gateway.url, path=f"/ws?{query}", drop="Sec-WebSocket-Protocol"))
        await raw.reader.readuntil(b"\r\n\r\n")
        frames = []
        while (frame := await raw.frame())[0] != Opcode.PING:
            frames.append(json.loads(frame[1])["type"])
        await raw.end()
        metrics = await gateway.metrics()

    assert frames == ["connection.ack"]
    assert "beaconfire_gateway_rooms 0.0" in metrics


async def test_connection_of_the_plain_protocol_is_pinged_every_30_s_and_dropped_after_60_s(core: Core) -> None:
    """Each on the gateway's own timer, from the last sign of life."""
    core.door.enter("an address")
    client = PlainWebSocket(
        core,
        Wire(Plain(resumes=False), TextFrames()),
        SOCKETS[core],
        open_descriptor(),
        address="an address",
        request=Connect(0, token="ann", rooms=("campaign:c1",)),
    )
    for _ in range(30):
        await asyncio.sleep(0)
    pinged, heard_at, second = [], 0, 0
    while client.state is State.LIVE:
        second += 1
        core.timers.turn(second)
        if PING_FRAME in heard_by(ENDS[-1]):
            pinged.append(second)
            if len(pinged) <= 3:
                client.heard()
                heard_at = second

    assert [later - before for before, later in pairwise(pinged)] == [30] * (len(pinged) - 1)
    assert len(pinged) == 4
    assert second - heard_at == 60


def test_time_until_a_silent_client_is_dropped_must_be_longer_than_the_pause_between_pings() -> None:
    with pytest.raises(ValidationError, match="more than PLAIN_PING_S"):
        Settings(plain_ping_s=60, plain_dead_after_s=60)


@on_both_transports
async def test_user_whose_membership_ends_leaves_the_room_and_is_told_why(gateway: Gateway) -> None:
    async with open_plain(gateway.url, gateway.auth.token("viewer")) as client:
        await subscribe(client, "campaign:c1")
        await publish_as_auth(gateway, member("viewer", None))
        left = await client.next("room.left")

    assert left["payload"]["room"] == "campaign:c1"


@on_both_transports
async def test_event_for_some_roles_is_kept_from_others(gateway: Gateway) -> None:
    async with (
        open_plain(gateway.url, gateway.auth.token("viewer"), query={"rooms": "campaign:c1"}) as viewer,
        open_plain(gateway.url, gateway.auth.token("owner"), query={"rooms": "campaign:c1"}) as owner,
    ):
        for client in (viewer, owner):
            await client.next("connection.ack")
        secret = await gateway.publish(settlement(), audience=(Role.OWNER,))
        public = await gateway.publish(settlement())
        heard = [await offsets(viewer, 1), await offsets(owner, 2)]

    assert heard == [[public], [secret, public]]


@on_both_transports
async def test_page_of_another_origin_is_refused(gateway: Gateway) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with open_plain(gateway.url, gateway.auth.token("viewer"), origin="https://evil.example"):
            pass

    assert refused.value.status == 403


@on_both_transports
@pytest.mark.parametrize(
    "query", [{"rooms": ",".join(f"campaign:c{number}" for number in range(101))}, {"cursor": "x" * 65}]
)
async def test_address_with_fields_out_of_bounds_is_refused_before_the_upgrade(
    gateway: Gateway, query: dict[str, str]
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with open_plain(gateway.url, gateway.auth.token("viewer"), query=query):
            pass

    assert refused.value.status == 400


@on_both_transports
async def test_client_that_offers_an_unknown_subprotocol_is_refused(gateway: Gateway) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with open_plain(gateway.url, gateway.auth.token("viewer"), protocols=["graphql-ws"]):
            pass

    assert refused.value.status == 400


@on_both_transports
async def test_token_of_an_address_is_in_no_log_line_and_no_metric(gateway: Gateway) -> None:
    tokens = [gateway.auth.token("viewer"), "not.a.token"]
    with capture_logs() as lines:
        for token in tokens:
            async with open_plain(gateway.url, token) as client:
                await client.socket.send_json({"type": "nonsense"})
                await client.socket.send_str("{")
                await client.socket.close()
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with open_plain(gateway.url, tokens[0], query={"cursor": "x" * 65}):
                pass
        text = json.dumps(lines, default=str) + await gateway.metrics()

    assert "refused handshake" in text
    assert [token for token in tokens if token in text] == []


@pytest.mark.parametrize("transport", ["handover", "aiohttp"])
async def test_stopping_gateway_closes_its_clients_one_after_the_other(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth, transport: str
) -> None:
    """The plain protocol has no `goaway`. A client that is closed later goes on hearing events until then."""
    settings = {"BEACONFIRE_STOP_TIMEOUT_S": "8", "BEACONFIRE_TRANSPORT": transport}
    async with (
        gateway_process(tmp_path, stream, auth, **settings) as process,
        open_plain(process.url, auth.token("viewer"), query={"rooms": "campaign:c1"}) as first,
        open_plain(process.url, auth.token("viewer"), query={"rooms": "campaign:c1"}) as last,
        connected(stream, "publisher") as nc,
    ):
        for client in (first, last):
            await client.next("connection.ack")
        process.terminate()
        ends = [await first.closed()]
        await nc.publish("campaign.c1.settlement.s1", json.dumps(BODY).encode())
        heard = await last.next(EVENT)
        ends.append(await last.closed())

    assert heard["id"] == "e1"
    assert [end.code for end in ends] == [4503] * 2


async def test_plain_messages_are_compressed_for_clients_that_agreed(stream: NatsServer, auth: FakeAuth) -> None:
    async with (
        running_gateway(stream, auth, compression=True) as gateway,
        open_plain(gateway.url, auth.token("viewer"), query={"rooms": "campaign:c1"}, compress=15) as client,
    ):
        await client.next("connection.ack")
        sent = await gateway.publish(settlement("s1", "c1", *["level"] * 50))
        heard = await offsets(client, 1)

    assert client.socket.compress == 15
    assert heard == [sent]


@on_both_transports
async def test_payload_reaches_the_client_as_it_was_published(gateway: Gateway) -> None:
    body = json.dumps(BODY).replace('"level"', '"caf\\u00e9"').encode()
    async with open_plain(gateway.url, gateway.auth.token("viewer"), query={"rooms": "campaign:c1"}) as client:
        await client.next("connection.ack")
        await raw_publish(gateway, "campaign.c1.settlement.s1", body)
        text = ""
        while EVENT not in text:
            text = await client.socket.receive_str()

    assert json.dumps(BODY["payload"]).replace('"level"', '"caf\\u00e9"') in text
