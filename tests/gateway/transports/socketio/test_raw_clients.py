"""What Socket.IO clients are sent, byte for byte, and clients that no library would be."""

import json
from typing import Any

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, on_both_transports, running_gateway, settlement
from tests.gateway.events import BODY, raw_publish
from tests.socketio.clients import RawClient, raw_client

SUBJECT = "campaign.c1.settlement.s1"


async def connect(client: RawClient, gateway: Gateway, **auth: Any) -> Any:
    """Connect to the main namespace as `viewer`, and return the fields of the first event."""
    await client.say("40" + json.dumps({"token": gateway.auth.token("viewer"), **auth}))
    return json.loads((await client.hear_that('42["beaconfire:ack"'))[2:])[1]


async def offset_of(client: RawClient) -> tuple[str, int]:
    """The settlement and the offset of the next event."""
    _, payload, cursor = json.loads((await client.hear_that('42["settlement_updated"'))[2:])
    return payload["settlementId"], int(cursor.split(":")[1])


@on_both_transports
async def test_first_packets_are_those_of_the_protocol(gateway: Gateway) -> None:
    """An open packet, CONNECT with the session's id, and an event that ends with the cursor."""
    async with raw_client(gateway.url) as client:
        opened = json.loads((await client.hear_that("0"))[1:])
        await client.say("40" + json.dumps({"token": gateway.auth.token("viewer")}))
        connected = json.loads((await client.hear_that("40"))[2:])
        name, fields, cursor = json.loads((await client.hear_that("42"))[2:])

    assert (opened["pingInterval"], opened["pingTimeout"], opened["upgrades"]) == (25_000, 20_000, [])
    assert connected["sid"] == fields["sessionId"] != opened["sid"]
    assert (name, cursor) == ("beaconfire:ack", fields["cursor"])
    assert (fields["userId"], fields["heartbeatS"]) == ("viewer", 25)


async def test_payload_arrives_as_it_was_published(gateway: Gateway) -> None:
    """Numbers, characters and white space stay as the publisher wrote them."""
    payload = (
        b'{ "campaignId":"c1","settlementId":"s1","operation":"update","changedFields":["level"],'
        b'"n":1.0,"big":123456789012345678901234567890,"text":"\\u00fc\xc3\xbc" }'
    )
    body = json.dumps(BODY).encode().replace(json.dumps(BODY["payload"]).encode(), payload)
    async with raw_client(gateway.url) as client:
        await connect(client, gateway, rooms=["campaign:c1"])
        await raw_publish(gateway, SUBJECT, body)
        packet = await client.hear_that('42["settlement_updated"')

    assert packet.startswith('42["settlement_updated",' + payload.decode() + ',"')


async def test_idle_client_is_pinged_and_told_its_position(stream: NatsServer, auth: FakeAuth) -> None:
    """The position is an event that ends with the cursor, so that an idle client recovers from there."""
    async with running_gateway(stream, auth, heartbeat_s=1) as gateway, raw_client(gateway.url) as client:
        ack = await connect(client, gateway)
        await client.hear_that("2")
        await client.say("3")
        name, cursor = json.loads((await client.hear_that('42["beaconfire:position"'))[2:])

    assert name == "beaconfire:position"
    assert cursor.split(":")[0] == ack["cursor"].split(":")[0]


@on_both_transports
async def test_client_that_answers_no_ping_is_dropped(stream: NatsServer, auth: FakeAuth) -> None:
    """Without a close frame, because nothing may arrive at it."""
    async with running_gateway(stream, auth, heartbeat_s=1) as gateway, raw_client(gateway.url) as client:
        await connect(client, gateway)
        assert await client.closed() == 1006
        assert (await gateway.stats())["clients"] == 0


async def test_client_may_say_everything_at_once(gateway: Gateway) -> None:
    """With rooms and a cursor in its `auth`, it gets what it missed, in order and once, and then live events."""
    async with raw_client(gateway.url) as client:
        cursor = (await connect(client, gateway, rooms=["campaign:c1"]))["cursor"]
    for number in range(3):
        await gateway.publish(settlement(f"missed{number}"))
    async with raw_client(gateway.url) as client:
        await connect(client, gateway, rooms=["campaign:c1"], cursor=cursor)
        missed = [await offset_of(client) for _ in range(3)]
        live = await gateway.publish(settlement("live"))
        assert await offset_of(client) == ("live", live)

    assert [name for name, _ in missed] == ["missed0", "missed1", "missed2"]
    assert [offset for _, offset in missed] == sorted({offset for _, offset in missed})


async def test_client_whose_cursor_is_of_another_stream_is_told_to_start_over(gateway: Gateway) -> None:
    """By an event with the rooms and the reason."""
    async with raw_client(gateway.url) as client:
        await connect(client, gateway, rooms=["campaign:c1"], cursor="another:5")
        _, fields = json.loads((await client.hear_that('42["beaconfire:resync"'))[2:])

    assert fields["rooms"] == ["campaign:c1"]
    assert fields["reason"] == "epoch_changed"


