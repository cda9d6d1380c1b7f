"""`beaconfire.v1.msgpack`: events with bytes, and frames that are no messages. `test_every_way` has all other cases."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.catalogue_store import CatalogueStore
from tests.conftest import connected
from tests.fakes import FakeAuth
from tests.gateway.catalogues import pictures
from tests.gateway.conftest import Gateway, on_both_transports, running_gateway
from tests.gateway.events import BODY
from tests.javascript import install_from_lock, node

NODE = Path(__file__).parents[2] / "msgpack"
BYTES = bytes(range(256))
TEXT = base64.b64encode(BYTES).decode()
PAYLOAD = {"pictureId": "p1", "thumbnail": TEXT, "title": TEXT, "tiles": [{"data": TEXT}, {"data": None}]}
WITH_BYTES = {"pictureId": "p1", "thumbnail": BYTES, "title": TEXT, "tiles": [{"data": BYTES}, {"data": None}]}
TOO_DEEP = b"\x91" * 10_000 + b"\x90"


@pytest.fixture(name="gateway")
async def _gateway(stream: NatsServer, auth: FakeAuth) -> AsyncIterator[Gateway]:
    """A gateway that knows events with pictures."""
    async with connected(stream, "catalogue") as nc:
        await CatalogueStore(nc).push([pictures()], by="test")
    async with running_gateway(stream, auth) as gateway:
        yield gateway


class Client:
    """A client that sends and reads MessagePack."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, message: object) -> None:
        await self.socket.send_bytes(msgspec.msgpack.encode(message))

    async def next(self, kind: str) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = msgspec.msgpack.decode(await self.socket.receive_bytes(timeout=20))
            if message["type"] == kind:
                return message


@pytest.fixture(name="client")
async def _client(gateway: Gateway) -> AsyncIterator[Client]:
    """A connection that has not sent anything."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{gateway.url}/ws", protocols=["beaconfire.v1.msgpack"]) as socket,
    ):
        yield Client(socket)


async def connect(client: Client, gateway: Gateway, **fields: object) -> dict[str, Any]:
    token = gateway.auth.token("viewer")
    await client.send({"type": "connect", "id": 1, "token": token, "rooms": ["campaign:c1"], **fields})
    return await client.next("connection.ack")


async def show(gateway: Gateway) -> None:
    body = {**BODY, "type": "picture.shown", "payload": PAYLOAD}
    await gateway.publisher.jetstream().publish("campaign.c1.picture.p1", json.dumps(body).encode())


@on_both_transports
async def test_fields_that_the_catalogue_declares_as_base64_are_bytes(gateway: Gateway, client: Client) -> None:
    """Live, resumed and restored. A text that only looks like base64 stays a text."""
    start = (await connect(client, gateway))["cursor"]
    await show(gateway)
    live = await client.next("event")
    await client.send({"type": "subscribe", "id": 2, "rooms": ["campaign:c1"], "cursor": start})
    [restored] = (await client.next("restored"))["events"]

    assert live["event"]["payload"] == WITH_BYTES
    assert restored == live


async def test_clients_of_the_json_protocol_get_the_same_event_in_base64(gateway: Gateway) -> None:
    url, protocols = f"{gateway.url}/ws", ["beaconfire.v1"]
    async with aiohttp.ClientSession() as http, http.ws_connect(url, protocols=protocols) as one:
        hello = {"type": "connect", "id": 1, "token": gateway.auth.token("viewer"), "rooms": ["campaign:c1"]}
        await one.send_json(hello)
        await one.receive_json(timeout=20)
        await show(gateway)
        event = await one.receive_json(timeout=20)

    assert event["event"]["payload"] == PAYLOAD


@on_both_transports
@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\x81\xa4type",
        b"\x93\x01\x02\x03",
        b"\xa5hello",
        b"\xc7\x01\x05\x00",
        TOO_DEEP,
        b"\x81\xa1x" + TOO_DEEP,
        msgspec.msgpack.encode({"type": "ping", "id": b"bytes"}),
        msgspec.msgpack.encode({"type": "ping", "id": msgspec.msgpack.Ext(5, b"x")}),
        msgspec.msgpack.encode({1: "ping"}),
        b"\x81\xa4type\xa2\xff\xfe",
    ],
    ids=[
        "unused byte",
        "cut",
        "list",
        "text",
        "extension",
        "deep",
        "deep map",
        "bytes",
        "extension in a map",
        "number as a key",
        "bad UTF-8",
    ],
)
async def test_frame_that_is_no_message_gets_an_error_and_the_connection_stays(
    gateway: Gateway, client: Client, data: bytes
) -> None:
    await connect(client, gateway)
    await client.socket.send_bytes(data)
    error = await client.next("error")
    await client.send({"type": "ping", "id": 7})

    assert error["code"] == "bad_request"
    assert "Traceback" not in error["message"]
    assert (await client.next("reply"))["id"] == 7


@on_both_transports
async def test_text_frame_ends_the_connection_with_1003(gateway: Gateway, client: Client) -> None:
    await connect(client, gateway)
    await client.socket.send_str('{"type": "ping", "id": 1}')
    closed = await client.socket.receive(timeout=20)

    assert closed.type is aiohttp.WSMsgType.CLOSE
    assert closed.data == 1003


async def test_invalid_first_message_is_closed_with_4400(client: Client) -> None:
    await client.socket.send_bytes(b"\xc1")
    closed = await client.socket.receive(timeout=20)

    assert closed.data == 4400


async def test_client_of_the_npm_package_gets_bytes_and_resumes(gateway: Gateway) -> None:
    """`@msgpack/msgpack` reads what the gateway sends, and the gateway reads what it sends."""
    install_from_lock(NODE)
    token = gateway.auth.token("viewer")

    async def run(*arguments: str) -> list[dict[str, Any]]:
        program = [node(), str(NODE / "client.mjs"), gateway.url.replace("http", "ws"), token, "campaign:c1", "1"]
        process = await asyncio.create_subprocess_exec(*program, *arguments, stdout=asyncio.subprocess.PIPE)
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        return [json.loads(line) for line in out.splitlines()]

    hearing = asyncio.create_task(run())
    while (await gateway.stats())["clients"] != 1:
        pass
    await show(gateway)
    live = await hearing
    resumed = await run(live[0]["cursor"])

    [event] = [one for one in live if one["type"] == "event"]
    assert event["event"]["payload"]["thumbnail"] == {"bytes": list(BYTES)}
    assert event["event"]["payload"]["title"] == TEXT
    assert [one for one in resumed if one["type"] == "event"] == [event]
