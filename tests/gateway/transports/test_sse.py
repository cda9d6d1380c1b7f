"""Server-sent events at `/sse`, on sockets of ours and on aiohttp's."""

import asyncio
import json
import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.events.campaign import WorldTimeChanged
from beaconfire_kit.roles import Role
from tests.event_streams import WAIT_S, Parser, drop_all, open_stream, raw_stream
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, on_both_transports, running_gateway, settlement
from tests.gateway.events import BODY, member, publish_as_auth, raw_publish
from tests.gateway.processes import gateway_process
from tests.gateway.slow_clients import flood, slow_sessions

pytestmark = on_both_transports

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def test_stream_has_the_ack_and_then_events_with_their_cursors(gateway: Gateway) -> None:
    async with open_stream(gateway.url, gateway.auth.token("viewer")) as stream:
        ack = await stream.next("connection.ack")
        offset = await gateway.publish(settlement())
        event = await stream.next("message")

    epoch = ack.json["cursor"].partition(":")[0]
    assert (ack.id, ack.json["rooms"]) == (ack.json["cursor"], {"campaign:c1": {"success": True}})
    assert event.id == f"{epoch}:{offset}"
    assert event.json["type"] == "event"
    assert event.json["event"]["type"] == "settlement_updated"
    assert stream.parser.retry_ms is not None


async def test_stream_goes_on_after_the_last_event_id(gateway: Gateway) -> None:
    """It wins over the cursor in the query: an `EventSource` repeats its address with every connection."""
    async with open_stream(gateway.url, gateway.auth.token("viewer")) as stream:
        start = (await stream.ack())["cursor"]
        offsets = [await gateway.publish(settlement(f"s{number}")) for number in range(3)]
        first = await stream.next("message")
    headers = {"Last-Event-ID": first.id}
    async with open_stream(gateway.url, gateway.auth.token("viewer"), headers=headers, cursor=start) as stream:
        resumed = await stream.offsets(2)

    assert resumed == offsets[1:]


async def test_last_event_id_that_is_no_cursor_is_refused_or_answered_with_resync(gateway: Gateway) -> None:
    token = gateway.auth.token("viewer")
    async with open_stream(gateway.url, token, headers={"Last-Event-ID": "x" * 65}) as long:
        pass
    async with open_stream(gateway.url, token, headers={"Last-Event-ID": "nonsense"}) as stream:
        resync = await stream.next("resync")

    assert long.answer.status == 400
    assert resync.json["rooms"] == ["campaign:c1"]


async def test_headers_keep_proxies_from_buffering_and_compressing(gateway: Gateway) -> None:
    async with open_stream(gateway.url, gateway.auth.token("viewer")) as stream:
        headers = stream.answer.headers

    assert headers["Content-Type"] == "text/event-stream"
    assert headers["Cache-Control"] == "no-store, no-transform"
    assert headers["X-Accel-Buffering"] == "no"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Correlation-Id"]
    assert headers["Date"].endswith("GMT")


@pytest.mark.parametrize(
    ("token", "query", "status", "code"),
    [
        ("", {}, 401, "token_invalid"),
        ("nonsense", {}, 401, "token_invalid"),
        ("viewer", {"cursor": "x" * 65}, 400, "bad_request"),
        ("viewer", {"wait": "3"}, 400, "bad_request"),
        ("viewer", {"token": "x"}, 400, "bad_request"),
    ],
    ids=["no token", "bad token", "long cursor", "unknown parameter", "token in the address"],
)
async def test_refusal_is_an_answer_with_its_own_status(
    gateway: Gateway, token: str, query: dict[str, Any], status: int, code: str
) -> None:
    signed = gateway.auth.token(token) if token == "viewer" else token
    async with open_stream(gateway.url, signed, **query) as stream:
        body = await stream.answer.json()

    assert (stream.answer.status, body["error"]["code"]) == (status, code)
    assert stream.answer.headers["X-Correlation-Id"]
    assert stream.answer.headers["Cache-Control"] == "no-store"
    assert (await gateway.stats())["clients"] == 0


async def test_hundred_rooms_come_in_the_body_of_a_post(gateway: Gateway) -> None:
    rooms = [f"campaign:c1/settlement:{'s' * 50}{number}" for number in range(99)]
    body = {"rooms": ["campaign:c1", *rooms], "types": {"campaign:c1": ["world_time_changed"]}}
    headers = {"Authorization": f"Bearer {gateway.auth.token('viewer')}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{gateway.url}/sse", json=body) as answer,
    ):
        head = await answer.content.readuntil(b"connection.ack")

    assert answer.status == 200
    assert head


async def test_stream_says_why_it_ends_and_then_ends(gateway: Gateway) -> None:
    """The last event has what a WebSocket's close frame would have."""
    async with open_stream(gateway.url, gateway.auth.token("viewer", ttl_s=2)) as stream:
        await stream.next("token.expiring")
        close = await stream.next("close")
        await stream.ended()

    assert close.json == {"type": "close", "code": 4401, "reason": "the token ran out"}