async def test_subscription_with_a_cursor_restores_events_without_moving_the_clients_offset(gateway: Gateway) -> None:
    """Restored events end with an object. The acknowledgement comes after the last one."""
    async with raw_client(gateway.url) as client:
        cursor = (await connect(client, gateway))["cursor"]
        offset = await gateway.publish(settlement("missed"))
        await client.say("421" + json.dumps(["subscribe", {"rooms": ["campaign:c1"], "cursor": cursor}]))
        _, payload, last = json.loads((await client.hear_that('42["settlement_updated"'))[2:])
        answer = json.loads((await client.hear_that("431"))[3:])[0]

    assert payload["settlementId"] == "missed"
    assert last == {"restored": f"{cursor.split(':')[0]}:{offset}"}
    assert answer["rooms"]["campaign:c1"] == {"success": True, "recovered": True}


@pytest.mark.parametrize(
    "packets",
    [
        ("4511-" + '["a"]',),
        ('452-["a"]', b"x" * 9_000, b"x" * 9_000),
        ('451-["a"]', "3", '42["a"]'),
        ("40",),
        ('42["disconnect"]',),
        ("2",),
        ("5",),
    ],
    ids=["too many attachments", "attachments too large", "missing attachment", "twice", "reserved", "ping", "upgrade"],
)
async def test_packet_that_breaks_a_rule_closes_the_connection(gateway: Gateway, packets: tuple[str | bytes]) -> None:
    """Nothing of it has an effect."""
    async with raw_client(gateway.url) as client:
        await connect(client, gateway)
        await client.say(*packets)

        assert await client.closed() == 1002


async def test_flood_of_packets_that_are_no_events_closes_the_connection(gateway: Gateway) -> None:
    """No session's limits count them."""
    async with raw_client(gateway.url) as client:
        for _ in range(700):
            await client.say("40/nowhere")

        assert await client.closed() == 1002


async def test_client_that_enters_no_namespace_is_closed(stream: NatsServer, auth: FakeAuth) -> None:
    """Also one that has left all of its namespaces."""
    async with running_gateway(stream, auth, connect_timeout_s=1) as gateway:
        async with raw_client(gateway.url) as client:
            assert await client.closed() == 4408
        async with raw_client(gateway.url) as client:
            await connect(client, gateway)
            await client.say("41")
            assert await client.closed() == 4408


async def test_namespace_that_a_client_may_not_enter_leaves_its_others_alone(gateway: Gateway) -> None:
    """Also if the client asks again later."""
    async with raw_client(gateway.url) as client:
        await connect(client, gateway)
        await client.say('40/realtime,{"token":"nonsense"}')
        refusal = json.loads((await client.hear_that("44/realtime,")).removeprefix("44/realtime,"))
        await client.say('42/realtime,["late"]', '427["subscribe_campaign","c1"]')
        answer = await client.hear_that("437")
        await client.say("40/realtime," + json.dumps({"token": gateway.auth.token("viewer")}))
        await client.hear_that("40/realtime,")

    assert refusal["data"]["code"] == "token_invalid"
    assert '"success":true' in answer


async def test_client_over_a_limit_is_closed_and_may_come_back(stream: NatsServer, auth: FakeAuth) -> None:
    """The close frame has the error's code."""
    async with (
        running_gateway(stream, auth, max_sessions_per_user=1) as gateway,
        raw_client(gateway.url) as first,
        raw_client(gateway.url) as second,
    ):
        await connect(first, gateway)
        answering = first.answer_pings()
        await second.say("40" + json.dumps({"token": gateway.auth.token("viewer")}))
        assert await second.closed() == 4429
        answering.cancel()


async def test_page_of_another_origin_is_refused(gateway: Gateway) -> None:
    """Over WebSockets as over HTTP."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with raw_client(gateway.url, Origin="https://evil.example"):
            pass

    assert refused.value.status == 403


async def test_tokens_and_connection_ids_stay_out_of_the_log(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the id of a polling connection, a stranger could speak for its client."""
    by_query, by_auth = gateway.auth.token("viewer"), gateway.auth.token("owner")
    async with raw_client(gateway.url, f"EIO=4&transport=websocket&token={by_query}") as client:
        sid = json.loads((await client.hear_that("0"))[1:])["sid"]
        await client.say("40")
        await client.hear_that("40")
        await client.say("40/realtime," + json.dumps({"token": by_auth}))
        await client.hear_that("40/realtime,")
        await client.say("abc")
        await client.closed()

    log = capsys.readouterr().out
    assert "connected" in log
    for secret in (by_query, by_auth, sid):
        assert secret not in log
