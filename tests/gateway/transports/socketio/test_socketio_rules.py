"""The rules of Socket.IO 5 that its published test suite checks, one by one, against an application that echoes.

https://github.com/socketio/socket.io/tree/main/docs/socket.io-protocol
The rules of Engine.IO, which that suite repeats, are in `test_engineio_rules`.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.sessions.limits import Limits
from tests.gateway.engine_processes import PATH, EngineProcess, engine_process
from tests.gateway.socketio_echo import echo_connection
from tests.socketio.clients import RawClient, raw_client


@pytest.fixture(name="process", params=["handover", "aiohttp"])
async def _process(request: pytest.FixtureRequest, stream: NatsServer) -> AsyncIterator[EngineProcess]:
    async with engine_process(stream, Limits(heartbeat_s=2), echo_connection, transport=request.param) as process:
        yield process


@pytest.fixture(name="socket")
async def _socket(process: EngineProcess) -> AsyncIterator[RawClient]:
    """A client without a namespace. It has read the open packet."""
    async with raw_client(process.url, path=PATH) as client:
        await client.hear_that("0")
        yield client


@pytest.fixture(name="client")
async def _client(socket: RawClient) -> RawClient:
    """A client in the main namespace."""
    await socket.say("40")
    await socket.hear_that("40")
    assert await socket.hear() == '42["auth",{}]'
    return socket


class TestConnect:
    @pytest.mark.parametrize(
        ("packet", "start", "auth"),
        [
            ("40", "40", '42["auth",{}]'),
            ('40{"token":"123"}', "40", '42["auth",{"token":"123"}]'),
            ("40/custom,", "40/custom,", '42/custom,["auth",{}]'),
            ('40/custom,{"token":"abc"}', "40/custom,", '42/custom,["auth",{"token":"abc"}]'),
        ],
    )
    async def test_client_is_let_into_a_namespace(self, socket: RawClient, packet: str, start: str, auth: str) -> None:
        await socket.say(packet)

        welcome = await socket.hear_that(start)
        handshake = json.loads(welcome.removeprefix(start))
        assert handshake.keys() == {"sid"}
        assert isinstance(handshake["sid"], str)
        assert await socket.hear() == auth

    async def test_unknown_namespace_is_refused(self, socket: RawClient) -> None:
        await socket.say("40/random")
        assert await socket.hear() == '44/random,{"message":"Invalid namespace"}'

    @pytest.mark.parametrize("packet", ["4abc", '42["before connect"]', "41", "43[]", "40[]", '40"token"'])
    async def test_invalid_first_packet_closes_the_connection(self, socket: RawClient, packet: str) -> None:
        await socket.say(packet)
        assert await socket.closed() == 1002

    async def test_client_that_does_not_connect_is_closed(self, stream: NatsServer) -> None:
        limits = Limits(connect_timeout_s=1)
        async with (
            engine_process(stream, limits, echo_connection) as process,
            raw_client(process.url, path=PATH) as socket,
        ):
            await socket.hear_that("0")
            process.turn(4)
            assert await socket.closed() == 4408


class TestDisconnect:
    async def test_client_that_left_the_main_namespace_is_pinged_on(
        self, process: EngineProcess, client: RawClient
    ) -> None:
        await client.say("41")
        while process.core.hub.sessions:
            await asyncio.sleep(0)
        process.turn(3)
        assert await client.hear() == "2"

    async def test_other_namespaces_go_on(self, client: RawClient) -> None:
        await client.say("40/custom")
        await client.hear_that("40/custom")
        await client.hear_that("42/custom")
        await client.say("41/custom", '42["message","message to main namespace"]')

        assert await client.hear() == '42["message-back","message to main namespace"]'

    async def test_namespace_may_be_entered_again(self, client: RawClient) -> None:
        await client.say("41", '40{"again":true}')
        await client.hear_that("40")
        assert await client.hear() == '42["auth",{"again":true}]'


class TestMessages:
    async def test_event_comes_with_its_arguments(self, client: RawClient) -> None:
        await client.say('42["message",1,"2",{"3":[true]}]')
        assert await client.hear() == '42["message-back",1,"2",{"3":[true]}]'

    async def test_event_comes_with_its_attachments(self, client: RawClient) -> None:
        arguments = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]'
        await client.say(f'452-["message",{arguments}', b"\x01\x02\x03", b"\x04\x05\x06")

        assert [await client.hear() for _ in range(3)] == [
            f'452-["message-back",{arguments}',
            b"\x01\x02\x03",
            b"\x04\x05\x06",
        ]

    async def test_event_is_acknowledged(self, client: RawClient) -> None:
        await client.say('42456["message-with-ack",1,"2",{"3":[false]}]')
        assert await client.hear() == '43456[1,"2",{"3":[false]}]'

    async def test_event_with_attachments_is_acknowledged(self, client: RawClient) -> None:
        arguments = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]'
        await client.say(f'452-789["message-with-ack",{arguments}', b"\x01\x02\x03", b"\x04\x05\x06")

        assert [await client.hear() for _ in range(3)] == [
            f"462-789[{arguments}",
            b"\x01\x02\x03",
            b"\x04\x05\x06",
        ]

    @pytest.mark.parametrize(
        "packets",
        [
            ("4abc",),
            ("42{}",),
            ("42[]",),
            ('42abc["message-with-ack",1,"2",{"3":[false]}]',),
            ("40",),
            ('44{"message":"no"}',),
            (b"\x01",),
            ('451-["message",{"_placeholder":true,"num":0}]', '42["message"]'),
            ('42/custom,["message"]',),
        ],
        ids=repr,
    )
    async def test_invalid_packet_closes_the_connection(self, client: RawClient, packets: tuple[str | bytes]) -> None:
        await client.say(*packets)
        assert await client.closed() == 1002
