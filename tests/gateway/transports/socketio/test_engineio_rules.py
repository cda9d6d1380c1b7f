"""The rules of Engine.IO 4 that its published test suite checks, one by one, against an application that echoes.

https://github.com/socketio/socket.io/tree/main/docs/engine.io-protocol
"""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from beaconfire_gateway.sessions.limits import Limits
from tests.gateway.engine_processes import PATH, EngineProcess, PollingClient, polling_client
from tests.socketio.clients import RawClient, raw_client

KEYS = {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}


@pytest.fixture(name="polling")
async def _polling(process: EngineProcess) -> AsyncIterator[PollingClient]:
    """A client that has connected by polling."""
    async with polling_client(process) as client:
        await client.open()
        yield client


@pytest.fixture(name="socket")
async def _socket(process: EngineProcess) -> AsyncIterator[RawClient]:
    """A client that has connected by a WebSocket, and has read the open packet."""
    async with raw_client(process.url, path=PATH) as client:
        await client.hear_that("0")
        yield client


async def until_pinged(process: EngineProcess, client: RawClient) -> None:
    """Let time pass until the next packet, which must be a ping."""
    hearing = asyncio.ensure_future(client.hear())
    while not hearing.done():
        process.turn()
        await asyncio.wait((hearing,), timeout=0.05)
    assert hearing.result() == "2"


class TestHandshake:
    async def test_polling_opens_a_session(self, process: EngineProcess) -> None:
        async with polling_client(process) as client:
            packet = await client.open()

        assert packet[0] == "0"
        handshake = json.loads(packet[1:])
        assert handshake.keys() == KEYS
        assert (handshake["upgrades"], handshake["pingInterval"], handshake["pingTimeout"]) == (
            ["websocket"],
            2000,
            2000,
        )
        assert handshake["maxPayload"] == Limits().max_frame_bytes

    async def test_websocket_opens_a_session(self, process: EngineProcess) -> None:
        async with raw_client(process.url, path=PATH) as client:
            packet = await client.hear_that("0")

        handshake = json.loads(packet[1:])
        assert handshake.keys() == KEYS
        assert (handshake["upgrades"], handshake["pingInterval"], handshake["pingTimeout"]) == ([], 2000, 2000)

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("transport=polling", 5),
            ("EIO=abc&transport=polling", 5),
            ("EIO=3&transport=polling", 5),
            ("EIO=4", 0),
            ("EIO=4&transport=abc", 0),
            ("EIO=4&transport=constructor", 0),
            ("EIO=4&transport=polling&sid=unknown", 1),
        ],
    )
    async def test_invalid_query_is_refused(self, process: EngineProcess, query: str, code: int) -> None:
        url = f"{process.url}{PATH}?{query}"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, code)

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    async def test_other_method_is_refused(self, process: EngineProcess, method: str, transport: str) -> None:
        url = f"{process.url}{PATH}?EIO=4&transport={transport}"
        async with aiohttp.ClientSession() as http, http.request(method, url) as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, 2)

    @pytest.mark.parametrize(
        "query", ["transport=websocket", "EIO=abc&transport=websocket", "EIO=4", "EIO=4&transport=abc"]
    )
    async def test_websocket_with_an_invalid_query_is_refused(self, process: EngineProcess, query: str) -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with raw_client(process.url, query, path=PATH):
                pass

        assert refused.value.status == 400