async def test_removed_member_hears_of_it_and_nothing_more_of_the_room(gateway: Gateway) -> None:
    gateway.auth.members["viewer"]["campaign:c2"] = "viewer"
    rooms = "campaign:c1,campaign:c2"
    async with open_stream(gateway.url, gateway.auth.token("viewer"), rooms=rooms) as stream:
        await stream.ack()
        await publish_as_auth(gateway, member("viewer", None))
        left = await stream.next("room.left")
        await gateway.publish(settlement())
        other = await gateway.publish(settlement(campaign_id="c2"))
        offsets = await stream.offsets(1)

    assert (left.json["room"], left.json["reason"]) == ("campaign:c1", "membership_removed")
    assert offsets == [other]


async def test_stream_has_only_the_types_it_asked_for_and_only_what_its_role_may_see(gateway: Gateway) -> None:
    async with open_stream(
        gateway.url, gateway.auth.token("viewer"), types="settlement_updated,state_invalidated"
    ) as stream:
        await stream.ack()
        await gateway.publish(settlement("secret"), audience=(Role.OWNER,))
        await gateway.publish(WorldTimeChanged(campaign_id="c1", previous_time=NOON, new_time=NOON, elapsed_seconds=0))
        heard = await gateway.publish(settlement("open"))
        offsets = await stream.offsets(1)

    assert offsets == [heard]


async def test_unknown_type_is_a_refusal_of_its_rooms(gateway: Gateway) -> None:
    async with open_stream(gateway.url, gateway.auth.token("viewer"), types="nonsense") as stream:
        ack = await stream.ack()

    assert ack["rooms"]["campaign:c1"]["error"]["code"] == "unknown_type"


async def test_lost_history_is_told_by_a_resync_whose_cursor_is_its_id(gateway: Gateway) -> None:
    async with open_stream(gateway.url, gateway.auth.token("viewer"), cursor="an:1") as stream:
        resync = await stream.next("resync")

    assert resync.json["rooms"] == ["campaign:c1"]
    assert resync.id == resync.json["cursor"]


async def test_new_lines_in_a_publishers_json_do_not_end_the_data(gateway: Gateway) -> None:
    """A publisher in any language may indent its JSON, with any line ends. Texts keep theirs."""
    payload = {**BODY["payload"], "changedFields": ["a\nb\r\nc"]}
    pretty = json.dumps({**BODY, "payload": payload}, indent=2)
    async with open_stream(gateway.url, gateway.auth.token("viewer")) as stream:
        await stream.ack()
        for number, line_end in enumerate(("\n", "\r\n", "\r")):
            body = pretty.replace('"e1"', f'"e{number}"').replace("\n", line_end)
            await raw_publish(gateway, "campaign.c1.settlement.s1", body.encode())
        events = [await stream.next("message") for _ in range(3)]

    assert [one.json["event"]["id"] for one in events] == ["e0", "e1", "e2"]
    assert {one.json["event"]["payload"]["changedFields"][0] for one in events} == {"a\nb\r\nc"}


async def test_session_that_another_connection_replaces_is_ended(gateway: Gateway) -> None:
    token = gateway.auth.token("viewer")
    async with open_stream(gateway.url, token) as old:
        first = await old.ack()
        async with open_stream(gateway.url, token, replaces=first["sessionId"], cursor=first["cursor"]) as new:
            await new.ack()
            close = await old.next("close")

    assert close.json["code"] == 1000


async def test_silent_stream_has_comments_and_positions(stream: NatsServer, auth: FakeAuth) -> None:
    """A comment keeps proxies from ending the answer. A position moves the id on while no event comes."""
    async with (
        running_gateway(stream, auth, heartbeat_s=1) as gateway,
        open_stream(gateway.url, auth.token("viewer")) as client,
    ):
        await client.ack()
        offset = await gateway.publish(settlement(campaign_id="another"))
        await client.comments(2)
        position = await client.next("position")
        while int(position.json["cursor"].partition(":")[2]) < offset:
            position = await client.next("position")

    assert position.id == position.json["cursor"]


async def test_stream_whose_client_vanished_is_dropped(stream: NatsServer, auth: FakeAuth) -> None:
    """Its computer is gone without a word: nothing is acknowledged any more. Another client's stream goes on."""
    async with (
        running_gateway(stream, auth, heartbeat_s=1) as gateway,
        open_stream(gateway.url, auth.token("owner")) as living,
        raw_stream(gateway.url, auth.token("viewer")) as gone,
    ):
        await living.ack()
        drop_all(gone)
        async with asyncio.timeout(WAIT_S):
            while (await gateway.stats())["clients"] > 1:
                await living.comments(living.parser.comments + 1)
        offset = await gateway.publish(settlement())
        offsets = await living.offsets(1)

    assert offsets == [offset]


