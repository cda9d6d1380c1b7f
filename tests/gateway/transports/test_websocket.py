"""The WebSocket edge over real sockets: handshake, frames, close, and what it needs of aiohttp."""

import gc
import json

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.wire.websocket_frames import Opcode, encode
from tests.client import Closed, SocketClient, open_socket
from tests.cursors import cursor_of
from tests.fakes import FakeAuth
from tests.gateway.conftest import Gateway, on_both_transports, running_gateway, settlement
from tests.gateway.connections import aiohttp_handlers
from tests.websocket import client_frame, handshake, raw_socket, status_of


@on_both_transports
async def test_connect_with_a_valid_token_gets_an_ack_with_cursor_limits_and_each_rooms_answer(
    gateway: Gateway,
) -> None:
    async with open_socket(gateway.url) as client:
        ack = await client.connect(
            gateway.auth.token("owner"), ["campaign:c1", "campaign:c2", "settlement:", "campaign:*"]
        )

    assert ack["type"] == "connection.ack"
    assert ack["userId"] == "owner"
    assert cursor_of(ack["cursor"]).offset >= 0
    assert ack["limits"] == {
        "maxFrameBytes": 16384,
        "maxRooms": 100,
        "maxRoomsPerUser": 1000,
        "maxSessionsPerUser": 20,
        "maxSessionsPerAddress": 200,
        "messagesPerMinute": 100,
        "messagesPerMinutePerUser": 1000,
        "roomsPerMinute": 600,
        "roomsPerMinutePerUser": 3000,
        "typingPerMinutePerUser": 60,
        "statusesPerMinutePerUser": 30,
        "selectionsPerMinutePerUser": 120,
    }
    codes = {name: room.get("error", {}).get("code") for name, room in ack["rooms"].items()}
    assert codes == {
        "campaign:c1": None,
        "campaign:c2": "forbidden",
        "settlement:": "bad_room",
        "campaign:*": "bad_room",
    }


async def test_token_may_be_in_the_query_and_an_invalid_one_there_is_refused(gateway: Gateway) -> None:
    url = f"{gateway.url.replace('http', 'ws')}/ws?token="
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(url + gateway.auth.token("owner"), protocols=["beaconfire.v1"]) as socket:
            ack = await SocketClient(socket).ask("connect", rooms=["campaign:c1"])
        async with http.ws_connect(url + "nonsense", protocols=["beaconfire.v1"]) as socket:
            with pytest.raises(Closed) as end:
                await SocketClient(socket).ask("connect")

    assert ack["rooms"] == {"campaign:c1": {"success": True}}
    assert end.value.code == 4401


@on_both_transports
async def test_token_may_be_a_bearer_token_of_the_upgrade(gateway: Gateway) -> None:
    headers = {"Authorization": f"Bearer {gateway.auth.token('owner')}"}
    async with open_socket(gateway.url, headers=headers) as client:
        ack = await client.ask("connect", rooms=["campaign:c1"])

    assert ack["rooms"] == {"campaign:c1": {"success": True}}


@on_both_transports
@pytest.mark.parametrize(
    "token",
    ["", "nonsense", "a.b.c", "x" * 16_000],
    ids=["none", "nonsense", "three parts", "far too long"],
)
async def test_invalid_tokens_are_closed_with_4401_and_one_reason(gateway: Gateway, token: str) -> None:
    async with open_socket(gateway.url) as client:
        with pytest.raises(Closed) as end:
            await client.connect(token)

    assert end.value.code == 4401
    assert end.value.reason == "the token is missing, invalid or expired"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "https://app.example.evil.example",
        "https://evil-app.example",
        "http://app.example",
        "https://app.example:444",
        "https://APP.EXAMPLE",
        "",
    ],
)
async def test_foreign_origin_is_refused_before_the_upgrade(stream: NatsServer, auth: FakeAuth, origin: str) -> None:
    async with running_gateway(stream, auth, allowed_origins="https://app.example") as gateway:
        status = await status_of(gateway.url, handshake(gateway.url, Origin=origin))

    assert status == 403


async def test_configured_own_and_missing_origins_may_connect_and_two_origins_may_not(
    stream: NatsServer, auth: FakeAuth
) -> None:
    async with running_gateway(stream, auth, allowed_origins="https://app.example") as gateway:
        configured = await status_of(gateway.url, handshake(gateway.url, Origin="https://app.example"))
        own = await status_of(gateway.url, handshake(gateway.url, Origin=gateway.url))
        none = await status_of(gateway.url, handshake(gateway.url))
        two = await status_of(
            gateway.url, handshake(gateway.url, Origin="https://app.example\r\nOrigin: https://app.example")
        )

    assert (configured, own, none, two) == (101, 101, 101, 403)


