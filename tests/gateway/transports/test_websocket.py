"""The WebSocket edge, with real sockets: handshake, frames, close; and what it leans on in aiohttp."""

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
async def test_hello(gateway: Gateway) -> None:
    """A client that proves who it is gets an ack with its place, its limits and an answer for each room."""
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
    }
    codes = {name: room.get("error", {}).get("code") for name, room in ack["rooms"].items()}
    assert codes == {
        "campaign:c1": None,
        "campaign:c2": "forbidden",
        "settlement:": "bad_room",
        "campaign:*": "bad_room",
    }


async def test_token_in_the_query(gateway: Gateway) -> None:
    """For clients that can send it in no other way, the token may stand in the query; a bad one there is refused."""
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
async def test_token_in_the_header(gateway: Gateway) -> None:
    """The token may come with the upgrade, as a bearer."""
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
async def test_bad_token(gateway: Gateway, token: str) -> None:
    """Whatever is wrong with a token: 4401, and the same words."""
    async with open_socket(gateway.url) as client:
        with pytest.raises(Closed) as end:
            await client.connect(token)

    assert end.value.code == 4401
    assert end.value.reason == "the token is missing, not valid, or ran out"


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
async def test_foreign_origin(stream: NatsServer, auth: FakeAuth, origin: str) -> None:
    """A page from anywhere but the allowed origins is refused before the upgrade."""
    async with running_gateway(stream, auth, allowed_origins="https://app.example") as gateway:
        status = await status_of(gateway.url, handshake(gateway.url, Origin=origin))

    assert status == 403


async def test_allowed_origins(stream: NatsServer, auth: FakeAuth) -> None:
    """A configured origin, the gateway's own, and no origin at all (not a browser) may connect; two at once may not."""
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
        ("Sec-WebSocket-Protocol", {}),
        ("", {"Sec_WebSocket_Protocol": "graphql-ws"}),
        ("", {"Sec_WebSocket_Version": "8"}),
        ("", {"Sec_WebSocket_Key": "c2hvcnQ="}),
        ("", {"Sec_WebSocket_Key": "not base64 at all!"}),
        ("", {"Upgrade": "h2c"}),
        ("", {"Upgrade": "websocket\r\nUpgrade: websocket"}),
        ("", {"Content_Length": "5"}),
    ],
)
async def test_no_handshake(gateway: Gateway, drop: str, headers: dict[str, str]) -> None:
    """What is no proper handshake is answered with 400."""
    assert await status_of(gateway.url, handshake(gateway.url, drop=drop, **headers)) == 400


async def test_http_1_0(gateway: Gateway) -> None:
    """An upgrade in HTTP/1.0 is refused (RFC 6455 §4.2.1)."""
    assert await status_of(gateway.url, handshake(gateway.url).replace(b"HTTP/1.1", b"HTTP/1.0")) == 400


@on_both_transports
async def test_early_bytes(gateway: Gateway) -> None:
    """A first message in the same packet as the handshake is not lost in the handing over."""
    hello = json.dumps({"type": "connect", "id": 1, "token": gateway.auth.token("owner")}).encode()
    async with raw_socket(gateway.url, early=client_frame(hello)) as raw:
        opcode, payload = await raw.frame()

    assert opcode == Opcode.TEXT
    assert json.loads(payload)["type"] == "connection.ack"


async def test_aiohttp_lets_go(gateway: Gateway) -> None:
    """After the handover aiohttp holds nothing of the connection: no handler, no task. Pinned to what we lean on."""
    async with open_socket(gateway.url) as client:
        await client.connect(gateway.auth.token("owner"))
        gc.collect()
        handlers = aiohttp_handlers(gateway.url)

    assert handlers == []


@on_both_transports
async def test_ping_frames(gateway: Gateway) -> None:
    """A WebSocket ping is answered with its own payload, before and after connect."""
    async with raw_socket(gateway.url) as raw:
        raw.write(client_frame(b"are you there", Opcode.PING))

        assert await raw.frame() == (Opcode.PONG, b"are you there")


@on_both_transports
async def test_close_handshake(gateway: Gateway) -> None:
    """A close frame is answered with its code, and the connection ends."""
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
async def test_refused_frames(gateway: Gateway, bytes_: bytes, code: int) -> None:
    """What breaks the protocol closes the connection with the code PROTOCOL.md gives it."""
    async with raw_socket(gateway.url) as raw:
        raw.write(bytes_)

        assert await raw.close_code() == code


@on_both_transports
async def test_silent_after_the_handshake(stream: NatsServer, auth: FakeAuth) -> None:
    """Who opens a socket and does not say connect is closed with 4408."""
    async with running_gateway(stream, auth, connect_timeout_s=1) as gateway, raw_socket(gateway.url) as raw:
        assert await raw.close_code() == 4408


@on_both_transports
async def test_no_pong(stream: NatsServer, auth: FakeAuth) -> None:
    """A client that answers no ping is freed; its user leaves the hub."""
    async with running_gateway(stream, auth, heartbeat_s=1) as gateway, raw_socket(gateway.url) as raw:
        hello = {"type": "connect", "id": 1, "token": auth.token("owner"), "rooms": ["campaign:c1"]}
        raw.write(client_frame(json.dumps(hello).encode()))
        await raw.end()

        assert "beaconfire_gateway_rooms 0.0" in await gateway.metrics()


@on_both_transports
async def test_after_close_nothing_follows(gateway: Gateway) -> None:
    """A session that was closed gets no event any more."""
    async with raw_socket(gateway.url) as raw:
        hello = {"type": "connect", "id": 1, "token": gateway.auth.token("owner"), "rooms": ["campaign:c1"]}
        raw.write(client_frame(json.dumps(hello).encode()) + client_frame(b"\xff"))
        await gateway.publish(settlement())
        frames = []
        while (frame := await raw.frame())[0] != Opcode.CLOSE:
            frames.append(json.loads(frame[1])["type"])

    assert "event" not in frames
