"""A client that polls goes over to a WebSocket, at the process that has its connection and at another one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType
from nats.aio.msg import Msg

from beaconfire.nats_server import NatsServer
from beaconfire_gateway.sessions.gateway import Gateway as Core
from beaconfire_gateway.sessions.limits import Limits
from beaconfire_gateway.transports.relay import FOREIGN
from beaconfire_kit import broker, errors
from beaconfire_kit.errors import BeaconfireError
from tests.conftest import connected
from tests.gateway.core import deliver
from tests.gateway.engine_processes import EngineProcess, PollingClient, engine_process, polling_client
from tests.gateway.engines import WordsConnection


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
    carrier = process.carrier(client.sid)
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
    carrier = process.carrier(client.sid)
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


@pytest.mark.parametrize("count", [1, 2], ids=["same process", "another process"])
async def test_upgrade_in_the_middle_of_a_burst_loses_and_repeats_nothing(stream: NatsServer, count: int) -> None:
    """Events come before, while and after the client goes over: each arrives once, in order."""
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(engine_process(stream, None, WordsConnection)) for _ in range(count)
        ]
        client = await stack.enter_async_context(polling_client(*processes))
        cores = [process.core for process in processes]
        for core in cores:
            core.begin("e", 0)
        await client.open()
        await client.post("4connect a e:0 campaign:c1")
        heard = offsets((await client.get())[1].split("\x1e"))
        carrier = processes[0].carrier(client.sid)
        burst = asyncio.create_task(deliver_all(cores, 2_000))
        while not heard:
            heard += offsets((await client.get())[1].split("\x1e"))
        client.go_to(count - 1)
        socket = await stack.enter_async_context(client.websocket())
        await socket.send_str("2probe")
        while not carrier.is_upgrading:
            heard += offsets((await client.get())[1].split("\x1e"))
        assert await socket.receive_str() == "3probe"
        assert not burst.done()
        await socket.send_str("5")
        while len(heard) < 2_000:
            heard += offsets([await socket.receive_str()])
        await burst

    assert heard == list(range(1, 2_001))


@pytest.fixture(name="two")
async def _two(stream: NatsServer) -> AsyncIterator[list[EngineProcess]]:
    """Two processes with clients of `WordsConnection`."""
    async with (
        engine_process(stream, None, WordsConnection) as first,
        engine_process(stream, None, WordsConnection) as second,
    ):
        for process in (first, second):
            process.core.begin("e", 0)
        yield [first, second]


@pytest.fixture(name="moving")
async def _moving(two: list[EngineProcess]) -> AsyncIterator[PollingClient]:
    """A client that polls at the first of two processes, in a room. Its next request goes to the second."""
    async with polling_client(*two) as client:
        await client.open()
        await client.post("4connect a e:0 campaign:c1")
        assert (await client.get())[1].startswith("4connection.ack")
        client.go_to(1)
        yield client


async def test_session_goes_on_at_another_process_as_the_same(two: list[EngineProcess], moving: PollingClient) -> None:
    """It has its id, its user and its rooms there, and nothing of it is left at the first one."""
    before = two[0].carrier(moving.sid).engine.sessions[0]
    known = (before.id, before.user_id, dict(before.rooms))
    async with moving.websocket() as socket:
        await upgraded(moving, socket)
        await socket.send_str("4subscribe e:0 campaign:c2")
        assert await socket.receive_str() == "4reply"
        (after,) = two[1].core.hub.sessions_of("a")
        assert (after.id, after.user_id, {"campaign:c1": known[2]["campaign:c1"]}) == (*known[:2], known[2])
        assert set(after.rooms) == {"campaign:c1", "campaign:c2"}
        assert two[0].core.is_empty
        assert not two[0].core.door.addresses
        assert sum(two[1].core.door.addresses.values()) == 1
        assert (await moving.get())[0] == 400

    while not two[1].core.is_empty:
        await asyncio.sleep(0)
    assert not two[1].core.door.addresses


async def test_client_that_sends_its_connect_while_it_tries_out_a_websocket_goes_over(two: list[EngineProcess]) -> None:
    """As `socket.io-client` does: its token is being verified when the probe arrives."""
    async with polling_client(*two) as client:
        await client.open()
        client.go_to(1)
        async with client.websocket() as socket:
            await socket.send_str("2probe")
            assert (await client.post("4connect a e:0 campaign:c1"))[0] == 200
            assert await socket.receive_str() == "3probe"
            await socket.send_str("5")
            assert await socket.receive_str() == "4connection.ack"
        assert await is_gone(two)


@pytest.mark.parametrize(
    ("limits", "user"),
    [(Limits(max_sessions_per_user=1), "a"), (Limits(max_sessions_per_address=1), "b")],
    ids=["of the user", "of the address"],
)
async def test_client_over_a_limit_of_the_other_process_polls_on(stream: NatsServer, limits: Limits, user: str) -> None:
    """Its WebSocket is closed before it goes over. Another client is at the limit there."""
    async with AsyncExitStack() as stack:
        having, full = [
            await stack.enter_async_context(engine_process(stream, one, WordsConnection)) for one in (Limits(), limits)
        ]
        for process in (having, full):
            process.core.begin("e", 0)
        client = await stack.enter_async_context(polling_client(having, full))
        other = await stack.enter_async_context(polling_client(full))
        for one, name in ((client, "a"), (other, user)):
            await one.open()
            one.go_to(0)
            await one.post(f"4connect {name} e:0")
            one.go_to(0)
            assert (await one.get())[1].startswith("4connection.ack")
        client.go_to(1)
        async with client.websocket() as socket:
            await socket.send_str("2probe")
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        carrier = having.carrier(client.sid)
        while carrier.is_upgrading:
            await asyncio.sleep(0)

        assert carrier.engine.sessions[0].user_id == "a"


async def test_no_client_goes_over_to_a_process_that_stops(two: list[EngineProcess], moving: PollingClient) -> None:
    """It would have to leave again soon. It polls on where it is."""
    two[1].core.send_goaways(10, 0.0)
    async with moving.websocket() as socket:
        await socket.send_str("2probe")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE

    assert not two[0].carrier(moving.sid).is_upgrading
    assert two[0].carrier(moving.sid).is_open


async def test_client_whose_process_dies_while_it_goes_over_is_closed(
    stream: NatsServer, two: list[EngineProcess]
) -> None:
    """It connects again, and is sent what it missed."""
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(engine_process(stream, None, WordsConnection))
        process.core.begin("e", 0)
        client = await stack.enter_async_context(polling_client(process, two[0]))
        await client.open()
        await client.post("4connect a e:0")
        client.go_to(1)
        socket = await stack.enter_async_context(client.websocket())
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        await process.cut_off()
        await socket.send_str("5")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_sid_is_in_no_log_line(
    two: list[EngineProcess], moving: PollingClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """T3: who knows it can take the connection over. It stays secret when requests fail, and when it moves."""
    await moving.post("abc", sid=moving.sid[:-1])
    await moving.get(sid=moving.sid[:-1])
    await moving.post("3")
    moving.go_to(1)
    async with moving.websocket() as socket:
        await upgraded(moving, socket)
        await socket.send_str("4subscribe e:0 campaign:c2")
        assert await socket.receive_str() == "4reply"
        await moving.get()
        await moving.post("4a")
        await socket.send_str("nonsense")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    assert await is_gone(two)

    logged = capsys.readouterr().out
    assert "goes on here" in logged
    assert moving.sid.partition(".")[2][12:] not in logged


async def test_messages_of_a_stranger_with_a_gateways_password_move_no_session(
    stream: NatsServer, two: list[EngineProcess], moving: PollingClient
) -> None:
    """T11: what processes say to each other about a connection is sealed with its sid, which is never sent."""
    process_id, _, rest = moving.sid.partition(".")
    heard: list[bytes] = []
    async with connected(stream, "gateway") as rogue:
        listening = await rogue.subscribe(f"{broker.GATEWAY_PREFIX}>", cb=_keeping(heard))
        await moving.post("4subscribe e:0 campaign:c3")
        before = FOREIGN._value.get()
        inbox = f"{broker.GATEWAY_PREFIX}{'f' * 16}.answer.{'f' * 32}"
        for call in ("poll", "post", "upgrade", "move"):
            await rogue.publish(
                f"{broker.GATEWAY_PREFIX}{process_id}.ask.{call}", rest[:12].encode() + b"x" * 40, inbox
            )
        while FOREIGN._value.get() < before + 4:
            await asyncio.sleep(0)
        await listening.unsubscribe()
        await rogue.flush()

    assert two[0].carrier(moving.sid).engine.sessions[0].user_id == "a"
    assert heard
    assert not [one for one in heard if rest.encode() in one or b"subscribe" in one]


class LostWhilePacked(WordsConnection):
    """Its client leaves while it waits for the answer to a request, before it goes over."""

    async def pack(self) -> dict[str, Any] | None:
        self.carrier.abort()
        return await super().pack()


async def test_connection_that_is_lost_before_it_moves_leaves_the_door_once(stream: NatsServer) -> None:
    async with (
        engine_process(stream, None, LostWhilePacked) as first,
        engine_process(stream, None, LostWhilePacked) as second,
        polling_client(first, second) as client,
    ):
        for process in (first, second):
            process.core.begin("e", 0)
        await client.open()
        client.go_to(0)
        await client.post("4connect a e:0 campaign:c1")
        client.go_to(0)
        await client.get()
        client.go_to(1)
        async with client.websocket() as socket:
            await socket.send_str("2probe")
            assert await socket.receive_str() == "3probe"
            await socket.send_str("5")
            closed = await socket.receive()

        assert closed.type is WSMsgType.CLOSE
        assert first.core.door.connecting == 0
        assert not first.core.door.addresses


async def test_questions_that_a_stranger_repeats_are_not_answered_again(
    stream: NatsServer, two: list[EngineProcess], moving: PollingClient
) -> None:
    """T11: else a repeated `poll` would take events that its client never gets, and a repeated `post` a room."""
    process_id = moving.sid.partition(".")[0]
    asked: list[tuple[str, bytes]] = []

    async def keep(message: Msg) -> None:
        asked.append((message.subject, message.data))

    async with connected(stream, "gateway") as rogue:
        await rogue.subscribe(f"{broker.GATEWAY_PREFIX}{process_id}.ask.post", cb=keep)
        await rogue.flush()
        while not asked:
            assert await moving.post("4ping") == (200, "ok")
            await rogue.flush()
        taken = await moving.get()
        inbox = f"{broker.GATEWAY_PREFIX}{'f' * 16}.answer.{'f' * 32}"
        answers = await rogue.subscribe(inbox)
        subject, body = asked[0]
        await rogue.publish(subject, body, inbox)
        answer = await answers.next_msg()

    assert taken[0] == 200
    assert answer.data == b""
    assert two[0].carrier(moving.sid).kept_bytes == 0


def _keeping(heard: list[bytes]) -> Callable[[Msg], Awaitable[None]]:
    async def keep(message: Msg) -> None:
        heard.append(message.data)

    return keep


async def is_gone(processes: list[EngineProcess]) -> bool:
    """Wait until no process has a connection."""
    for process in processes:
        while not process.core.is_empty or process.core.door.addresses:
            await asyncio.sleep(0)
    return True


async def deliver_all(cores: list[Core], count: int) -> None:
    """Deliver events to every process, as the broker does."""
    for offset in range(1, count + 1):
        for core in cores:
            deliver(core, offset, b"x" * 1_000)
        if not offset % 10:
            await asyncio.sleep(0.001)


def offsets(packets: list[str]) -> list[int]:
    """Those of the events among these packets."""
    return [int(one[1:].split()[0]) for one in packets if one[1:2].isdigit()]