@pytest.mark.parametrize(
    ("drop", "headers"),
    [
        ("Upgrade", {}),
        ("Connection", {}),
        ("Sec-WebSocket-Key", {}),
        ("Sec-WebSocket-Version", {}),
        ("", {"Sec_WebSocket_Protocol": "graphql-ws"}),
        ("", {"Sec_WebSocket_Protocol": "Beaconfire.v1"}),
        ("", {"Sec_WebSocket_Version": "8"}),
        ("", {"Sec_WebSocket_Key": "c2hvcnQ="}),
        ("", {"Sec_WebSocket_Key": "not base64 at all!"}),
        ("", {"Upgrade": "h2c"}),
        ("", {"Upgrade": "websocket\r\nUpgrade: websocket"}),
        ("", {"Content_Length": "5"}),
    ],
)
async def test_improper_handshake_gets_400(gateway: Gateway, drop: str, headers: dict[str, str]) -> None:
    assert await status_of(gateway.url, handshake(gateway.url, drop=drop, **headers)) == 400


async def test_upgrade_in_http_1_0_is_refused(gateway: Gateway) -> None:
    """RFC 6455 §4.2.1."""
    assert await status_of(gateway.url, handshake(gateway.url).replace(b"HTTP/1.1", b"HTTP/1.0")) == 400


@on_both_transports
async def test_message_in_the_handshakes_packet_is_not_lost(gateway: Gateway) -> None:
    hello = json.dumps({"type": "connect", "id": 1, "token": gateway.auth.token("owner")}).encode()
    async with raw_socket(gateway.url, early=client_frame(hello)) as raw:
        opcode, payload = await raw.frame()

    assert opcode == Opcode.TEXT
    assert json.loads(payload)["type"] == "connection.ack"


async def test_aiohttp_holds_nothing_of_a_connection_after_the_handover(gateway: Gateway) -> None:
    """This fails if a release of aiohttp changes what the handover needs."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("owner"))
        gc.collect()
        handlers = aiohttp_handlers(gateway.url)

    assert handlers == []


@on_both_transports
async def test_websocket_ping_is_answered_with_its_payload(gateway: Gateway) -> None:
    async with raw_socket(gateway.url) as raw:
        raw.write(client_frame(b"are you there", Opcode.PING))

        assert await raw.frame() == (Opcode.PONG, b"are you there")


@on_both_transports
async def test_close_frame_is_answered_with_its_code_and_the_connection_ends(gateway: Gateway) -> None:
    async with raw_socket(gateway.url) as raw:
        raw.write(client_frame((1000).to_bytes(2, "big") + b"bye", Opcode.CLOSE))

        assert await raw.close_code() == 1000
        await raw.end()


@pytest.mark.parametrize(
    ("bytes_", "code"),
    [
        pytest.param(encode(b"{}"), 1002, id="unmasked"),
        pytest.param(client_frame(b"{}", rsv=0x40), 1002, id="reserved bit"),
        pytest.param(client_frame(b"{}", Opcode.BINARY), 1003, id="binary"),
        pytest.param(client_frame(b"\xff\xfe"), 1007, id="not UTF-8"),
        pytest.param(client_frame(b"x" * 16_385), 4413, id="too large"),
        pytest.param(client_frame((1005).to_bytes(2, "big"), Opcode.CLOSE), 1002, id="close 1005"),
        pytest.param(client_frame(b"{"), 4400, id="no JSON before connect"),
        pytest.param(client_frame(b'{"type":"ping","id":1}'), 4400, id="ping before connect"),
        pytest.param(client_frame(b'{"type":"connect"}'), 4400, id="connect without id"),
    ],
)
async def test_frames_that_break_the_protocol_close_with_the_code_of_the_specification(
    gateway: Gateway, bytes_: bytes, code: int
) -> None:
    async with raw_socket(gateway.url) as raw:
        raw.write(bytes_)

        assert await raw.close_code() == code


@on_both_transports
async def test_socket_that_never_sends_connect_is_closed_with_4408(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth, connect_timeout_s=1) as gateway, raw_socket(gateway.url) as raw:
        assert await raw.close_code() == 4408


@on_both_transports
async def test_client_that_answers_no_ping_is_closed_and_leaves_its_rooms(stream: NatsServer, auth: FakeAuth) -> None:
    async with running_gateway(stream, auth, heartbeat_s=1) as gateway, raw_socket(gateway.url) as raw:
        hello = {"type": "connect", "id": 1, "token": auth.token("owner"), "rooms": ["campaign:c1"]}
        raw.write(client_frame(json.dumps(hello).encode()))
        await raw.end()

        assert "beaconfire_gateway_rooms 0.0" in await gateway.metrics()


@on_both_transports
async def test_closed_session_gets_no_further_event(gateway: Gateway) -> None:
    async with raw_socket(gateway.url) as raw:
        hello = {"type": "connect", "id": 1, "token": gateway.auth.token("owner"), "rooms": ["campaign:c1"]}
        raw.write(client_frame(json.dumps(hello).encode()) + client_frame(b"\xff"))
        await gateway.publish(settlement())
        frames = []
        while (frame := await raw.frame())[0] != Opcode.CLOSE:
            frames.append(json.loads(frame[1])["type"])

    assert "event" not in frames