async def test_vanished_streams_do_not_keep_their_client_out(stream: NatsServer, auth: FakeAuth) -> None:
    async with (
        running_gateway(stream, auth, max_sessions_per_user=1) as gateway,
        raw_stream(gateway.url, auth.token("viewer")) as gone,
    ):
        drop_all(gone)
        async with open_stream(gateway.url, auth.token("viewer")) as back:
            ack = await back.ack()

    assert ack["userId"] == "viewer"


async def test_streams_of_a_user_are_limited_and_the_refusal_has_a_status(stream: NatsServer, auth: FakeAuth) -> None:
    async with (
        running_gateway(stream, auth, max_sessions_per_user=1) as gateway,
        open_stream(gateway.url, auth.token("viewer")) as first,
    ):
        await first.ack()
        async with open_stream(gateway.url, auth.token("viewer")) as second:
            body = await second.answer.json()
        offset = await gateway.publish(settlement())
        offsets = await first.offsets(1)

    assert (second.answer.status, body["error"]["code"]) == (429, "too_many")
    assert offsets == [offset]


async def test_page_of_a_foreign_origin_gets_no_stream(stream: NatsServer, auth: FakeAuth) -> None:
    app = "https://app.example"
    async with running_gateway(stream, auth, allowed_origins=app) as gateway:
        async with open_stream(
            gateway.url, auth.token("viewer"), headers={"Origin": "https://evil.example"}
        ) as foreign:
            pass
        async with open_stream(gateway.url, auth.token("viewer"), headers={"Origin": app}) as ours:
            await ours.ack()
        async with open_stream(gateway.url, "nonsense", headers={"Origin": app}) as refused:
            pass

    assert foreign.answer.status == 403
    assert refused.answer.status == 401
    for answer in (ours.answer, refused.answer):
        assert answer.headers["Access-Control-Allow-Origin"] == app
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"


async def test_stopping_gateway_sends_goaway_and_ends_the_stream_in_time(stream: NatsServer, auth: FakeAuth) -> None:
    """An `EventSource` does not know `goaway`. It connects again when the answer ends."""
    async with AsyncExitStack() as stack:
        running = AsyncExitStack()
        gateway = await running.enter_async_context(running_gateway(stream, auth, stop_timeout_s=4))
        client = await stack.enter_async_context(open_stream(gateway.url, auth.token("viewer")))
        await client.ack()
        stopping = asyncio.create_task(running.aclose())
        goaway = await client.next("goaway")
        close = await client.next("close")
        await client.ended()
        await stopping

    assert goaway.json["withinMs"] == 4_000
    assert close.json["code"] == 4503


async def test_client_that_reads_nothing_catches_up_in_order_when_it_reads(stream: NatsServer, auth: FakeAuth) -> None:
    async with (
        running_gateway(stream, auth, max_buffer_bytes=16_384) as gateway,
        raw_stream(gateway.url, auth.token("viewer")) as slow,
    ):
        before = await slow_sessions(gateway)
        last = await flood(gateway, 500, 20)
        async with asyncio.timeout(WAIT_S):
            while await slow_sessions(gateway) == before:
                last = await flood(gateway, 100, 20)
        parser, offsets = Parser(), list[int]()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(WAIT_S):
            while not offsets or offsets[-1] != last:
                data = await loop.sock_recv(slow, 65_536)
                events = parser.feed(data)
                offsets += [event.json["offset"] for event in events if event.name == "message"]

    assert offsets == list(range(offsets[0], last + 1))


async def test_gateway_process_keeps_living_streams_and_drops_vanished_ones(
    tmp_path: Path, stream: NatsServer, auth: FakeAuth
) -> None:
    """As operators run it, on uvloop. The living stream goes on through many heartbeats."""
    settings = {"BEACONFIRE_HEARTBEAT_S": "1", "BEACONFIRE_TRANSPORT": os.environ["BEACONFIRE_TRANSPORT"]}
    async with (
        gateway_process(tmp_path, stream, auth, **settings) as process,
        open_stream(process.url, auth.token("owner")) as living,
        raw_stream(process.url, auth.token("viewer")) as gone,
        aiohttp.ClientSession() as http,
    ):
        await living.ack()
        drop_all(gone)
        clients = 2
        async with asyncio.timeout(WAIT_S):
            while clients > 1:
                await living.comments(living.parser.comments + 1)
                async with http.get(f"{process.ops_url}/api/v1/ws/stats") as answer:
                    clients = (await answer.json())["clients"]
        await living.comments(living.parser.comments + 3)

    assert clients == 1


async def test_stream_begins_on_a_connection_that_was_used_before(gateway: Gateway) -> None:
    """Proxies use one connection for many requests."""
    at = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    head = f"Host: x\r\nAuthorization: Bearer {gateway.auth.token('viewer')}\r\n\r\n"
    async with asyncio.timeout(WAIT_S):
        for _ in range(2):
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"}")
        writer.write(f"GET /sse?rooms=campaign:c1 HTTP/1.1\r\n{head}".encode())
        await reader.readuntil(b"connection.ack")
        offset = await gateway.publish(settlement())
        await reader.readuntil(b'"offset":%d' % offset)
    writer.close()