class TestMessages:
    @pytest.mark.parametrize("payload", ["4hello", "4test1\x1e4test2\x1e4test3", "4hello\x1ebAQIDBA=="])
    async def test_polling_sends_and_receives(self, polling: PollingClient, payload: str) -> None:
        assert await polling.post(payload) == (200, "ok")
        assert await polling.get() == (200, payload)

    async def test_polling_ends_the_session_after_an_invalid_packet(self, polling: PollingClient) -> None:
        assert (await polling.post("abc"))[0] == 400
        assert (await polling.get())[0] == 400

    async def test_polling_ends_the_session_after_a_second_poll_at_a_time(
        self, process: EngineProcess, polling: PollingClient
    ) -> None:
        carrier = process.carrier(polling.sid)
        first = asyncio.create_task(polling.get())
        while not carrier.is_polled:
            await asyncio.sleep(0)
        second = await polling.get(t="burst")

        assert await first == (200, "1")
        assert second[0] == 400
        assert (await polling.get())[0] == 400

    async def test_polling_ends_the_session_after_a_cancelled_poll(
        self, process: EngineProcess, polling: PollingClient
    ) -> None:
        carrier = process.carrier(polling.sid)
        poll = asyncio.create_task(polling.get())
        while not carrier.is_polled:
            await asyncio.sleep(0)
        poll.cancel()
        while process.carriers.get(polling.sid) is not None:
            await asyncio.sleep(0)

        assert (await polling.get())[0] == 400

    @pytest.mark.parametrize("packet", ["4hello", b"\x01\x02\x03\x04"])
    async def test_websocket_sends_and_receives(self, socket: RawClient, packet: str | bytes) -> None:
        await socket.say(packet)
        assert await socket.hear() == packet

    async def test_websocket_is_closed_after_an_invalid_packet(self, socket: RawClient) -> None:
        await socket.say("abc")
        assert await socket.closed() == 1002


class TestHeartbeat:
    async def test_polling_exchanges_pings_and_pongs(self, process: EngineProcess, polling: PollingClient) -> None:
        for _ in range(3):
            poll = asyncio.create_task(polling.get())
            while not poll.done():
                process.turn()
                await asyncio.wait((poll,), timeout=0.05)
            assert poll.result() == (200, "2")
            assert await polling.post("3") == (200, "ok")

    async def test_polling_ends_the_session_of_a_silent_client(
        self, process: EngineProcess, polling: PollingClient
    ) -> None:
        process.turn(8)
        assert (await polling.get())[0] == 400

    async def test_websocket_exchanges_pings_and_pongs(self, process: EngineProcess, socket: RawClient) -> None:
        for _ in range(3):
            await until_pinged(process, socket)
            await socket.say("3", "4heard")
            assert await socket.hear() == "4heard"

    async def test_websocket_of_a_silent_client_is_closed(self, process: EngineProcess, socket: RawClient) -> None:
        process.turn(8)
        assert await socket.closed() == 1006


class TestClose:
    async def test_polling_ends_the_session(self, process: EngineProcess, polling: PollingClient) -> None:
        carrier = process.carrier(polling.sid)
        poll = asyncio.create_task(polling.get())
        while not carrier.is_polled:
            await asyncio.sleep(0)

        assert await polling.post("1") == (200, "ok")
        assert await poll == (200, "6")
        assert (await polling.get())[0] == 400

    async def test_websocket_is_closed(self, socket: RawClient) -> None:
        await socket.say("1")
        assert await socket.closed() == 1000


class TestUpgrade:
    async def test_polling_client_goes_over_to_a_websocket(self, polling: PollingClient) -> None:
        async with polling.websocket() as socket:
            await socket.send_str("2probe")
            assert await socket.receive_str() == "3probe"
            assert await polling.get() == (200, "6")
            await socket.send_str("5")
            await socket.send_str("4hello")
            assert await socket.receive_str() == "4hello"

    async def test_requests_with_its_sid_are_refused_afterwards(self, polling: PollingClient) -> None:
        async with polling.websocket() as socket:
            await socket.send_str("2probe")
            assert await socket.receive_str() == "3probe"
            await socket.send_str("5")
            await socket.send_str("4over")
            assert await socket.receive_str() == "4over"

            assert (await polling.get())[0] == 400
            with pytest.raises(aiohttp.WSServerHandshakeError):
                async with polling.websocket():
                    pass
            await socket.send_str("4hello")
            assert await socket.receive_str() == "4hello"
