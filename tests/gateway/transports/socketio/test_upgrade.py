"""A client that polls goes over to a WebSocket, at the process that has its connection and at another one."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.fanout.entry import Entry
from beaconfire_gateway.fanout.route import Route
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from tests.gateway.core import SUBSCRIPTION
from tests.gateway.engine_processes import EngineProcess, PollingClient, engine_process, polling_client
from tests.gateway.engines import WordsConnection


@pytest.fixture(name="process", params=["handover", "aiohttp"])
async def _process(request: pytest.FixtureRequest, stream: NatsServer) -> AsyncIterator[EngineProcess]:
    """A process whose WebSockets are on sockets of ours, and one where they are aiohttp's."""
    async with engine_process(stream, Limits(heartbeat_s=2), transport=request.param) as process:
        yield process


@pytest.fixture(name="client")
async def _client(process: EngineProcess) -> AsyncIterator[PollingClient]:
    async with polling_client(process) as client:
        await client.open()
        yield client


async def upgraded(client: PollingClient, socket: aiohttp.ClientWebSocketResponse) -> None:
    """Go over to a WebSocket as a client does."""
    await socket.send_str("2probe")
    assert await socket.receive_str() == "3probe"
    await socket.send_str("5")


async def test_client_goes_over_to_a_websocket(process: EngineProcess, client: PollingClient) -> None:
    """Its poll is ended by a noop, and its connection is counted once."""
    carrier = process.polling.carriers[client.sid]
    poll = asyncio.create_task(client.get())
    while not carrier.is_polled:
        await asyncio.sleep(0)
    async with client.websocket() as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        assert await poll == (200, "6")
        await socket.send_str("5")
        await socket.send_str("4hello")
        assert await socket.receive_str() == "4hello"
        assert sum(process.core.door.addresses.values()) == 1
        assert (await client.get())[0] == 400
        assert (await client.post("4a"))[0] == 400

    while process.core.door.addresses:
        await asyncio.sleep(0)


async def test_what_was_not_polled_comes_over_the_websocket_first(client: PollingClient) -> None:
    """A client sends its first messages right behind the packet that ends polling."""
    await client.post("4a\x1e4b")
    async with client.websocket() as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        for packet in ("5", "4c", "4d"):
            await socket.send_str(packet)
        heard = [await socket.receive_str() for _ in range(4)]

    assert heard == ["4a", "4b", "4c", "4d"]


async def test_polls_wait_a_moment_at_most_while_a_websocket_is_tried_out(client: PollingClient) -> None:
    """A client may poll once more before it has read the answer to its probe."""
    async with client.websocket() as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        assert await client.get() == (200, "6")
        await client.post("4a")
        assert await client.get() == (200, "4a")


async def test_client_whose_websocket_fails_polls_on(process: EngineProcess, client: PollingClient) -> None:
    """It may try another one."""
    carrier = process.polling.carriers[client.sid]
    async with client.websocket() as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
    while carrier.is_upgrading:
        await asyncio.sleep(0)
    await client.post("4a")
    assert await client.get() == (200, "4a")
    async with client.websocket() as socket:
        await upgraded(client, socket)
        await socket.send_str("4b")
        assert await socket.receive_str() == "4b"


@pytest.mark.parametrize("packet", ["4a", "2", "3probe", "5", "abc"])
async def test_websocket_that_does_not_begin_with_a_probe_is_closed(client: PollingClient, packet: str) -> None:
    """The connection polls on."""
    async with client.websocket() as socket:
        await socket.send_str(packet)
        closed = await socket.receive()
    await client.post("4a")

    assert (closed.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1002)
    assert await client.get() == (200, "4a")


async def test_second_websocket_at_a_time_is_closed(client: PollingClient) -> None:
    """The first one goes on."""
    async with client.websocket() as first, client.websocket() as second:
        await first.send_str("2probe")
        assert await first.receive_str() == "3probe"
        await second.send_str("2probe")
        assert (await second.receive()).type is aiohttp.WSMsgType.CLOSE
        await first.send_str("5")
        await first.send_str("4a")
        assert await first.receive_str() == "4a"


async def test_websocket_with_an_unknown_sid_is_refused(client: PollingClient) -> None:
    """Also with one whose connection has gone over already."""
    async with client.websocket() as socket:
        await upgraded(client, socket)
        await socket.send_str("4a")
        assert await socket.receive_str() == "4a"
        for sid in (client.sid, "x"):
            with pytest.raises(aiohttp.WSServerHandshakeError, match="400"):
                async with client.websocket(sid=sid):
                    pass


async def test_websocket_that_is_tried_out_for_too_long_is_closed(
    process: EngineProcess, client: PollingClient
) -> None:
    """The connection polls on."""
    async with client.websocket() as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        for _ in range(12):
            process.turn()
            await client.get()
            await client.post("3")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    await client.post("4a")

    assert await client.get() == (200, "4a")


async def test_closing_gateway_closes_a_websocket_that_is_tried_out(
    process: EngineProcess, client: PollingClient
) -> None:
    """As any other connection."""
    async with client.websocket() as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        process.core.close_all(BeaconfireError(errors.UNAVAILABLE, "going away"))
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE

    while not process.core.is_empty:
        await asyncio.sleep(0)


async def test_upgrade_in_the_middle_of_a_burst_loses_and_repeats_nothing(stream: NatsServer) -> None:
    """Events come before, while and after the client goes over: each arrives once, in order."""
    async with engine_process(stream, None, WordsConnection) as process, polling_client(process) as client:
        core = process.core
        core.begin("e", 0)
        await client.open()
        await client.post("4connect a e:0 campaign:c1")
        heard = offsets((await client.get())[1].split("\x1e"))
        carrier = process.polling.carriers[client.sid]
        burst = asyncio.create_task(deliver_all(core, 2_000))
        async with client.websocket() as socket:
            for _ in range(3):
                heard += offsets((await client.get())[1].split("\x1e"))
            await socket.send_str("2probe")
            while not carrier.is_upgrading:
                heard += offsets((await client.get())[1].split("\x1e"))
            assert await socket.receive_str() == "3probe"
            assert 0 < len(heard) < 2_000
            assert not burst.done()
            await socket.send_str("5")
            while len(heard) < 2_000:
                heard += offsets([await socket.receive_str()])
        await burst

    assert heard == list(range(1, 2_001))


async def deliver_all(core: Core, count: int) -> None:
    for offset in range(1, count + 1):
        entry = Entry(offset, Route("campaign.c1.state", (SUBSCRIPTION.room,)), b"x" * 1_000, 0.0, type="t")
        core.ring.append(entry)
        core.outbound.put(offset, entry)
        core.reach(offset)
        if not offset % 10:
            await asyncio.sleep(0.001)


def offsets(packets: list[str]) -> list[int]:
    """Those of the events among these packets."""
    return [int(one[1:].split()[0]) for one in packets if one[1:2].isdigit()]
